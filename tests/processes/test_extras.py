"""Each extra is enough for what it is for, and brings no more than that."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import runner.cli

MODULES = {
    "sandbox": ["runner.sandbox.core", "runner.sandbox.server", "runner.prepare"],
    "agent": [
        "runner.agent.worker",
        "runner.agent.providers.anthropic",
        "runner.agent.providers.scripted",
    ],
    "cli": ["runner.settings", "runner.plan", "runner.session", "runner.submission"],
}
MODULES["local"] = [
    f"runner.api.{name}" for name in ("harness", "sandbox", "sessions", "workspace")
]
MODULES["mcp"] = ["runner.agent.mcp", "runner.cli.mcp"]
MODULES["cli"] += [
    f"runner.cli.{path.stem}" for path in Path(runner.cli.__file__).parent.glob("*.py")
]
ABSENT = {
    "sandbox": {"anthropic", "kubernetes", "docker"},
    "agent": {"jupyter-server", "ipykernel", "kubernetes", "docker"},
    "cli": {"jupyter-server", "ipykernel", "anthropic", "kubernetes"},
    "local": {"kubernetes", "docker", "mcp"},
    "mcp": {"jupyter-server", "ipykernel", "kubernetes", "docker"},
}
PROBE = """
import importlib, sys
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name

allowed, names = set(sys.argv[1].split()), sys.argv[2:]
owners = {m: {canonicalize_name(d) for d in ds} for m, ds in packages_distributions().items()}

class Absent:
    def find_spec(self, name, path=None, target=None):
        distributions = owners.get(name.partition(".")[0], set())
        if distributions and not distributions & allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [m for m in sys.modules if m.partition(".")[0] == "packaging"]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
for name in names:
    importlib.import_module(name)
"""


def closure(extra: str) -> set[str]:
    """Every distribution that `pip install runner[extra]` brings."""
    wanted = {("runner", ""), ("runner", extra)}
    todo = list(wanted)
    while todo:
        name, part = todo.pop()
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker and not requirement.marker.evaluate({"extra": part}):
                continue
            for inner in ("", *requirement.extras):
                found = (canonicalize_name(requirement.name), inner)
                if found not in wanted:
                    wanted.add(found)
                    todo.append(found)
    return {name for name, _ in wanted}


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_all_that_its_modules_import(extra):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, " ".join(closure(extra)), *MODULES[extra]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra", ABSENT)
def test_an_extra_brings_nothing_heavy_that_it_does_not_need(extra):
    assert closure(extra) & ABSENT[extra] == set()


def test_every_dependency_has_an_upper_bound():
    for line in requires("runner") or []:
        name = Requirement(line).name
        assert name == "runner" or re.search(r"<\d", line), line
