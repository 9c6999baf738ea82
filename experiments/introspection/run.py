"""An agent finds out which injected concepts a model notices, and after which layers.

`python run.py` with ANTHROPIC_API_KEY; `python run.py --scripted` plays an agent, without a key.
`python run.py --model google/gemma-3-27b-it --gpu H100` asks a real model.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner import (
    Library,
    ModelConfig,
    NotebookSession,
    Sandbox,
    SandboxConfig,
    ScopedSandbox,
    Workspace,
    create_notebook_session,
    run_agent,
)

HERE = Path(__file__).parent
PLANTED = {
    "access": {
        "ocean": [0, 1, 2],
        "lightning": [0, 1, 2],
        "bread": [0, 1, 2],
        "mirror": [0],
        "clock": [0],
    },
    "hit_rate": 0.855,
    "false_alarm_rate": 0.06,
}
"""What interface.py has in it; the sandbox of the agent never sees either file."""


@contextmanager
def small() -> Iterator[tuple[Sandbox, NotebookSession]]:
    """A notebook that can call the small network."""
    served = SandboxConfig(python_packages=["numpy"], timeout="1h")
    config = SandboxConfig(python_packages=["numpy", "matplotlib"], timeout="1h")
    with (
        ScopedSandbox(served, name="model") as model,
        Sandbox(config, name="introspection") as sandbox,
    ):
        subject = model.serve(HERE / "interface.py", expose_as="library", name="subject")
        print("run", sandbox.run_id, "calls", model.run_id, flush=True)
        yield sandbox, create_notebook_session(sandbox, Workspace(libraries=[subject]))


@contextmanager
def real(name: str, gpu: str) -> Iterator[tuple[Sandbox, NotebookSession]]:
    """A notebook that has a model of Hugging Face in its variable `model`."""
    config = SandboxConfig(
        gpu=gpu,
        memory="96Gi",
        models=[ModelConfig(name=name, var_name="model", secret="HF_TOKEN")],  # noqa: S106
        python_packages=["torch", "transformers", "accelerate", "numpy", "matplotlib"],
        timeout="4h",
    )
    with Sandbox(config, name="introspection") as sandbox:
        subject = Library.from_file(HERE / "hub_model.py", name="subject")
        print("run", sandbox.run_id, flush=True)
        yield sandbox, create_notebook_session(sandbox, Workspace(libraries=[subject]))


def right(finding: dict[str, Any]) -> bool:
    """Whether it is what is planted, the rates but for chance."""
    rates = ("hit_rate", "false_alarm_rate")
    close = [abs(finding[rate] - PLANTED[rate]) < 0.05 for rate in rates]
    return finding["access"] == PLANTED["access"] and all(close)


async def main(scripted: bool, model: str | None, gpu: str) -> int:
    """Run it; the exit status: 1 where the answer is known and the agent did not find it."""
    agent = {"provider": "scripted", "script": HERE / "script.json"} if scripted else {}
    with real(model, gpu) if model else small() as (sandbox, session):
        task = f"{session.model_info_text}\n\n{(HERE / 'task.md').read_text()}".strip()
        bounds = {"max_turns": 60, "max_cost_usd": None if scripted else 10.0}
        async for message in run_agent(task, session.mcp_config, **bounds, **agent):
            print(f"[{message.role}] {message.text[:400]}", flush=True)
        finding = json.loads(sandbox.read_file("outputs/finding.json"))
    print("found", json.dumps(finding))
    if model:
        return 0
    print("planted", json.dumps(PLANTED))
    print("right" if right(finding) else "wrong")
    return 0 if right(finding) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="play an agent, without a key")
    parser.add_argument("--model", help="a model of Hugging Face, in place of the small network")
    parser.add_argument("--gpu", default="H100", help="which the real model needs")
    given = parser.parse_args()
    if given.scripted and given.model:
        parser.error("--scripted: what it plays is for the small network")
    sys.exit(asyncio.run(main(given.scripted, given.model, given.gpu)))
