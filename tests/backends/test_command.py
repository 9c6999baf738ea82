"""A command of the lab's own is the agent, on every backend."""

from __future__ import annotations

import sys

import agents_of_labs
import pytest
from tiny_runs import Lab

from runner.errors import ConfigError
from runner.record.verify import verify

PROGRAM = agents_of_labs.own(
    "cell = {'source': 'answer = 6 * 7; print(answer)'}\n"
    "print(task, text(await client.call_tool('run_cell', cell)), flush=True)\n"
    "await client.call_tool('write_file', {'path': 'outputs/a.txt', 'content': 'made'})\n"
    "print(sorted(name for name in os.environ if 'KEY' in name or 'TOKEN' in name))\n"
    "print(os.access('.', os.W_OK), os.environ['HOME'], flush=True)"
)


@pytest.mark.timeout(300)
def test_it_works_in_the_sandbox(lab: Lab) -> None:
    python = sys.executable if lab.settings.backend == "local" else "python"
    run = lab.submit(toml=agents_of_labs.toml(PROGRAM, python=python, provider="none"))
    status = run.over()
    assert (status.state, status.exit_status) == ("done", 0), status
    printed = "".join(line["text"] for line in run.lines("printed"))
    assert printed.startswith("Do it. 42\n"), printed
    assert "[]\nTrue /" in printed
    assert (run.path / "outputs" / "a.txt").read_text() == "made"
    assert "answer = 6 * 7" in (run.path / "notebook.ipynb").read_text()
    assert verify(run.path).ok


@pytest.mark.timeout(300)
def test_a_program_that_is_not_there_is_told_of(lab: Lab) -> None:
    toml = '[agent]\nprovider = "none"\ncommand = ["nowhere-to-be-found", "-p"]\n'
    if lab.settings.backend == "local":  # which can look before anything starts
        with pytest.raises(ConfigError, match="no 'nowhere-to-be-found'"):
            lab.submit(toml=toml)
        return
    status = lab.submit(toml=toml).over()
    assert (status.state, status.exit_status) == ("failed", 2)
    assert "no 'nowhere-to-be-found'" in status.reason
    assert "the agent's image has to have it" in status.reason
