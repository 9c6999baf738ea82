"""Writes docs/fields.md and docs/settings.md from the code: `python -m runner.docs_tables`.

And the table of rights in docs/security.md, from the chart's roles.yaml.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runner import cluster
from runner.config.experiment import Experiment
from runner.config.files import Copied
from runner.config.parts import ModelConfig, RepoConfig, VolumeConfig
from runner.config.quantities import Cpu, Size
from runner.config.support import TABLES
from runner.prices import Price
from runner.settings import Build, Deadlines, Docker, Kubernetes, Network, Settings

_DURATIONS = ("timeout", "idle_timeout", "gpu_idle_timeout", "prepare", "start", "job_ttl")
_QUANTITIES = (*get_args(Cpu)[1:], *get_args(Size)[1:])
_KINDS = {**dict.fromkeys(_DURATIONS, "duration"), "gpu": "text or list of text"}

_FIELDS = """# Fields of an experiment

Made from the code by `python -m runner.docs_tables`.

An experiment is a TOML file. A key that is not here is refused with the nearest one that is.
A field takes effect as the last columns say, by the backend that the run is on, or the run is
refused with the reason; a field that is left out is never refused. A *duration* is a number of
seconds or text such as `"90m"`, `"2h"` or `"1h30m"`; a *quantity* is written as Kubernetes
writes it: `"16Gi"`, `"500m"`.
Paths are relative to the file; in the sandbox they are relative to `/workspace`.

A table `[sweep]` gives keys several values, and makes a run for each combination:
`agent.max_turns = [50, 100]`; [sweeps.md](sweeps.md) has more.
"""

_SETTINGS = """# Settings

Made from the code by `python -m runner.docs_tables`.

First wins: an option of the command line; an environment variable `RUNNER_` and the key in
upper case (`RUNNER_BACKEND=local`, nested: `RUNNER_DEADLINES__START=5m`); the TOML file; the
default. The file is the one that `RUNNER_SETTINGS` names, else `runner.toml` in the working
directory, else `settings.toml` in the user's configuration directory. An unknown key in the
file is refused with the nearest one that is known.
"""

_CLUSTER = """# What a cluster offers

The chart writes it from its values into the ConfigMap `runner-settings`, and every client reads
it from there, so that a researcher sets nothing of it. What an admin sets is in the chart's own
values.yaml; here is what comes of it, as `kubectl get configmap runner-settings -o yaml` shows it.
"""


_ROLES, _END = "<!-- made of charts/runner/roles.yaml by `make docs` -->", "<!-- end -->"


def fields_page() -> str:
    """The page about every field of an experiment."""
    header = ("Key", "Type", "Default", "What it is", *(f"On `{name}`" for name in TABLES))
    parts = [_FIELDS]
    tables = {"Top level": "", "[sandbox]": "sandbox", "[workspace]": "workspace"}
    for title, table in {**tables, "[agent]": "agent"}.items():
        model = Experiment.model_fields[table].annotation if table else Experiment
        rows: list[tuple[str, ...]] = []
        for name, field in _fields(model):
            key = f"{table}.{name}" if table else name
            if key in TABLES["local"]:
                effects = (on[key].effect for on in TABLES.values())
                rows.append((*_cells(name, field), *effects))
        parts.append(_section(title, header, rows))
    for title, model in (
        ("An entry of sandbox.repos", RepoConfig),
        ("An entry of sandbox.volumes", VolumeConfig),
        ("An entry of sandbox.local_files or sandbox.local_dirs", Copied),
        ("An entry of sandbox.models", ModelConfig),
    ):
        parts.append(_section(title, header[:4], [_cells(n, f) for n, f in _fields(model)]))
    return "\n".join(parts)


def settings_page() -> str:
    """The page about every setting."""
    header = ("Key", "Type", "Default", "What it is")
    parts = [_SETTINGS]
    for title, model in (
        ("Keys", Settings),
        ("[kubernetes]", Kubernetes),
        ("[docker]", Docker),
        ("[network]", Network),
        ("[build]", Build),
        ("[deadlines]", Deadlines),
        ("An entry of prices", Price),
    ):
        parts.append(_section(title, header, [_cells(n, f) for n, f in _fields(model)]))
    parts.append(_CLUSTER)
    for title, table in (
        ("settings.json", cluster.Cluster),
        ("images", cluster.Images),
        ("An entry of images.catalogue", cluster.Image),
        ("An entry of gpuClasses", cluster.GpuClass),
        ("An entry of tolerations", cluster.Toleration),
        ("secrets", cluster.Secrets),
        ("An entry of secrets.named", cluster.SecretKey),
        ("records", cluster.Records),
        ("records.s3", cluster.S3),
        ("An entry of volumes", cluster.Claim),
        ("network", cluster.Network),
        ("resources", cluster.Resources),
        ("queue", cluster.Queue),
        ("pods", cluster.Pods),
    ):
        parts.append(_section(title, header, [_cells(n, f) for n, f in _fields(table)]))
    return "\n".join(parts)


def with_roles(page: str, roles: Mapping[str, Any]) -> str:
    """The page about security with its tables of rights as the chart's roles.yaml has them."""
    before, _, rest = page.partition(_ROLES)
    _, _, after = rest.partition(_END)
    both, researchers = _rights(roles["viewer"]), _rights(roles["researcher"])
    reasons = _reasons([*roles["viewer"], *roles["researcher"]])
    rows = [
        (name, both.get(name, ""), researchers.get(name, ""), reasons[name])
        for name in dict.fromkeys([*both, *researchers])
    ]
    header = ("In the namespace", "Viewers and researchers", "Researchers besides", "For")
    cluster, pods = roles["cluster"], roles["pods"]
    reasons = _reasons([*cluster, *pods])
    wide = [
        (name, verbs, key, reasons[name])
        for key, rules in (("clusterRole.create", cluster), ("clusterRole.pods", pods))
        for name, verbs in _rights(rules).items()
    ]
    tables = (
        _table(header, rows),
        _table(("In the whole cluster", "Both", "With", "For"), wide),
    )
    return f"{before}{_ROLES}\n{chr(10).join(tables)}\n{_END}{after}"


