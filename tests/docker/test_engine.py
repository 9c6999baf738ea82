"""An engine that goes away and comes back."""

from __future__ import annotations

import gc

# pytest asks it about each forgotten socket. Imported then, in the midst of a collection that
# finds another one, it is asked before it is whole.
import tracemalloc  # noqa: F401
from pathlib import Path

import pytest
from docker_lab import DockerLab
from labcluster import engine
from labcluster.processes import ours
from tiny_runs import cell, end, held, until

from runner.errors import RunnerError
from runner.record.verify import verify

pytestmark = [
    pytest.mark.docker,
    pytest.mark.alone,
    # The SDK forgets the sockets with which it did not get to an engine.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_an_engine_that_is_started_again_loses_no_record(lab: DockerLab, tmp_path: Path) -> None:
    assert ours("dockerd"), "it is the lab's own engine that is stopped here"
    source = held("open('outputs/kept.txt', 'w').write('k'); print('here')")
    run = lab.submit([cell(source), cell("print('after')"), end()])
    run.wait_for_output("kept.txt")
    until(lambda: (run.synced().path / "outputs" / "kept.txt").exists(), "it is in the record")
    done = lab.submit([cell("print('whole')"), end()])
    done.over()
    engine.down()
    try:
        with pytest.raises(RunnerError, match=r"the engine is gone|no Docker engine answers"):
            lab.backend.sync(run.handle)
        assert done.status.state == "done", "its record is here"
    finally:
        engine.up()
    status = run.synced().status
    assert status.state == "interrupted"
    assert "the agent was told to leave (SIGTERM)" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    assert "here" in (run.path / "notebook.ipynb").read_text()
    run.resume()
    run.let_go()
    assert run.over().state == "done"
    assert verify(run.path, None).ok
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = DockerLab(elsewhere)
    there = other.adopt(other.backend.attach(done.run_id))
    assert there.synced().status.state == "done"
    assert "whole" in (there.path / "notebook.ipynb").read_text()
    other.runs.clear()
    other.close()
    gc.collect()
