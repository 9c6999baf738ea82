from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.experiment import Experiment
from runner.config.load import parse
from runner.config.machine import Gpu, HostVolume, Machine, gpus_for
from runner.config.support import TABLES, refusals
from runner.settings import GPU_CLASSES

GIB = 1024**3
BARE = Machine(os_name="Linux", cores=4, memory_bytes=16 * GIB, gpu_classes=GPU_CLASSES)


def gpu(index: int, name: str) -> Gpu:
    return Gpu(index, f"GPU-{index}", name, 80 * GIB)


RICH = Machine(
    os_name="Linux",
    cores=4,
    memory_bytes=16 * GIB,
    gpus=(
        gpu(0, "NVIDIA A100-SXM4-80GB"),
        gpu(1, "Tesla T4"),
        gpu(2, "NVIDIA A100-SXM4-80GB"),
        gpu(3, "NVIDIA H100 80GB HBM3"),
    ),
    system_packages=frozenset({"git"}),
    pythons={"3.12": "/usr/bin/python3.12"},
    volumes={
        "weights": HostVolume("/srv/weights"),
        "answers": HostVolume("/srv/answers", writable=False),
        "gone": HostVolume("/srv/gone", exists=False),
    },
    gpu_classes=GPU_CLASSES,
)


def experiment(**sandbox: Any) -> Experiment:
    return parse({"name": "x", "task": "Do it.", "sandbox": sandbox}, folder=None)


@pytest.mark.parametrize("backend", TABLES)
def test_every_field_has_a_row(backend: str) -> None:
    keys = set()
    for name, field in Experiment.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        keys |= {f"{name}.{key}" for key in inner} if inner else {name}
    assert set(TABLES[backend]) == keys


@pytest.mark.parametrize("backend", TABLES)
def test_what_is_refused_says_so_in_its_row(backend: str) -> None:
    for key, row in TABLES[backend].items():
        assert row.effect, key
        assert not row.effect.startswith("refused") or row.check, key


def test_defaults_are_never_refused() -> None:
    assert refusals(experiment(), "local", BARE) == []
    spelt_out = experiment(gpu=[], debug=False, models=[], encrypted_ports=[], gpu_count=1)
    assert refusals(spelt_out, "local", BARE) == []
    assert refusals(spelt_out, "kubernetes") == []


@pytest.mark.parametrize(
    "sandbox",
    [
        {"gpu": "A100", "gpu_count": 2},
        {"gpu": ["H200", "H100"]},
        {"gpu": "NVIDIA-H100-80GB-HBM3"},
        {"gpu": "T4"},
        {"system_packages": ["git"]},
        {"python_version": "3.12"},
        {"cpu": "4"},
        {"cpu": "2000m"},
        {"memory": "16Gi"},
        {"disk": "10Gi"},
        {"volumes": [{"name": "weights", "path": "w"}]},
        {"volumes": [{"name": "weights", "path": "/workspace/w"}]},
        {"volumes": [{"name": "answers", "path": "a", "read_only": True}]},
        {"jupyter_port": 8888, "timeout": "3h", "execution_mode": "cli", "env": {"A": "b"}},
    ],
)
def test_what_takes_effect_on_local(sandbox: dict[str, Any]) -> None:
    assert refusals(experiment(**sandbox), "local", RICH) == []


@pytest.mark.parametrize(
    ("sandbox", "key", "words"),
    [
        ({"gpu": "A100", "gpu_count": 3}, "gpu", "NVIDIA A100-SXM4-80GB"),
        ({"gpu": ["H200", "L4"]}, "gpu", "1 × H200 or L4"),
        ({"gpu": "B200"}, "gpu", "Known classes: A100"),
        ({"image": "interp"}, "image", "python_packages"),
        ({"cpu": "500m"}, "cpu", "fraction"),
        ({"cpu": 8}, "cpu", "This machine has 4."),
        ({"memory": "17Gi"}, "memory", "16.0Gi"),
        ({"system_packages": ["git", "jq"]}, "system_packages", "sudo apt-get install jq"),
        ({"python_version": "3.13"}, "python_version", "uv python install 3.13"),
        ({"volumes": [{"name": "x", "path": "x"}]}, "volumes[0].name", "weights, answers"),
        ({"volumes": [{"name": "gone", "path": "x"}]}, "volumes[0].name", "no /srv/gone"),
        ({"volumes": [{"name": "weights", "path": "/data"}]}, "volumes[0].path", "/workspace"),
        (
            {"volumes": [{"name": "weights", "path": "w", "read_only": True}]},
            "volumes[0].read_only",
            "write permission",
        ),
        ({"queue": "team"}, "queue", "kubernetes"),
        ({"priority": "low"}, "priority", "kubernetes"),
        ({"on_disruption": "resume"}, "on_disruption", "kubernetes"),
        ({"docker_in_docker": True}, "docker_in_docker", "privileged"),
        ({"debug": True}, "debug", "runner shell"),
        ({"encrypted_ports": [8080]}, "encrypted_ports", "runner open"),
        (
            {"models": ["c", {"name": "a/b", "var_name": "m", "hidden": True}]},
            "models[1].hidden",
            "--backend docker or kubernetes",
        ),
    ],
)
def test_what_local_refuses(sandbox: dict[str, Any], key: str, words: str) -> None:
    (error,) = refusals(experiment(**sandbox), "local", RICH, file="e.toml")
    assert error.key == f"sandbox.{key}"
    assert error.file == "e.toml"
    assert error.exit_status == 2
    assert error.hint
    assert words in str(error)


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [
        ({"docker_in_docker": True}, "privileged"),
        ({"debug": True}, "runner shell"),
        ({"encrypted_ports": [8080]}, "runner open"),
        ({"jupyter_port": 8888}, "no such key on `kubernetes`: a pod has its ports to itself"),
    ],
)
def test_what_no_cluster_can_do(sandbox: dict[str, Any], words: str) -> None:
    (error,) = refusals(experiment(**sandbox), "kubernetes", file="e.toml")
    (key,) = sandbox
    assert error.key == f"sandbox.{key}"
    assert error.hint
    assert words in str(error)


