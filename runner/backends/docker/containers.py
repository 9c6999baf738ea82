"""A run's containers, as the engine's API takes them: a plan in, bodies of requests out. Pure.

What is secret is not in them: a container is told it on its stdin (`runner.pod.told`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner import hidden, models
from runner.backends.docker.names import (
    MODELS,
    PACKAGES,
    RECORD,
    labels,
    network,
    of_model,
    thing,
)
from runner.backends.reach import COMMAND
from runner.config.files import WORKSPACE
from runner.config.quantities import amount
from runner.plan import PinnedModel, RunPlan
from runner.pod import layout, told, turns, variables
from runner.record.travel import FOLDERS
from runner.settings import Settings

ALIAS = "sandbox"
"""What the agent calls the sandbox on the run's network."""
OUTER = "bridge"
"""The engine's own network: for all but the sandbox where that is to have no way out."""
USER = "1000:1000"
SMALL = 1 << 30
"""Bytes of memory of the containers on the agent's image."""
SMALL_PIDS = 512
PACKED = Path("/packages")
"""Where the cache of packages is while volumes are filled; `install` has it where others have
models."""
SHOWN = Path("/shown")
"""Where the plan without the names of hidden models is put, for those who have no other."""
NO_DNS = ["192.0.2.1"]
"""Nobody is there (RFC 5737): engines before 26.0 answer for an internal network too."""
LOG = {"Type": "json-file", "Config": {"max-size": "64m", "max-file": "2"}}
"""Of each container; the record has its own logs."""
_PORT = f"{layout.PORT}/tcp"
_PRIVATE = "rw,nosuid,nodev,noexec,mode=0700,uid=1000,gid=1000"


def containers(plan: RunPlan, settings: Settings) -> dict[str, dict[str, Any]]:
    """The bodies of all of them by their names in the run, in the order of their turns."""
    names = variables.steps(plan)
    return {name: _container(name, names, plan, settings) for name in names}


def networks(plan: RunPlan) -> dict[str, Any]:
    """The body of the run's own network.

    No other run's container is on it; a sandbox that is alone may talk to nobody on it.
    """
    icc = {"com.docker.network.bridge.enable_icc": str(plan.agent).lower()}
    return {
        "Name": network(plan.run_id),
        "Driver": "bridge",
        "Internal": is_closed(plan),
        "CheckDuplicate": True,
        "Labels": labels(plan),
        "Options": icc,
    }


def outer(plan: RunPlan, name: str) -> str:
    """The network of a container that the sandbox is not on, or the run's own."""
    return OUTER if is_closed(plan) and name != "sandbox" else network(plan.run_id)


def is_closed(plan: RunPlan) -> bool:
    """Whether the sandbox is to reach nothing."""
    return plan.experiment.sandbox.network == "none"


def volumes(plan: RunPlan, settings: Settings) -> list[str]:
    """What the run's own volumes hold, but for the record."""
    hides = hidden.any_in(plan)
    more = [
        ("shown", hides),
        ("hidden", hides),
        ("venv", variables.installs(plan)),
        ("ca", settings.network.ca_bundle is not None),
    ]
    return ["workspace", "state", "config", *(name for name, used in more if used)]


def store(plan_labels: dict[str, str], run_id: str, image: str) -> dict[str, Any]:
    """A container that gives access to a run's record, and goes by itself when nobody uses it."""
    return {
        "Image": image,
        "User": USER,
        "Entrypoint": [*COMMAND, "hold"],
        "Cmd": [],
        "Env": _env({"HOME": str(layout.TMP), "PYTHONUNBUFFERED": "1"} | _nvidia(gpu=False)),
        "Labels": plan_labels,
        "HostConfig": {
            **_confined(read_only=True),
            "AutoRemove": True,
            "Memory": SMALL,
            "PidsLimit": SMALL_PIDS,
            "NetworkMode": "none",
            "Tmpfs": {str(layout.TMP): _scratch()},
            "Mounts": [record(run_id)],
        },
    }


def _container(
    name: str, names: Sequence[str], plan: RunPlan, settings: Settings
) -> dict[str, Any]:
    read_only = name in variables.READ_ONLY
    net = outer(plan, name)
    aliases = {"Aliases": [ALIAS]} if name == "sandbox" else {}
    return {
        "Image": variables.image(name, plan),
        "User": USER,
        "WorkingDir": str(layout.WORKSPACE if name == "sandbox" else layout.TMP),
        "Entrypoint": [*COMMAND, name],
        "Cmd": [],
        "Env": _env(_variables(name, names, plan, settings)),
        "Labels": labels(plan, name),
        "OpenStdin": True,
        "StdinOnce": True,
        "StopTimeout": 60,
        **({"ExposedPorts": {_PORT: {}}} if name == "sandbox" else {}),
        "HostConfig": {
            **_confined(read_only=read_only),
            **_bounds(name, plan, settings),
            "NetworkMode": net,
            "Mounts": _mounts(name, plan, settings),
            "Tmpfs": _tmpfs(name),
            **(_sandbox(plan) if name == "sandbox" else {}),
        },
        "NetworkingConfig": {"EndpointsConfig": {net: aliases}},
    }


