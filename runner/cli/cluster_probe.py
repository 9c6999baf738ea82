"""What `doctor --probe` says: pods that try the network, and the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from runner.cli.check import Check
from runner.cli.words import count, seconds
from runner.errors import InfrastructureError, RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.kubernetes.probe import Network, Pull, Try
    from runner.cli.context import Cli
    from runner.cluster import Cluster

DOCS = "docs/cluster.md#network"
PLUGIN = (
    "install a network plugin that enforces NetworkPolicies, such as Calico or Cilium; until "
    f"then an agent's code reaches all that the cluster's nodes reach: {DOCS}"
)


def checks(client: Client, cluster: Cluster, cli: Cli) -> Iterator[Check]:
    """Start the pods, ask them, and remove them; then what they said."""
    from runner.backends.kubernetes import helm, probe

    cli.note("starting pods that try the network and the images; they are removed afterwards")
    made: list[Check] = []
    policies = helm.upgrade(client.namespace, "network.policies=true")
    enforce = PLUGIN if cluster.network.policies else policies

    def look(name: str, told: Callable[[], Iterable[Check]]) -> None:
        try:
            made.extend(told())
        except InfrastructureError as error:
            made.append(Check(name, False, error.message, error.hint))

    try:
        with probe.pods(client, cluster) as pods:
            look("images", lambda: images(pods.pulls(cli.note), cluster))
            look("network", lambda: network(pods.network(), enforce))
    except RunnerError as error:
        made.append(Check("probe", False, error.message, error.hint))
    yield from made


def images(pulls: list[Pull], cluster: Cluster) -> Iterator[Check]:
    """Whether the nodes get them; one node was asked."""
    names = {image.image: image.name for image in cluster.images.catalogue}
    names[cluster.images.agent] = "agent"
    good = [names[pull.image] for pull in pulls if pull.ok]
    if good:
        yield Check("images", True, f"{count(len(good), 'image')} pulled: {', '.join(good)}")
    for pull in pulls:
        what = f"{names[pull.image]} ({pull.image})"
        if pull.ok is None:
            words = f"{what} was not there in time: {pull.words or 'it is still being pulled'}"
            mend = "wait, and try again; prePull in the chart's values brings images to the nodes"
            yield Check("images", None, words, mend)
        elif not pull.ok:
            mend = (
                "runner images push REGISTRY --values images.yaml, then helm upgrade; a registry "
                "that asks for a password: images.pullSecrets (docs/cluster.md#2-the-images)"
            )
            yield Check("images", False, f"{what} cannot be pulled: {pull.words}", mend)


def network(seen: Network, enforce: str) -> Iterator[Check]:
    """Whether the policies hold, and what runs reach all the same."""
    open_to = [one for one in (seen.out, *seen.forbidden) if one.through]
    holes = [one for one in seen.forbidden if one.through]
    if not seen.enforced:
        words = [f"a run reaches {_listed(open_to)}"] if open_to else []
        words += [f"another pod reaches {seen.into.what}"] if seen.into.other == "reached" else []
        yield Check("network", False, f"policies are not enforced: {'; '.join(words)}", enforce)
    else:
        late = f", {seconds(seen.late_s)} after its start" if seen.late_s else ""
        denied = [one for one in seen.forbidden if one.denied]
        silent = [one for one in seen.forbidden if one.silent]
        words = [f"policies are enforced{late}: a run reaches no other pod, and no pod a run"]
        words += [f"denied: {_listed(denied)}"] if denied else []
        words += [f"nothing answers anyhow: {_listed(silent)}"] if silent else []
        yield Check("network", True, "; ".join(words))
        for one in holes:
            metadata = "metadata" in one.what
            mend = f"take it out of network.allow, or put it into network.blocked: {DOCS}"
            told = f"a run reaches {one.what}: network.allow lists it, or it is a public address"
            yield Check("network", False if metadata else None, told, mend)
    yield from _wanted(seen)


def _wanted(seen: Network) -> Iterator[Check]:
    """Names and places that runs may need."""
    from runner.backends.kubernetes.probe import has_names

    if not has_names(seen.names.run):
        only = " and other pods are" if has_names(seen.names.other) else ", nor is any other pod"
        words = f"a run is not told addresses by {seen.names.what}{only}"
        yield Check("network", None, words, f"network.dns in the chart's values: {DOCS}")
    reached = [one for one in seen.wanted if one.through]
    if reached:
        yield Check("network", True, f"a run reaches {_listed(reached)}")
    for one in seen.wanted:
        if not one.through:
            others = "nor do other pods" if one.silent else "other pods do"
            words = f"a run does not reach {one.what}; {others}"
            mend = f"network.internet, network.allow, a proxy, or a mirror: {DOCS}"
            yield Check("network", None, words, mend)


def _listed(tries: Iterable[Try]) -> str:
    return ", ".join(one.what for one in tries)
