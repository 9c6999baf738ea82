"""Everything of a run stands still for a while, one after the other, and goes on."""

from __future__ import annotations

import signal
import time

import pytest
from command_line import CommandLine
from invariants import NotebookReader, check, counted
from tiny_runs import Lab, cell, end, held, until
from victims import find, strike

PARTS = ("worker", "supervisor", "server", "kernel", "init")


@pytest.mark.timeout(600)
def test_what_stands_still_goes_on(lab: Lab, stall_s: float) -> None:
    source = counted("a", 40, every_s=0.02 * stall_s, after=held())
    file = lab.write([cell(source, timeout=3600), cell(counted("b", 300)), end()])
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir))
    with line.starting("submit", str(file)) as client:
        run = lab.adopt(lab.backend.attach(client.run_id))
        notebooks = (run.path / "notebook.ipynb", run.root / "workspace" / "notebook.ipynb")
        with NotebookReader(*notebooks):
            until(lambda: "a 1" in str(run.journal()), "the cell runs")
            for part in PARTS:
                process = find(run, part)
                assert len(process) == 1, part
                assert strike(run, part, signal.SIGSTOP) == [process[0].pid]
                time.sleep(stall_s)
                assert strike(run, part, signal.SIGCONT) == [process[0].pid]
            client.process.send_signal(signal.SIGSTOP)
            time.sleep(stall_s)
            run.let_go()
            assert run.over().state == "done"
            client.process.send_signal(signal.SIGCONT)
        assert client.end().status == 0
    check(run.path, run.root)
    state = lab.backend.status(run.handle).run
    assert (state.attempts, len(state.sandboxes)) == (1, 1)
    assert {line["state"] for line in run.journal() if line["type"] == "end"} == {"ok"}