def _rights(rules: list[Mapping[str, Any]]) -> dict[str, str]:
    """The verbs of each resource."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        only = " (the chart's alone)" if rule.get("resourceNames") else ""
        for name in _names(rule):
            found.setdefault(name, []).append(", ".join(rule["verbs"]) + only)
    return {name: ", ".join(verbs) for name, verbs in found.items()}


def _reasons(rules: list[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for rule in rules:
        for name in _names(rule):
            found.setdefault(name, []).append(rule["for"])
    return {name: "; ".join(dict.fromkeys(words)) for name, words in found.items()}


def _names(rule: Mapping[str, Any]) -> list[str]:
    return [
        f"`{resource}.{group}`" if group else f"`{resource}`"
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


def _fields(model: Any) -> Iterator[tuple[str, FieldInfo]]:
    assert issubclass(model, BaseModel)  # noqa: S101
    yield from model.model_fields.items()


def _section(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return f"## {title}\n\n{_table(header, rows)}"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    cells = ("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)
    return "\n".join(cells) + "\n"


def _cells(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    kind = _KINDS.get(name) if field.annotation is not bool else None
    if any(mark in field.metadata for mark in _QUANTITIES):
        kind = "quantity"
    kind = kind or _type(field.annotation)
    return f"`{field.alias or name}`", kind, _default(name, field), field.description or ""


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if field.default_factory is not None or value in (None, (), {}):
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value)
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, tuple):
        return ", ".join(f"`{_yaml(item)}`" for item in value)
    if name in _DURATIONS:
        return f'`"{value / 3600:g}h"`' if value >= 3600 else f'`"{value / 60:g}m"`'
    if isinstance(value, Enum | str):
        return f'`"{value}"`'
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _yaml(item: Any) -> str:
    """A table of a default, as a line of YAML."""
    given = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(given).replace('"', "")


def _type(annotation: Any) -> str:
    """A type in words that somebody who writes TOML knows."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(arg) for arg in inner if arg is not types.NoneType)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(arg)}`" for arg in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin in (dict, Mapping):
        return f"table of {_type(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return "quantity" if annotation in (Cpu, Size) else _type(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f'`"{member.value}"`' for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {bool: "boolean", int: "integer", float: "number", Path: "path"}.get(annotation, "text")


def main() -> None:
    """Write them into docs/ beside the package."""
    import yaml

    top = Path(__file__).parent.parent
    docs = top / "docs"
    docs.mkdir(exist_ok=True)
    security, roles = docs / "security.md", top / "charts" / "runner" / "roles.yaml"
    page = with_roles(security.read_text("utf-8"), yaml.safe_load(roles.read_text("utf-8")))
    security.write_text(page, "utf-8")
    (docs / "fields.md").write_text(fields_page(), "utf-8")
    (docs / "settings.md").write_text(settings_page(), "utf-8")


if __name__ == "__main__":
    main()
