"""Hypothesis strategies of plans and clusters: all that manifests have to be right for."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from runner.backends.kubernetes.samples import plan as sample_plan
from runner.cluster import Cluster, example
from runner.names import RUN_ID_LENGTH
from runner.plan import PinnedModel, PinnedRepo, PlannedImages, RunPlan, SweepPart

_LABEL = r"[a-z0-9]([a-z0-9-]{0,%d}[a-z0-9])?"
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
_AWKWARD = st.sampled_from(
    [
        "$(HOME)",
        "$$(HOME)",
        "a=b",
        '"',
        "'",
        "\n\n",
        "ü–漢",
        "${X}",
        "$(",
        "`id`",
        "- x",
        ": {}",
        "",
    ]
)
VALUES = st.lists(st.one_of(_TEXT, _AWKWARD), max_size=4).map("".join)
VARIABLES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
SECRETS = st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True)
SIZES = st.builds(
    "{}{}".format, st.integers(64, 4096), st.sampled_from(["M", "Mi", "Gi", "G", ".5Gi"])
)
CORES = st.one_of(st.integers(1, 128), st.sampled_from(["500m", "0.1", "1.5", "2500m", "1e1"]))

_CLASSES = {
    "A100": {"values": ["NVIDIA-A100-SXM4-80GB"]},
    "H100": {"values": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-NVL"]},
    "GKE": {"values": ["nvidia-l4"], "label": "cloud.google.com/gke-accelerator"},
}
_VOLUMES = {
    "models": {"claim": "lab-models"},
    "scratch": {"claim": "lab-scratch", "subPath": "some/where", "readOnly": False},
}


def names(length: int) -> st.SearchStrategy[str]:
    """DNS labels of up to so many characters, the longest among them."""
    label = st.from_regex(_LABEL % (length - 2), fullmatch=True)
    return st.one_of(label, st.just("a" * length))


@st.composite
def sandboxes(draw: st.DrawFn) -> dict[str, Any]:
    """A `[sandbox]` table that the configuration accepts."""
    made: dict[str, Any] = {}
    for key, values in (
        ("cpu", CORES),
        ("memory", SIZES),
        ("disk", SIZES),
        ("timeout", st.integers(1, 366 * 86400)),
        ("priority", names(63)),
        ("queue", names(63)),
        ("on_disruption", st.sampled_from(["resume", "fail"])),
    ):
        if draw(st.booleans()):
            made[key] = draw(values)
    if gpu := draw(st.lists(st.sampled_from(sorted(_CLASSES)), unique=True)):
        made |= {"gpu": gpu, "gpu_count": draw(st.integers(1, 16))}
    made["secrets"] = draw(st.lists(SECRETS, unique=True, max_size=3))
    env = draw(st.dictionaries(VARIABLES, VALUES, max_size=3))
    made["env"] = {name: value for name, value in env.items() if name not in made["secrets"]}
    places = st.sampled_from(["/data", "data", "deep/er/data", "/mnt/a b", "/ünïcode", "/$(HOME)"])
    paths = draw(st.lists(places, unique=True, max_size=3))
    made["volumes"] = [
        {
            "name": draw(st.sampled_from(sorted(_VOLUMES))),
            "path": path,
            "read_only": draw(st.booleans()),
        }
        for path in paths
    ]
    return made


def sweep_parts() -> st.SearchStrategy[SweepPart]:
    """Places in a sweep, whose values may be any text."""
    return st.builds(
        SweepPart,
        id=names(RUN_ID_LENGTH),
        number=st.integers(1, 1000),
        of=st.just(1000),
        values=st.dictionaries(VALUES, VALUES, max_size=2),
    )


@st.composite
def plans(draw: st.DrawFn) -> RunPlan:
    """What may be submitted to any of `clusters()`."""
    agent = draw(st.booleans())
    made = sample_plan("property", draw(sandboxes()), agent=agent)
    repos = (
        PinnedRepo(
            url="https://example.org/repo", name="repo", ref=None, commit="0" * 40, install=install
        )
        for install in draw(st.lists(st.booleans(), max_size=1))
    )
    models = (
        PinnedModel(name=name, revision=None, commit="0" * 40, size=None, secret=secret)
        for name in draw(st.lists(st.sampled_from(["a/b", "a", "A-b.c/D_e"]), max_size=2))
        for secret in [draw(st.one_of(st.none(), SECRETS))]
    )
    base = made.images or PlannedImages(sandbox="", agent="", python="")
    update: dict[str, Any] = {
        "run_id": draw(names(RUN_ID_LENGTH)),
        "name": draw(names(40)),
        "author": draw(VALUES),
        "packages": tuple(draw(st.lists(st.sampled_from(["numpy==2.3.5", "torch==2.9.0"])))),
        "repos": tuple(repos),
        "models": tuple(models),
        "images": base.model_copy(update={"packages": ("numpy==2.3.5",)}),
        "sweep": draw(st.none() | sweep_parts()),
        "prepare_deadline_s": float(draw(st.integers(1, 366 * 86400))),
    }
    return made.model_copy(update=update)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """What an admin may have written, with all that the plans ask for."""
    s3 = {"url": "s3://bucket/a b/ü", "endpointUrl": "http://s3:9000/$(X)", "secret": "s3"}
    changes: dict[str, Any] = {
        "gpuClasses": _CLASSES,
        "volumes": _VOLUMES,
        "records": {"s3": s3} if draw(st.booleans()) else {"claim": "runner-records"},
        "cacheClaim": draw(st.sampled_from([None, "runner-cache"])),
        "secrets": {
            "default": draw(names(63)),
            "git": draw(st.sampled_from([None, "lab-git"])),
        },
        "queue": {"name": draw(st.sampled_from([None, "lab"]))},
        "pods": {
            "terminationGraceS": draw(st.integers(5, 3600)),
            "hostUsers": draw(st.sampled_from([None, False])),
            "env": draw(st.dictionaries(VARIABLES, VALUES, max_size=3)),
            "nodeSelector": draw(st.sampled_from([{}, {"pool": "research"}])),
            "tolerations": draw(st.sampled_from([[], [{"key": "a"}], [{"operator": "Exists"}]])),
        },
    }
    if draw(st.booleans()):
        changes["network"] = {
            "caBundle": "lab-cas",
            "httpProxy": "http://proxy:3128/$(HOME)",
            "noProxy": draw(st.sampled_from([None, ".example.org, 10.0.0.0/8"])),
        }
    return example(**changes)
