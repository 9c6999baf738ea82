"""Two that want the same run at once."""

from __future__ import annotations

from contextlib import ExitStack

from command_line import CommandLine
from invariants import check, counted
from tiny_runs import Lab, cell, end, held, until


def test_two_that_resume_a_run_at_once_and_one_that_uses_its_sandbox(lab: Lab) -> None:
    steps = [cell(counted("a", 3, after=held())), cell(counted("b", 300)), end()]
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir))
    run = lab.submit(steps)
    until(lambda: "a 2" in str(run.journal()), "the cell runs")
    run.kill_agent()
    with ExitStack() as both:
        clients = [
            both.enter_context(line.starting("resume", run.run_id, "--detach")) for _ in range(2)
        ]
        told = [client.end() for client in clients]
    assert sorted(one.status == 0 for one in told) == [False, True], told
    refused = next(one for one in told if one.status)
    assert "goes on already" in refused.words or "another process drives this run" in refused.words
    assert "Traceback" not in refused.words
    with run.session() as other:
        # Waits for its turn behind the agent's cell.
        op = other.run(counted("other", 300), timeout_s=0).op
        run.let_go()
        assert other.wait(op).state == "ok"
    assert run.over().state == "done"
    check(run.path, run.root)
    assert run.status.run
    assert run.status.run.attempts == 2
