"""What a person waits for: `--help`, `list` with 1,000 runs, `status`, beside Python's own start.

`python bench/commands.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

from command_line import CommandLine
from figures import Figure, Target, in_turn, run
from tiny_runs import Lab, cell, end

FLOOR = "python -c pass"


def records(lab: Lab, count: int) -> None:
    """So many records: one run, and copies of it under other names."""
    made = lab.submit([cell("1+1"), end()])
    made.over()
    for number in range(1, count):
        name = f"{made.run_id[:-4]}{number:04}"
        copy = made.path.with_name(name)
        shutil.copytree(made.path, copy)
        for file in (copy / "run.json", copy / "transcript.jsonl"):
            file.write_text(file.read_text().replace(made.run_id, name))


def measure(top: Path, quick: bool) -> list[Figure]:
    """Each command in turn, in a directory with that many records."""
    count, rounds = (20, 3) if quick else (1_000, 15)
    lab = Lab(top / "lab", backend="local")
    records(lab, count)
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir))

    def command(*words: str) -> None:
        told = line(*words)
        assert told.status == 0, told

    ways = {
        FLOOR: lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
        "--help": lambda: command("--help"),
        f"list, {count:,} runs": lambda: command("list"),
        f"status, {count:,} runs": lambda: command("status"),
    }
    taken = in_turn(ways, rounds, warm=1)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    assert len(line("list").out.splitlines()) == count + 1
    lab.close()
    return [
        Figure("a command", name, middle[name], "s", FLOOR, middle[FLOOR],
               Target("figure", most=0.3 if name == "--help" else 0.6))
        for name in ways
        if name != FLOOR
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
