"""A run is carried out again, and what came out differently is told: on every backend."""

from __future__ import annotations

import pytest
from tiny_runs import Lab, cell, end, tool, until

from runner.api.replay import replay
from runner.compare.outputs import Verdict
from runner.record import Record
from runner.record.verify import verify

TIME = "import time\nprint('now', time.time_ns() % 10**9)"


@pytest.mark.timeout(300)
def test_a_run_is_carried_out_again(lab: Lab) -> None:
    steps = [
        tool("write_file", path="seed.txt", content="7"),
        cell("seed = int(open('seed.txt').read())\nprint(seed, open('given.txt').read())"),
        cell(TIME),
        cell("seed / 0"),
        tool("run_shell", command="ls *.txt; echo made > outputs/made.txt"),
        tool("run_shell", command="date +%N"),
        tool("restart_kernel"),
        cell("print('seed' in globals())\nopen('outputs/time', 'w').write(str(time.time_ns()) if 'time' in globals() else 'none')"),
        cell("import os; os._exit(1)"),
        tool("restart_kernel"),
        cell("print('a new kernel')"),
        end(),
    ]  # fmt: skip
    given = '[sandbox]\nlocal_files = [["given.txt", "given.txt"]]\n'
    run = lab.submit(steps, given, {"given.txt": "given"})
    assert run.over().state == "done", run.log()
    said: list[str] = []
    found = replay(run.path, lab.settings, said.append)
    handle = lab.backend.attach(found.run_id)
    lab.adopt(handle)
    told = {(item.kind, item.what): item.difference for item in found.compared}
    verdicts = {key: difference.verdict for key, difference in told.items()}
    assert verdicts == {
        ("cell", "seed = int(open('seed.txt').read())"): Verdict.SAME,
        ("cell", "import time"): Verdict.DIFFERS,
        ("cell", "seed / 0"): Verdict.SAME,
        ("shell", "ls *.txt; echo made > outputs/made.txt"): Verdict.SAME,
        ("shell", "date +%N"): Verdict.DIFFERS,
        ("cell", "print('seed' in globals())"): Verdict.SAME,
        ("cell", "print('a new kernel')"): Verdict.SAME,
        ("file", "outputs/made.txt"): Verdict.SAME,
        ("file", "outputs/time"): Verdict.SAME,
    }
    assert "'now " in told["cell", "import time"].words
    assert found.left_out == ("cell import os; os._exit(1): its kernel died",)
    assert found.verdict is Verdict.DIFFERS
    assert "11 of 11: cell print('a new kernel')" in said
    state = Record.open(found.record).state()
    assert (state.state, state.plan["repeats"], state.plan["agent"]) == ("done", run.run_id, False)
    assert verify(found.record).ok
    until(lambda: not lab.backend.status(handle).sandbox_alive, "its sandbox ends", 30)