def _confined(*, read_only: bool) -> dict[str, Any]:
    return {
        "Init": True,
        "ReadonlyRootfs": read_only,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": LOG,
    }


def _sandbox(plan: RunPlan) -> dict[str, Any]:
    """Its port, on the loopback interface only, and its GPUs.

    The engine publishes nothing of an internal network; there the host reaches the container.
    """
    port = str(plan.experiment.sandbox.jupyter_port or "")
    given: dict[str, Any] = {}
    if is_closed(plan):
        given["Dns"] = NO_DNS
    else:
        given["PortBindings"] = {_PORT: [{"HostIp": "127.0.0.1", "HostPort": port}]}
    if plan.gpus:
        request = {"Driver": "nvidia", "DeviceIDs": list(plan.gpus), "Capabilities": [["gpu"]]}
        given["DeviceRequests"] = [request]
    return given


def _bounds(name: str, plan: RunPlan, settings: Settings) -> dict[str, Any]:
    """Swap would only make a run slow before it fails, so there is none."""
    own, given = plan.experiment.sandbox, settings.docker
    if name in variables.OURS:
        return {"Memory": SMALL, "MemorySwap": SMALL, "PidsLimit": SMALL_PIDS}
    memory = own.memory_bytes or int(amount(given.memory))
    cores = own.cores or (float(amount(given.cpu)) if given.cpu else None)
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": given.pids,
        "ShmSize": min(int(amount(given.shm)), memory),
        **({"NanoCpus": int(cores * 1e9)} if cores else {}),
    }


def _variables(
    name: str, names: Sequence[str], plan: RunPlan, settings: Settings
) -> dict[str, str]:
    own = settings.network
    before = names[names.index("sandbox") - 1 if name == "agent" else names.index(name) - 1]
    given = variables.network(
        own.http_proxy,
        own.https_proxy,
        own.no_proxy,
        ca_bundle=own.ca_bundle is not None,
        near=(ALIAS,),
    )
    if name == "sandbox" and is_closed(plan):
        given = {}
    given |= {told.STEP: name, "RUNNER_TERMINATION": "/dev/null"}
    given |= {} if name == "record" else {turns.AFTER: before}
    if name in variables.READ_ONLY:
        given |= {"HOME": str(layout.TMP), "PYTHONUNBUFFERED": "1"}
    if name == "install" and _shares_packages(plan):
        given |= {"UV_CACHE_DIR": str(layout.CACHE / "uv")}
    if name == "models":
        given |= {"HF_HUB_CACHE": str(layout.MODELS)}
    if name == "sandbox":
        disk = plan.experiment.sandbox.disk_bytes or int(amount(settings.docker.disk))
        given |= variables.caches()
        given |= {"RUNNER_ADDRESS": "0.0.0.0", "RUNNER_DISK_BYTES": str(disk)}  # noqa: S104 - of its own network
    if name == "agent":
        given |= {"RUNNER_SANDBOX_URL": f"http://{ALIAS}:{layout.PORT}"}
    return given | _nvidia(gpu=name == "sandbox" and bool(plan.gpus))


