"""CPU time of what waits: a sandbox server that nobody uses, a client attached to a silent run.

`python bench/idle.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import psutil
from command_line import CommandLine
from figures import Figure, Target, run
from sandbox_process import sandbox
from tiny_runs import Lab, cell, end, held

GROUP = "CPU of what is idle"


def measure(top: Path, quick: bool) -> list[Figure]:
    """Both over the same time, once they have settled."""
    settle_s, over_s = (1, 3) if quick else (10, 60)
    lab = Lab(top / "lab", backend="local")
    running = lab.submit([cell(held(before="print('begun', flush=True)")), end()])
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir))
    (top / "s").mkdir()
    with sandbox(top / "s") as box, line.starting("attach", running.run_id) as attached:
        box.session().close()
        assert box.process is not None
        attached.said(r"begun")
        processes = {
            "a sandbox server": psutil.Process(box.process.pid),
            "the sandbox server of a run whose cell is silent": psutil.Process(running.server),
            "an attached client": psutil.Process(attached.process.pid),
        }
        time.sleep(settle_s)
        before = {name: _used_s(process) for name, process in processes.items()}
        began = time.monotonic()
        time.sleep(over_s)
        lasted = time.monotonic() - began
        share = {name: (_used_s(p) - before[name]) / lasted for name, p in processes.items()}
        running.let_go()
        assert attached.end().status == 0
    running.over()
    lab.close()
    target = Target("figure", most=1.0)
    return [Figure(GROUP, name, 100 * used, "% of a core", target=target)
            for name, used in share.items()]  # fmt: skip


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    run(measure, __doc__)
