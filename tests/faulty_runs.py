"""Experiments that go wrong in time, and what the cluster has of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from command_line import CommandLine, Started
from tiny_runs import Step, cell, end, held, until

from runner.backends.kubernetes import objects
from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.snapshot import Snapshot

LONG_S = 120.0
"""For what takes seconds on a machine that is not busy."""
QUICK: list[Step] = [cell("open('outputs/a.txt', 'w').write('a')"), end()]
HELD: list[Step] = [
    cell(held("open('outputs/kept.txt', 'w').write('k')")),
    # Whoever lets it go has time to hear so before the sandbox ends.
    cell("import time; time.sleep(2)"),
    end(),
]
GPU = '[sandbox]\ngpu = ["A100"]\n'


class Cluster:
    """A namespace with the chart, as its admin and as its user have it."""

    def __init__(self, client: Client, line: CommandLine) -> None:
        self.client, self.line = client, line

    def objects(self, run_id: str) -> list[str]:
        """Everything of a run."""
        kinds = ("jobs", "pods", "secrets", "configmaps")
        found = (
            (kind, item)
            for kind in kinds
            for item in self.client.list(kind, labels=f"runner/run={run_id}")
        )
        return [f"{kind}/{item['metadata']['name']}" for kind, item in found]

    def snapshot(self, run_id: str) -> Snapshot:
        """How its last Job stands."""
        return objects.snapshot(self.client, run_id)

    def until(
        self, run_id: str, true: Callable[[Snapshot], Any], what: str, deadline_s: float = LONG_S
    ) -> Any:
        """Wait for what the cluster is to show of a run."""
        return until(lambda: true(self.snapshot(run_id)), f"{run_id}: {what}", deadline_s)

    def gone(self, run_id: str) -> None:
        """Nothing of it is left, soon."""
        until(lambda: not self.objects(run_id), f"{run_id} leaves nothing", LONG_S)

    @contextmanager
    def submitted(self, *words: str) -> Iterator[tuple[Started, str]]:
        """A `submit` that follows its run, and the run's id."""
        with self.line.starting("submit", *words) as started:
            yield started, started.run_id


def only_run(line: CommandLine) -> str:
    """The one that this directory knows of."""
    [found] = (line.folder / "runs").iterdir()
    return found.name


def made(path: Path) -> set[str]:
    """What is in the outputs of a record."""
    return {file.name for file in (path / "outputs").iterdir()}


def write(line: CommandLine, steps: Sequence[Step], toml: str = "") -> str:
    """An experiment with a scripted agent in the directory; the name of its file."""
    (line.folder / "script.json").write_text(json.dumps({"steps": list(steps)}))
    agent = '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
    file = line.folder / "experiment.toml"
    file.write_text(f'name = "tiny"\ntask = "Do it."\n{toml}\n{agent}')
    return file.name
