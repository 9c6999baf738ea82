"""`python -m runner.backends.kubernetes.samples`: writes k8s/, every object that a run makes.

A sample is an entry of SAMPLES; tests/test_manifests.py holds the files to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from runner.backends.kubernetes import manifests
from runner.cluster import Cluster, example
from runner.config.experiment import WorkspaceConfig
from runner.config.load import load, parse
from runner.names import numbered
from runner.plan import InputFile, PinnedModel, PinnedRepo, PlannedImages, RunPlan, SweepPart

FOLDER = Path(__file__).parents[3] / "k8s"

OWNER = {"metadata": {"name": "", "uid": "00000000-0000-0000-0000-000000000000"}}
"""A Job as the API server has it; each has a UID of its own there."""

Objects = list[dict[str, Any]]

_COMMIT = "1f7e682c9d50f2c673598f18be3b4933785429d2"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_OTHERS = {"A100": ["NVIDIA-A100-SXM4-80GB"], "H100": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"]}
_GPU_CLASSES = {name: {"values": values} for name, values in _OTHERS.items()}


def plan(name: str, sandbox: Mapping[str, Any], *, agent: bool = True, **changes: Any) -> RunPlan:
    """A plan as `submit` makes it, of an experiment with this sandbox."""
    experiment = {
        "name": name,
        "task": "Say which of the two checkpoints refuses more often.\nWrite it to outputs/.",
        "sandbox": dict(sandbox),
    }
    data: dict[str, Any] = {
        "run_id": f"{name}-270301-0907-x7k2",
        "name": name,
        "author": "Zoë Müller",
        "created": "2027-03-01T09:07:00.000Z",
        "backend": "kubernetes",
        "experiment": parse(experiment, folder=None, file=name),
        "python": "3.11.2",
        "images": _images(),
        "prepare_deadline_s": 1800.0,
        "start_deadline_s": 120.0,
        "agent": agent,
        "versions": {"runner": "0.1.0"},
    }
    return RunPlan.model_validate({**data, **changes})


def objects(plan: RunPlan, cluster: Cluster, number: int = 1) -> Objects:
    """What `submit` makes, in its order; the token and the record that travels are left out."""
    job = manifests.job(plan, cluster, number)
    made = {"metadata": {**OWNER["metadata"], "name": job["metadata"]["name"]}}
    owner = manifests.owner_reference(made)
    agent = {"reason": "started"} if plan.agent else {}
    return [
        job,
        manifests.secret(plan, number, owner, "a token of this run's own"),
        manifests.config_map(plan, number, owner, None, agent),
    ]


def cpu() -> Objects:
    """No GPU: everything else at its default."""
    return objects(plan("cpu", {"python_packages": ["pandas"]}), example())


def a100() -> Objects:
    """A GPU class with one kind of node: a nodeSelector."""
    sandbox = {"gpu": "A100", "cpu": 8, "memory": "64Gi", "disk": "200Gi", "timeout": "2h"}
    return objects(plan("a100", sandbox), example())


def gpu_choice() -> Objects:
    """Two GPU classes, the first preferred; on nodes that need a runtime class."""
    classes = {name: {**gpu, "runtimeClassName": "nvidia"} for name, gpu in _GPU_CLASSES.items()}
    sandbox = {"gpu": ["H100", "A100"], "gpu_count": 2}
    return objects(plan("gpu-choice", sandbox), example(gpuClasses=classes))


def kueue() -> Objects:
    """A run of a sweep, on a cluster with a queue: the Job when it has been released."""
    cluster = example(queue={"name": "gpus", "priorityClass": "normal"})
    asked = {"gpu": "A100", "on_disruption": "fail", "env": {"SEED": "3"}}
    part = SweepPart(id="kueue-270301-0907-x7k2", number=3, of=20, values={"sandbox.env.SEED": "3"})
    made = plan("kueue", asked, run_id=numbered(part.id, part.number, part.of), sweep=part)
    return [manifests.job(made, cluster, 1, suspended=False), *objects(made, cluster)[1:]]


def s3() -> Objects:
    """Records in S3, behind a proxy, with CAs of the lab's own."""
    cluster = example(
        records={
            "s3": {
                "url": "s3://lab-records/runs",
                "endpointUrl": "https://s3.example.org",
                "region": "eu-central-1",
                "secret": "runner-s3",
            }
        },
        network={
            "caBundle": "lab-cas",
            "httpsProxy": "http://proxy.example.org:3128",
            "noProxy": ".example.org,10.0.0.0/8",
        },
    )
    return objects(plan("s3", {}), cluster)


def sandbox() -> Objects:
    """A sandbox alone, which a script drives; it ends when nobody has used it."""
    return objects(plan("sandbox", {"gpu": "A100", "idle_timeout": "30m"}, agent=False), example())


