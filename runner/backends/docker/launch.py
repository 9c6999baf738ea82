"""Making a run's containers and what they need, starting them, and taking it all away again."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner import hidden
from runner.backends.docker import containers
from runner.backends.docker.names import (
    FILL,
    RECORD,
    RUN,
    VOLUMES,
    labels,
    network,
    thing,
)
from runner.errors import InfrastructureError, UsageError
from runner.images.engine import translated
from runner.plan import RunPlan
from runner.pod import layout
from runner.pod.variables import image
from runner.record.travel import FOLDERS, members
from runner.settings import Settings

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError

UID = 1000
REMOVE_S, LOOK_S = 20.0, 0.1
"""How long the removal of a container by another client may take, and how often it is looked."""
IDLE_NETWORK = "10m"
"""How old an unused network of a run is when another run may take its place."""


def start(
    client: DockerClient,
    plan: RunPlan,
    settings: Settings,
    told: Mapping[str, bytes],
    *,
    record: Path | None,
    reason: str,
) -> None:
    """Make everything and start it; `told` is what each container gets on its stdin.

    `record` is the record of a run that is new to the engine. What was made is undone when
    something fails; a record that was there before stays.
    """
    bodies = containers.containers(plan, settings)
    made: dict[str, str] = {}
    try:
        with _refusals(plan):
            _make_network(client, plan)
            _make_volumes(client, plan, settings)
            _fill(client, plan, settings, record, reason)
            for step, body in bodies.items():
                made[step] = _create(client, plan, step, body)
            with ThreadPoolExecutor(len(made)) as pool:
                list(pool.map(lambda step: _start(client, made[step], told[step]), made))
    except BaseException:
        with contextlib.suppress(InfrastructureError):  # the first error is the one to tell
            _undo(client, plan.run_id, made.values(), record=record is not None)
        raise


def _undo(client: DockerClient, run_id: str, made: Iterable[str], *, record: bool) -> None:
    """Take away what was made here, and all else of the run if nobody else has made more."""
    from docker.errors import NotFound

    with translated(f"removing what there is of {run_id}"):
        for container in made:
            with contextlib.suppress(NotFound):
                client.api.remove_container(container, force=True, v=True)
        others = client.api.containers(all=True, filters={"label": f"{RUN}={run_id}"})
    if not others:
        remove(client, run_id, record=record)


def remove(client: DockerClient, run_id: str, *, record: bool = False) -> None:
    """Remove a run's containers, volumes and network; its record's volume only if told so."""
    from docker.errors import APIError, NotFound

    wanted = {"label": f"{RUN}={run_id}"}
    end = time.monotonic() + REMOVE_S
    with translated(f"removing what there is of {run_id}"):
        # One that another client removes just now is there until it is done.
        while found := client.api.containers(all=True, filters=wanted):
            for item in found:
                try:
                    client.api.remove_container(item["Id"], force=True, v=True)
                except NotFound:
                    continue
                except APIError as error:
                    if "in progress" not in str(error.explanation) or time.monotonic() > end:
                        raise
                    time.sleep(LOOK_S)
        with contextlib.suppress(NotFound):
            client.api.remove_network(network(run_id))
        for name in (*VOLUMES, *([RECORD] if record else [])):
            try:
                client.api.remove_volume(thing(run_id, name))
            except NotFound:
                continue
            except APIError as error:
                raise _in_use(thing(run_id, name), error) from error


def let_network_go(client: DockerClient, run_id: str) -> None:
    """Give its range of addresses back; an engine has some thirty. Not while it is in use."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with contextlib.suppress(DockerException, RequestException):
        client.api.remove_network(network(run_id))


def _make_network(client: DockerClient, plan: RunPlan) -> None:
    from docker.errors import APIError

    body = containers.networks(plan)
    try:
        _post_network(client, body)
    except APIError as error:
        if "non-overlapping" not in str(error.explanation):
            raise
        client.api.prune_networks({"label": [RUN], "until": [IDLE_NETWORK]})
        _post_network(client, body)


def _post_network(client: DockerClient, body: Mapping[str, Any]) -> None:
    client.api.create_network(
        body["Name"],
        driver=body["Driver"],
        options=body["Options"],
        internal=body["Internal"],
        labels=body["Labels"],
        check_duplicate=body["CheckDuplicate"],
    )


def _make_volumes(client: DockerClient, plan: RunPlan, settings: Settings) -> None:
    for name in (*containers.volumes(plan, settings), RECORD):
        client.api.create_volume(thing(plan.run_id, name), labels=labels(plan))


def make_record_volume(client: DockerClient, plan: RunPlan) -> None:
    """Make the volume of a record that had no containers of its own; one that is there stays."""
    from docker.errors import NotFound

    name = thing(plan.run_id, RECORD)
    with translated(f"making the volume of {plan.run_id}"):
        try:
            client.api.inspect_volume(name)
            return
        except NotFound:
            client.api.create_volume(name, labels=labels(plan))
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for directory in (layout.RECORD, *(layout.RECORD / part for part in FOLDERS)):
                    tar.addfile(_directory(directory))
            _unpack(client, plan, [containers.record(plan.run_id)], archive)


def _fill(
    client: DockerClient, plan: RunPlan, settings: Settings, record: Path | None, reason: str
) -> None:
    """Put into the volumes what has to be there before anything runs.

    By a container that has all of them and is never started: the engine unpacks an archive.
    """
    with tempfile.TemporaryFile() as archive:
        _write(archive, plan, settings, record, reason)
        _unpack(client, plan, containers.everything(plan, settings), archive)


