"""The smallest script: a sandbox, files and a helper in its notebook, an agent, what it made.

`python run.py` with ANTHROPIC_API_KEY; `python run.py --scripted` plays an agent, without a key.
"""

import argparse
import asyncio
import csv
import io
import json
import random
import sys
from pathlib import Path

from runner import (
    Library,
    Sandbox,
    SandboxConfig,
    Workspace,
    create_notebook_session,
    run_agent,
)

HERE = Path(__file__).parent
PLANTED = {"group": "c", "slope": 2.5}
"""In the measurements: the group that responds to the dose, and by how much."""


def measurements() -> str:
    """A table of 600 measurements in four groups, made anew each time with the same seed."""
    rng = random.Random(7)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["group", "dose", "response"])
    for _ in range(600):
        group, dose = rng.choice("abcd"), rng.uniform(0, 4)
        slope = PLANTED["slope"] if group == PLANTED["group"] else 0.0
        table.writerow([group, f"{dose:.3f}", f"{slope * dose + rng.gauss(5, 3):.3f}"])
    return text.getvalue()


async def main(scripted: bool) -> int:
    """Run it; the exit status: 0 where the agent found what is planted."""
    agent = {"provider": "scripted", "script": HERE / "script.json"} if scripted else {}
    with Sandbox(SandboxConfig(timeout="30m"), name="sandbox-intro") as sandbox:
        print("run", sandbox.run_id, flush=True)
        print(sandbox.exec("python --version && nproc"), end="", flush=True)
        sandbox.write_file("/workspace/data/measurements.csv", measurements())
        workspace = Workspace(
            libraries=[Library.from_file(HERE / "fit.py")],
            custom_init_code="import csv, json, pathlib",
        )
        session = create_notebook_session(sandbox, workspace)
        task = (HERE / "task.md").read_text()
        async for message in run_agent(task, session.mcp_config, max_turns=30, **agent):
            print(f"[{message.role}] {message.text[:400]}", flush=True)
        finding = json.loads(sandbox.read_file("outputs/finding.json"))
    close = abs(finding["slope"] - PLANTED["slope"]) < 0.5
    right = finding["group"] == PLANTED["group"] and close
    print("found", json.dumps(finding), "planted", json.dumps(PLANTED))
    print("right" if right else "wrong")
    return 0 if right else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="play an agent, without a key")
    sys.exit(asyncio.run(main(parser.parse_args().scripted)))