def everything() -> Objects:
    """Models (one hidden), repos, packages, secrets, volumes, inputs, caches; a second attempt."""
    cluster = example(
        secrets={
            "named": {"HF_TOKEN": {"secret": "hugging-face", "key": "token"}},
            "git": "lab-git",
        },
        volumes={
            "models": {"claim": "lab-models"},
            "scratch": {"claim": "lab-scratch", "subPath": "runner", "readOnly": False},
        },
        cacheClaim="runner-cache",
        pods={
            "labels": {"cost-center": "interpretability"},
            "annotations": {"example.org/contact": "lab@example.org"},
            "nodeSelector": {"pool": "research"},
            "tolerations": [{"key": "research", "operator": "Exists"}],
            "hostUsers": False,
            "env": {"UV_INDEX_URL": "https://packages.example.org/simple"},
        },
        images={**example().images.model_dump(by_alias=True), "pullSecrets": ["registry"]},
    )
    url = "https://github.com/nickjiang2378/interp_embed"
    asked = {
        "gpu": "A100",
        "repos": [{"url": url, "install": True}],
        "python_packages": ["pandas", "sae-lens"],
        "env": {"GREETING": 'a "quoted" $(PATH) = ünïcode\nand a second line'},
        "secrets": ["HF_TOKEN", "OPENROUTER_API_KEY"],
        "volumes": [
            {"name": "models", "path": "/models", "read_only": True},
            {"name": "scratch", "path": "scratch"},
        ],
        "models": [
            {"name": "lab/tiny", "secret": "HF_TOKEN"},
            {"name": "lab/organism-3", "var_name": "model", "hidden": True},
        ],
        "priority": "high",
    }
    model = {"name": "lab/tiny", "revision": None, "commit": _COMMIT, "size": 4_000_000}
    organism = PinnedModel(
        name="lab/organism-3",
        revision=None,
        commit=_COMMIT[::-1],
        size=4_000_000,
        secret=None,
        var_name="model",
        tokenizer="tokenizer",
        hidden=True,
    )
    made = plan(
        "everything",
        asked,
        repos=(PinnedRepo(url=url, name="interp_embed", ref=None, commit=_COMMIT, install=True),),
        models=(PinnedModel.model_validate(model | {"secret": "HF_TOKEN"}), organism),
        packages=("numpy==2.3.5", "pandas==2.3.3", "sae-lens==6.22.0"),
        images=_images("numpy==2.3.5", "pandas==2.3.3"),
        inputs=(InputFile(path="data/prompts.csv", sha256=_SHA256, bytes=4, mode=0o644),),
    )
    return objects(made, cluster, number=2)


def checkpoint_diffing() -> Objects:
    """The experiment of this name, as `submit` would start it; its packages are not resolved."""
    folder = FOLDER.parent / "experiments" / "checkpoint-diffing"
    experiment = load(folder / "experiment.toml", None)
    inputs = [
        InputFile(
            path=file.name, sha256=sha256(file.read_bytes()).hexdigest(), bytes=file.stat().st_size,
            mode=0o644,
        )
        for file in experiment.workspace.libraries
    ]  # fmt: skip
    repos = [
        PinnedRepo(url=repo.url, name=repo.name, ref=repo.ref, commit=_COMMIT, install=False)
        for repo in experiment.sandbox.repos
    ]
    # Where the files lie on this machine is not for a sample.
    shown = experiment.model_copy(update={"workspace": WorkspaceConfig()})
    pins = ("goodfire==0.3.4", "pandas==2.2.3", "scikit-learn==1.6.1")
    made = plan(
        "checkpoint-diffing", {}, experiment=shown, inputs=inputs, repos=repos, packages=pins
    )
    return objects(made, example())


def store_pod() -> Objects:
    """Gives a client access to the record of a run whose own pod is gone."""
    name = "cpu-270301-0907-x7k2-store"
    return [manifests.store_pod("cpu-270301-0907-x7k2", example(), name=name, seconds=600)]


def probe_pods() -> Objects:
    """What `runner doctor --probe` starts, for some seconds."""
    return manifests.probe_pods("probe-x7k2", example(), seconds=600)


SAMPLES: Mapping[str, Callable[[], Objects]] = {
    "cpu": cpu,
    "a100": a100,
    "gpu-choice": gpu_choice,
    "kueue": kueue,
    "s3": s3,
    "sandbox": sandbox,
    "everything": everything,
    "checkpoint-diffing": checkpoint_diffing,
    "store-pod": store_pod,
    "probe-pods": probe_pods,
}
"""By the name of their file in k8s/."""


def text(made: Objects) -> str:
    """Objects as one file of YAML."""
    return yaml.dump_all(
        made, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, explicit_start=True
    )


def main() -> None:
    """Write every sample into k8s/, and remove the files of those that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.yaml"):
        if file.stem not in SAMPLES:
            file.unlink()
    for name, make in SAMPLES.items():
        (FOLDER / f"{name}.yaml").write_text(text(make()), "utf-8")


def _images(*packages: str) -> PlannedImages:
    cluster = example()
    base = cluster.images.catalogue[0]
    return PlannedImages(
        sandbox=base.image, agent=cluster.images.agent, python=base.python, packages=packages
    )


class _Dumper(yaml.SafeDumper):
    """Several lines of text as such; nothing by reference."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _lines(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _lines)


if __name__ == "__main__":
    main()
