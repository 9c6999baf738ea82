"""Each process of a run is killed at moments of its own; the run loses nothing by it."""

from __future__ import annotations

from invariants import NotebookReader, check, counted
from tiny_runs import Lab, cell, end


def test_an_undisturbed_run(lab: Lab) -> None:
    run = lab.submit([cell(counted(f"c{n}", 20)) for n in range(4)] + [end()])
    with NotebookReader(run.path / "notebook.ipynb", run.root / "workspace" / "notebook.ipynb"):
        assert run.over().state == "done"
    check(run.path, run.root)
