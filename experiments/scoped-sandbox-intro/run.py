"""An agent finds out what a feature of a model means that it can only call.

`python run.py` with ANTHROPIC_API_KEY; `python run.py --scripted` plays an agent, without a key.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from runner import (
    Sandbox,
    SandboxConfig,
    ScopedSandbox,
    Workspace,
    create_notebook_session,
    run_agent,
)

HERE = Path(__file__).parent
PLANTED = {"feature": 29, "responds_to": "negation"}
"""What interface.py has in it; the sandbox of the agent never sees either file."""


async def main(scripted: bool) -> int:
    """Run it; the exit status: 0 where the agent found what is planted."""
    agent = {"provider": "scripted", "script": HERE / "script.json"} if scripted else {}
    config = SandboxConfig(python_packages=["numpy"], timeout="1h")
    with (
        ScopedSandbox(config, name="model") as model,
        Sandbox(config, name="scoped-sandbox-intro") as sandbox,
    ):
        tools = model.serve(HERE / "interface.py", expose_as="library")
        session = create_notebook_session(sandbox, Workspace(libraries=[tools]))
        print("run", sandbox.run_id, "calls", model.run_id, flush=True)
        task = (HERE / "task.md").read_text()
        async for message in run_agent(task, session.mcp_config, max_turns=40, **agent):
            print(f"[{message.role}] {message.text[:400]}", flush=True)
        finding = json.loads(sandbox.read_file("outputs/finding.json"))
    found = {key: finding.get(key) for key in PLANTED}
    print("found", json.dumps(finding), "planted", json.dumps(PLANTED))
    print("right" if found == PLANTED else "wrong")
    return 0 if found == PLANTED else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="play an agent, without a key")
    sys.exit(asyncio.run(main(parser.parse_args().scripted)))