def _nvidia(*, gpu: bool) -> dict[str, str]:
    """CUDA images ask for all GPUs of the machine: `void` where there is to be none."""
    if gpu:
        return {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {"NVIDIA_VISIBLE_DEVICES": "void"}


def _env(given: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in given.items()]


def _tmpfs(name: str) -> dict[str, str]:
    private = {"clone": layout.GIT, "sandbox": layout.TOKEN.parent, "agent": layout.TOKEN.parent}
    own = {str(private[name]): _PRIVATE} if name in private else {}
    return {str(layout.TMP): _scratch(), **own}


def _scratch() -> str:
    return "rw,exec,nosuid,nodev,mode=1777"


def _mounts(name: str, plan: RunPlan, settings: Settings) -> list[dict[str, Any]]:
    """The record, which holds the score script, is `record`'s and the agent's alone."""
    run = plan.run_id
    inside = name != "agent"
    config = "config" if hidden.knows(name, plan) else "shown"
    found = [_volume(thing(run, config), layout.CONFIG, read_only=True)]
    if inside:
        found.append(_volume(thing(run, "workspace"), layout.WORKSPACE))
    found.append(_volume(thing(run, "state"), layout.STATE, read_only=not inside))
    if name in variables.OURS:
        found.append(_volume(thing(run, RECORD), layout.RECORD))
    if name in ("install", "sandbox") and variables.installs(plan):
        found.append(_volume(thing(run, "venv"), layout.VENV))
    if name == "install" and _shares_packages(plan):
        found.append(_volume(PACKAGES, layout.CACHE))
    if name == "models":
        found += [_volume(MODELS, layout.CACHE), *_models(plan.models), *_copies(plan)]
    if name == "sandbox":
        found += [*_models(hidden.visible(plan), read_only=True), *_copies(plan, read_only=True)]
    if settings.network.ca_bundle is not None:
        found.append(_volume(thing(run, "ca"), layout.CA_BUNDLE.parent, read_only=True))
    if name == "sandbox":
        found += _of_experiment(plan, settings)
    return found


def _volume(name: str, path: Path, *, read_only: bool = False) -> dict[str, Any]:
    """Not filled from the image: who owns it was said when it was made."""
    return {
        "Type": "volume",
        "Source": name,
        "Target": str(path),
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _of_experiment(plan: RunPlan, settings: Settings) -> Iterator[dict[str, Any]]:
    for volume in plan.experiment.sandbox.volumes:
        yield {
            "Type": "bind",
            "Source": str(settings.volumes[volume.name]),
            "Target": str(Path(WORKSPACE) / volume.path),
            "ReadOnly": volume.read_only,
        }


def record(run_id: str) -> dict[str, Any]:
    """The mount of a record's volume, to be written."""
    return _volume(thing(run_id, RECORD), layout.RECORD)


def everything(plan: RunPlan, settings: Settings) -> list[dict[str, Any]]:
    """The mounts of all volumes, to be written, where the run's containers have them."""
    places = {
        "workspace": layout.WORKSPACE,
        "state": layout.STATE,
        "config": layout.CONFIG,
        "shown": SHOWN,
        "hidden": layout.HIDDEN,
        "venv": layout.VENV,
        "ca": layout.CA_BUNDLE.parent,
    }
    found = [_volume(thing(plan.run_id, name), places[name]) for name in volumes(plan, settings)]
    found.append(record(plan.run_id))
    found += [_volume(PACKAGES, PACKED)] if _shares_packages(plan) else []
    shared = [_volume(MODELS, layout.CACHE), *_models(plan.models)] if plan.models else []
    return found + shared


def _shares_packages(plan: RunPlan) -> bool:
    """Not where a repository is installed: its code runs then, and could change what others get."""
    return bool(plan.to_install) and not any(repo.install for repo in plan.repos)


def _copies(plan: RunPlan, *, read_only: bool = False) -> list[dict[str, Any]]:
    """The volume with hidden models: the run's own, so that no name is in the mount's source."""
    own = _volume(thing(plan.run_id, "hidden"), layout.HIDDEN, read_only=read_only)
    return [own] if hidden.any_in(plan) else []


def _models(found: Iterable[PinnedModel], *, read_only: bool = False) -> list[dict[str, Any]]:
    names = dict.fromkeys(model.name for model in found)
    return [
        _volume(of_model(name), layout.MODELS / models.directory(name), read_only=read_only)
        for name in names
    ]


def directories(plan: RunPlan, settings: Settings) -> list[Path]:
    """What has to be there, of user 1000, before the containers start.

    The engine makes the place of a mount as root's, and what is above it.
    """
    found = [layout.WORKSPACE, layout.STATE, layout.TURNS, layout.CONFIG, layout.RECORD]
    found += [layout.RECORD / folder for folder in FOLDERS]
    if variables.installs(plan):
        found.append(layout.VENV)
    if _shares_packages(plan):
        found += [PACKED, PACKED / "uv"]
    if plan.models:
        found += [layout.CACHE, layout.MODELS.parent, layout.MODELS]
    if hidden.any_in(plan):
        found += [layout.HIDDEN, SHOWN]
    if settings.network.ca_bundle is not None:
        found.append(layout.CA_BUNDLE.parent)
    for volume in plan.experiment.sandbox.volumes:
        place = Path(WORKSPACE) / volume.path
        inner = [place, *place.parents][::-1]
        found += [
            path for path in inner if path.is_relative_to(WORKSPACE) and path != Path(WORKSPACE)
        ]
    found += [layout.MODELS / models.directory(model.name) for model in plan.models]
    return list(dict.fromkeys(found))