HIDDEN = {"name": "lab/organism-3", "var_name": "m", "hidden": True}
ADAPTER = {"name": "lab/tuned", "var_name": "t", "is_peft": True, "base_model": "lab/organism-3"}


@pytest.mark.parametrize("backend", ["local", "docker", "kubernetes"])
def test_names_of_models_are_hidden_in_containers_alone(backend: str) -> None:
    visible = HIDDEN | {"hidden": False, "revision": "v1", "secret": "HUB_TOKEN"}
    assert refusals(experiment(models=[visible]), backend, BARE) == []
    found = refusals(experiment(models=[HIDDEN]), backend, BARE)
    assert [error.key for error in found] == ["sandbox.models[0].hidden"] * (backend == "local")


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [
        ({"models": [HIDDEN, {"name": "lab/organism-3", "revision": "v1"}]}, "wherever it is"),
        ({"models": [HIDDEN, ADAPTER]}, "an adapter whose base is hidden, found false"),
        ({"models": [HIDDEN], "env": {"MODEL": "the ORGANISM-3"}}, "found it in `sandbox.env`"),
        ({"models": [HIDDEN], "repos": ["lab/organism-3"]}, "found it in `sandbox.repos`"),
        (
            {"models": [ADAPTER | {"hidden": True}], "env": {"BASE": "models--lab--organism-3"}},
            "found it in `sandbox.env`",
        ),
    ],
)
def test_a_name_that_is_told_elsewhere_is_not_hidden(sandbox: dict[str, Any], words: str) -> None:
    for backend in ("docker", "kubernetes"):
        (error,) = refusals(experiment(**sandbox), backend, RICH)
        assert words in str(error)
    fine = {**sandbox, "env": {"MODEL": "organism-30, disorganism-3"}, "repos": []}
    assert [e for e in refusals(experiment(**fine), "docker", RICH) if ".env" in str(e)] == []


def test_what_only_a_cluster_knows_is_not_refused_without_it() -> None:
    asked = experiment(
        image="torch",
        gpu=["B200"],
        python_version="3.13",
        system_packages=["jq"],
        cpu="500m",
        volumes=[{"name": "x", "path": "/data", "read_only": True}],
        queue="team",
        priority="low",
        on_disruption="resume",
    )
    assert refusals(asked, "kubernetes") == []


def test_cpu_needs_linux() -> None:
    mac = Machine(os_name="Darwin", cores=8, memory_bytes=GIB)
    (error,) = refusals(experiment(cpu=2), "local", mac)
    assert "Darwin" in str(error)


def test_a_machine_without_gpus_says_so() -> None:
    (error,) = refusals(experiment(gpu="A100"), "local", BARE)
    assert "nvidia-smi lists none" in str(error)


def test_all_refusals_are_told() -> None:
    keys = [e.key for e in refusals(experiment(image="x", gpu="L4", queue="q"), "local", RICH)]
    assert keys == ["sandbox.image", "sandbox.gpu", "sandbox.queue"]


@pytest.mark.parametrize(
    ("sandbox", "indices"),
    [
        ({}, []),
        ({"gpu": "A100"}, [0]),
        ({"gpu": "A100", "gpu_count": 2}, [0, 2]),
        ({"gpu": ["H200", "H100", "A100"]}, [3]),
        ({"gpu": "A100-any", "gpu_count": 2}, [0, 2]),
        ({"gpu": "T4"}, [1]),
    ],
)
def test_gpus_for(sandbox: dict[str, Any], indices: list[int]) -> None:
    found = gpus_for(experiment(**sandbox).sandbox, RICH)
    assert found is not None
    assert [g.index for g in found] == indices


def test_a_mig_slice_is_no_whole_gpu() -> None:
    sliced = Machine("Linux", 4, GIB, (gpu(0, "NVIDIA A100-SXM4-80GB MIG 1g.10gb"),))
    assert gpus_for(experiment(gpu="A100").sandbox, sliced) is None


def test_the_docs_pages_are_current() -> None:
    from runner import docs_tables

    docs = Path(__file__).parent.parent / "docs"
    assert (docs / "fields.md").read_text("utf-8") == docs_tables.fields_page()
    assert (docs / "settings.md").read_text("utf-8") == docs_tables.settings_page()
    security = (docs / "security.md").read_text("utf-8")
    roles = yaml.safe_load((docs.parent / "charts" / "runner" / "roles.yaml").read_text("utf-8"))
    assert security == docs_tables.with_roles(security, roles)
    for key in TABLES["local"]:
        assert f"| `{key.split('.')[-1]}` |" in docs_tables.fields_page()