def _unpack(
    client: DockerClient, plan: RunPlan, mounts: Sequence[Mapping[str, Any]], archive: IO[bytes]
) -> None:
    body = {
        "Image": image("agent", plan),
        "Labels": labels(plan, FILL),
        "HostConfig": {"Mounts": mounts, "NetworkMode": "none"},
    }
    made = client.api.create_container_from_config(body)["Id"]
    try:
        archive.seek(0)
        client.api.put_archive(made, "/", archive)
    finally:
        client.api.remove_container(made, force=True, v=True)


def _write(
    archive: IO[bytes], plan: RunPlan, settings: Settings, record: Path | None, reason: str
) -> None:
    texts = {
        layout.PLAN: plan.model_dump_json(indent=2).encode() + b"\n",
        layout.CONFIG / "agent.json": json.dumps({"reason": reason}).encode() + b"\n",
        layout.AGENT: b"",
    }
    if hidden.any_in(plan):
        shown = hidden.shown(plan).model_dump_json(indent=2).encode() + b"\n"
        texts[containers.SHOWN / layout.PLAN.name] = shown
    if settings.network.ca_bundle is not None:
        texts[layout.CA_BUNDLE] = _read(settings.network.ca_bundle)
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in containers.directories(plan, settings):
            tar.addfile(_directory(directory))
        for path, data in texts.items():
            entry = _entry(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        if record is not None:
            _add_record(tar, record)


def _add_record(tar: tarfile.TarFile, record: Path) -> None:
    made = set(FOLDERS)
    for name in members(record):
        for folder in map(str, list(Path(name).parents)[-2::-1]):
            if folder not in made:
                made.add(folder)
                tar.addfile(_directory(layout.RECORD / folder))
        with (record / name).open("rb") as file:
            entry = _entry(layout.RECORD / name)
            entry.size = (record / name).stat().st_size
            tar.addfile(entry, file)


def _directory(path: Path) -> tarfile.TarInfo:
    entry = _entry(path)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _entry(path: Path) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.uid = entry.gid = UID
    entry.mtime = int(time.time())  # that of the plan tells since when the run is there
    return entry


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: the CA bundle cannot be read: {error.strerror}",
            hint="network.ca_bundle in the settings, or SSL_CERT_FILE, names another one",
        ) from error


def _create(client: DockerClient, plan: RunPlan, step: str, body: dict[str, Any]) -> str:
    made = str(client.api.create_container_from_config(body, thing(plan.run_id, step))["Id"])
    if step == "agent" and containers.is_closed(plan):
        client.api.connect_container_to_network(made, network(plan.run_id))
    return made


def _start(client: DockerClient, container: str, message: bytes) -> None:
    """Start a container and tell it its secrets: it reads them before anything else."""
    stream = client.api.attach_socket(container, params={"stdin": 1, "stream": 1})
    stdin: socket.socket = getattr(stream, "_sock", stream)
    try:
        client.api.start(container)
        with contextlib.suppress(ConnectionError):  # it has ended: the run will say so
            stdin.sendall(message)
            stdin.shutdown(socket.SHUT_WR)
    finally:
        stream.close()
        stdin.close()


@contextlib.contextmanager
def _refusals(plan: RunPlan) -> Iterator[None]:
    """What the engine says against a start, with what mends it where we know."""
    from docker.errors import APIError
    from requests.exceptions import RequestException

    with translated(f"starting {plan.run_id}"):
        try:
            yield
        except APIError as error:
            raise _problem(plan, error) or error from error
        except OSError as error:  # a full disk; what requests raises is one, and is translated
            if isinstance(error, RequestException):
                raise
            raise InfrastructureError(
                f"starting {plan.run_id}: {error}", hint="df shows what is full"
            ) from error


def _problem(plan: RunPlan, error: APIError) -> UsageError | InfrastructureError | None:
    words = str(error.explanation or error)
    port = plan.experiment.sandbox.jupyter_port
    if port and ("port is already allocated" in words or "address already in use" in words):
        return UsageError(
            f"sandbox.jupyter_port: port {port} of this machine is taken",
            hint="choose another one, or leave it out: a free one is taken then",
        )
    if plan.gpus and ("could not select device driver" in words or "nvidia" in words.lower()):
        return UsageError(
            f"sandbox.gpu: the Docker engine cannot give GPUs to containers: {words}",
            hint="install the NVIDIA Container Toolkit: `nvidia-ctk runtime configure "
            "--runtime=docker`, then restart the engine",
        )
    if "is already in use by container" in words or "already exists" in words:
        return UsageError(
            f"the engine has something of the name {plan.run_id} already: {words}",
            hint=f"runner delete --backend docker {plan.run_id}",
        )
    if "non-overlapping" in words:
        return InfrastructureError(
            "the engine has no range of addresses left for another run's network",
            hint="`runner doctor` lists ended runs, `runner delete RUN` frees theirs; an admin "
            "adds to default-address-pools in the engine's daemon.json",
        )
    if "no space left" in words.lower():
        return InfrastructureError(
            f"the engine's disk is full: {words}",
            hint="`docker system df` shows by what; `runner delete RUN` removes ended runs",
        )
    return None


def _in_use(volume: str, error: APIError) -> Exception:
    words = str(error.explanation or error)
    if "in use" not in words:
        return error
    return InfrastructureError(
        f"the volume {volume} is in use by a container that is none of this run's: {words}",
        hint=f"docker ps --all --filter volume={volume}",
    )
