"""How often is the pipeline right? `python recovery.py 100` plays the cells on seeds 0 to 99.

Each seed is played twice: with the checkpoints as they are, where the planted habits
and nothing else must be found, and with checkpoint A on both sides, where nothing must.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def cells() -> list[Path]:
    """The cells that the script runs, in its order."""
    steps = json.loads((HERE / "script.json").read_text(encoding="utf-8"))["steps"]
    calls = [call for step in steps for call in step.get("tools", [])]
    return [HERE / call["input"]["source_file"] for call in calls if call["name"] == "run_cell"]


def play(workspace: Path, seed: int, *, same: bool = False) -> list[dict[str, Any]]:
    """Run all cells in an empty directory, as the sandbox would; returns the findings.

    With `same`, checkpoint A stands on both sides. `lib` must be importable. Outputs
    are left in `workspace`; what the cells print is dropped.
    """
    shutil.copytree(HERE / "data", workspace / "data")
    if same:
        shutil.copy(workspace / "data/checkpoint_a.npz", workspace / "data/checkpoint_b.npz")
    os.environ["SEED"] = str(seed)
    names: dict[str, Any] = {}
    with contextlib.chdir(workspace), contextlib.redirect_stdout(io.StringIO()):
        for cell in cells():
            exec(compile(cell.read_text(encoding="utf-8"), cell.name, "exec"), names)  # noqa: S102
    names["plt"].close("all")
    return list(names["findings"])


def main(seeds: int) -> None:
    """Print how many of the seeds came out right, and each one that did not."""
    from score import score

    right = nothing = 0
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as directory:
            play(Path(directory), seed)
            result = score(Path(directory) / "outputs")
        with tempfile.TemporaryDirectory() as directory:
            findings = play(Path(directory), seed, same=True)
        right += result["score"] == 1
        nothing += not findings
        if result["score"] != 1 or findings:
            print(f"seed {seed}: A and B: {result}; A on both sides: {findings}")
    print(f"the planted habits and nothing else: {right} of {seeds}")
    print(f"nothing, with A on both sides: {nothing} of {seeds}")


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.path.insert(0, str(HERE / "lib"))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
