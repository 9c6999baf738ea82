"""Whether this cluster enforces network policies and can pull the images: pods that try it.

A pod with a run's labels and one that no policy is about listen, and each tries what the other
and a run must not reach. That something does not answer proves nothing by itself, so every
place is tried from both; the pods are known to listen.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner import models
from runner.backends.kubernetes import exec as pod_exec
from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.snapshot import Container, pod_of
from runner.backends.kubernetes.store_pod import why
from runner.backends.reach import COMMAND
from runner.errors import InfrastructureError, RunnerError
from runner.pod.layout import PORT
from runner.pod.probe import REACHED, UNKNOWN

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.cluster import Cluster

LONGEST_S = 900
"""The pods end by themselves then, if nobody removes them before."""
START_S = 120.0
PULL_S = 600.0
"""For all images together; a CUDA image is 10 GB and more."""
SETTLES_S = 6.0
"""A network plugin may take some seconds to know a new pod."""
LOOK_S = 0.2
METADATA = "169.254.169.254:80"
API = "$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
KUBELET_PORT = 10250
NAME = "kubernetes.default.svc:443"
"""A name that the cluster's DNS has."""


@dataclass(frozen=True)
class Try:
    """A place in words, and what came of trying it: from a pod as a run's, and from the other."""

    what: str
    run: str
    other: str

    @property
    def through(self) -> bool:
        """Whether what a run sends arrives there."""
        return self.run == REACHED

    @property
    def denied(self) -> bool:
        """Whether something answers there, but not to a run."""
        return self.other == REACHED and not self.through

    @property
    def silent(self) -> bool:
        """Whether nothing answers there anyhow."""
        return not (self.through or self.denied)


@dataclass(frozen=True)
class Network:
    """What was reached.

    `out` is the other pod, tried from the run's; `into` the run's pod, from the other one;
    `late_s` is how long after their start something was reached that was not any more then.
    """

    out: Try
    into: Try
    names: Try
    forbidden: tuple[Try, ...] = ()
    wanted: tuple[Try, ...] = ()
    late_s: float = 0.0

    @property
    def tight(self) -> bool:
        """Whether nothing at all gets through that is forbidden."""
        return self.enforced and not any(each.through for each in self.forbidden)

    @property
    def enforced(self) -> bool:
        """Whether policies hold in both directions."""
        return not (self.out.through or self.into.other == REACHED)


@dataclass(frozen=True)
class Pull:
    """An image, and what came of it: `ok` is None where it takes longer than was waited."""

    image: str
    ok: bool | None
    words: str = ""


@contextmanager
def pods(client: Client, cluster: Cluster) -> Iterator[Probe]:
    """The pods, which are removed when the context ends, however it does."""
    name = f"probe-{secrets.token_hex(3)}"

    def remove() -> None:
        client.delete_all("pods", labels=f"{manifests.PROBE}={name}", grace_s=0)

    try:
        for pod in manifests.probe_pods(name, cluster, seconds=LONGEST_S):
            client.create("pods", pod)
        yield Probe(client, cluster, name)
    except BaseException:
        with suppress(RunnerError):  # the first error says more; they end by themselves as well
            remove()
        raise
    remove()


