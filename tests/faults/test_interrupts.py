"""Code that does not heed an interrupt: it is told, and ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from invariants import RAN, check, check_journal, counted
from sandbox_process import sandbox, until
from tiny_runs import Lab, cell, end

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
STUBBORN = (
    "while True:\n    try: time.sleep(1000)\n    except KeyboardInterrupt: print('no', flush=True)"
)


@pytest.mark.long
@pytest.mark.parametrize("after", [f"{DEAF}; time.sleep(1000)", STUBBORN], ids=["deaf", "stubborn"])
def test_a_cell_that_ignores_interrupts_is_killed_and_says_so(tmp_path: Path, after: str) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        op = session.run(counted("a", 3, after=after), timeout_s=0).op
        until(lambda: "a 2" in session.wait(op, timeout_s=0).text, what="it runs")
        asked = session.interrupt(op)
        assert not asked.final
        assert "has not heeded the interrupt" in asked.warnings[-1]
        assert "all variables are gone then" in asked.warnings[-1]
        ended = session.wait(op, timeout_s=90)
        assert ended.state == "kernel_died"
        assert "ignored an interrupt" in ended.reason
        assert session.restart().state == "ok"
        assert session.run(counted("b", 1)).text == "b 0\n"
        # The end of one that was asked twice comes once.
        check_journal(box.journal(), box.workspace / RAN)


def test_a_command_that_ignores_interrupts_is_killed_and_says_so(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        op = session.shell("trap '' INT; echo begun; while true; do sleep 1; done", timeout_s=0).op
        until(lambda: "begun" in session.wait(op, timeout_s=0).text, what="it runs")
        ended = session.interrupt(op, timeout_s=30)
        assert ended.state == "interrupted"
        assert "ignored it" in ended.reason


def test_a_run_that_is_over_ends_what_ignores_it_and_what_waits(lab: Lab) -> None:
    deaf = counted("a", 3, before=DEAF, after="time.sleep(1000)")
    run = lab.submit([cell(deaf, timeout=3), cell(counted("b", 1), timeout=1), end()])
    assert run.over().state == "done"
    check(run.path, run.root)
    states = {line["cell"]: line["state"] for line in run.journal() if line["type"] == "end"}
    assert [state for cell, state in states.items() if cell] == ["restarted", "restarted"]