class Probe:
    """Pods that were made, and what can be tried with them."""

    def __init__(self, client: Client, cluster: Cluster, name: str) -> None:
        """Nothing is tried yet."""
        self._client, self._cluster, self._name = client, cluster, name

    def network(self) -> Network:
        """Try what is forbidden and what is wanted, again while the policies may be settling.

        Raises InfrastructureError where the pods do not start in time, with the reason.
        """
        run, other = (self._started(which) for which in ("run", "other"))
        begun, late_s, good = time.monotonic(), 0.0, 0
        while True:
            seen, after_s = self._tried(run, other), time.monotonic() - begun
            if seen is None and after_s > START_S:
                raise InfrastructureError("the pods of the probe do not even reach themselves")
            bad = seen is None or not seen.tight
            good = 0 if bad else good + 1
            # That something did not answer once may be for a busy node.
            if seen and (good == 2 or (bad and after_s > SETTLES_S)):
                return replace(seen, late_s=0.0 if bad else late_s)
            late_s = after_s if seen and bad else late_s

    def pulls(self, waiting: Callable[[str], None]) -> list[Pull]:
        """What came of each image; `waiting` is told in words where it takes its time."""
        end, told = time.monotonic() + PULL_S, False
        while True:
            pod = pod_of(self._client.read("pods", f"{self._name}-images"))
            found = [_pull(container) for container in pod.containers]
            if all(pull.ok is not None for pull in found) or time.monotonic() > end or pod.over:
                break
            if not told and time.monotonic() > end - PULL_S + 10:
                waiting("images are being pulled")
                told = True
            time.sleep(LOOK_S)
        if pod.node or all(pull.ok is not None for pull in found):
            return found
        raise InfrastructureError(f"no image was tried: {why(self._client, pod)}")

    def _started(self, which: str) -> Mapping[str, Any]:
        name, end = f"{self._name}-{which}", time.monotonic() + START_S
        while True:
            item = self._client.read("pods", name)
            pod = pod_of(item)
            [container] = pod.containers
            address = (item.get("status") or {}).get("podIP")
            if container.state == "running" and address:
                return item
            if pod.over or container.state == "terminated" or time.monotonic() > end:
                raise InfrastructureError(f"nothing was tried: {why(self._client, pod)}")
            time.sleep(LOOK_S)

    def _tried(self, run: Mapping[str, Any], other: Mapping[str, Any]) -> Network | None:
        """None where a pod did not reach itself, so that the rest means nothing."""
        there, here = (place(pod["status"]["podIP"], PORT) for pod in (other, run))
        forbidden = {
            f"the metadata address {METADATA}": METADATA,
            "the API server": API,
            "its node's kubelet": place(run["status"]["hostIP"], KUBELET_PORT),
        }
        wanted = wanted_of(self._cluster)
        places = [there, here, NAME, *forbidden.values(), *wanted.values()]
        with ThreadPoolExecutor(2) as pool:
            from_run, from_other = pool.map(lambda pod: self._try(pod, places), (run, other))

        def tries(named: Mapping[str, str]) -> tuple[Try, ...]:
            return tuple(Try(what, from_run[at], from_other[at]) for what, at in named.items())

        if not from_run[here] == from_other[there] == REACHED:
            return None
        [out] = tries({"a pod of the namespace": there})
        [into] = tries({"a run's server": here})
        [names] = tries({"the cluster's DNS": NAME})
        return Network(out, into, names, tries(forbidden), tries(wanted))

    def _try(self, pod: Mapping[str, Any], places: list[str]) -> Mapping[str, str]:
        argv = [*COMMAND, "probe", "try", *places]
        with pod_exec.run(self._client, pod["metadata"]["name"], "probe", argv) as ran:
            said: Mapping[str, str] = json.loads(b"".join(ran))
        return said


def wanted_of(cluster: Cluster) -> dict[str, str]:
    """What runs need of the outside: the lab's proxy, else the hub and the index of packages."""
    network, env = cluster.network, cluster.pods.env
    if proxy := network.https_proxy or network.http_proxy:
        return {"the proxy": _of_url(proxy)}
    urls = {"the hub": env.get("HF_ENDPOINT", models.HUB)}
    if index := env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL"):
        urls["the index of packages"] = index
    return {f"{what} ({_of_url(url)})": _of_url(url) for what, url in urls.items()}


def place(host: str, port: int) -> str:
    """HOST:PORT; an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def has_names(outcome: str) -> bool:
    """Whether a name was told an address, whatever came of connecting to it."""
    return outcome != UNKNOWN


def _of_url(url: str) -> str:
    parts = urlsplit(url)
    return place(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))


def _pull(container: Container) -> Pull:
    if container.state in ("running", "terminated"):
        return Pull(container.image, True)
    if "Image" in container.reason:
        return Pull(container.image, False, container.message or container.reason)
    return Pull(container.image, None, container.reason)
