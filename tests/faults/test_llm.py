"""Models and their servers fail in every way; a run ends well, or says why and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from command_line import CommandLine
from invariants import NotebookReader, check, counted
from messages_api import messages_api
from tiny_runs import Lab, Run

KEY = "sk-stand-in-0123456789"
Reply = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """What a model's server says, and what is to come of it."""

    replies: list[Reply]
    state: str = "done"
    status: int = 0
    words: tuple[str, ...] = ()
    """What the command line tells of it."""
    ran: tuple[str, ...] = ("a",)
    """The cells that ran, each once."""
    retries: int = 0
    results: tuple[str, ...] = ()
    """What the model was told, by the results of its calls, in their order."""
    max_turns: int = 20


def run_cell(name: str, **more: Any) -> dict[str, Any]:
    return {"name": "run_cell", "input": {"source": counted(name, 3)}, **more}


def raw(text: str) -> dict[str, Any]:
    return {"name": "run_cell", "raw": text}


CALL: Reply = {"text": "I begin.", "tools": [run_cell("a")]}
END: Reply = {"text": "That is all."}
HALF = "{\"source\": \"open('half', 'a')"

FAULTS = {
    "429, which says when": Fault(
        [{"status": 429, "headers": {"retry-after": "1"}}, CALL, END],
        words=("asked again in 1.0 s: 429 rate_limit_error",),
        retries=1,
    ),
    "529": Fault([CALL, {"status": 529}, END], words=("529 overloaded_error",), retries=1),
    "overloaded in the middle of a call": Fault(
        [{**CALL, "event": "overloaded_error"}, CALL, END], retries=1
    ),
    "broken off in the middle of a call": Fault(
        [{**CALL, "cut": "broken"}, CALL, END], words=("the stream was cut",), retries=1
    ),
    "ended early in the middle of a call": Fault(
        [{**CALL, "cut": "clean"}, CALL, END], words=("the stream was cut",), retries=1
    ),
    "a call that is no JSON, beside one that is": Fault(
        [{"tools": [raw(HALF), run_cell("a")]}, END],
        results=("did not arrive as a JSON object", "a 2"),
    ),
    "a call cut off by max_tokens": Fault(
        [{"tools": [raw(HALF)], "stop_reason": "max_tokens"}, CALL, END],
        results=("it was cut off (max_tokens)", "a 2"),
    ),
    "always cut off by max_tokens": Fault(
        [{"text": "And so", "stop_reason": "max_tokens"}] * 4,
        state="bound",
        status=4,
        words=("a bound was reached: 4 of 4 replies", "runner resume", "--max-turns"),
        ran=(),
        max_turns=4,
    ),
    "a refusal": Fault(
        [CALL, {"text": "I can't.", "tools": [run_cell("b")], "stop_reason": "refusal"}],
        state="failed",
        status=1,
        words=("the model refused to go on", "runner resume"),
    ),
    "only empty messages": Fault(
        [CALL, {}, {}],
    ),
    "400": Fault(
        [CALL, {"status": 400, "message": "temperature: too warm"}],
        state="failed",
        status=1,
        words=(
            "refused the request: 400 invalid_request_error: temperature: too warm",
            "runner resume",
        ),
    ),
    "401": Fault(
        [{"status": 401, "message": "invalid x-api-key"}],
        state="failed",
        status=1,
        words=("401 authentication_error: invalid x-api-key", "→ check the API key"),
        ran=(),
    ),
    "403": Fault(
        [CALL, {"status": 403, "message": "not for you"}],
        state="failed",
        status=1,
        words=("403 permission_error: not for you", "→ check what the API key may use"),
    ),
    "a page of a proxy": Fault(
        [CALL, {"body": "<html>Log in</html>"}],
        state="failed",
        status=1,
        words=("with text/html, not an event stream", "→ check base_url"),
    ),
    "a tool that does not exist, and three at once": Fault(
        [
            {"tools": [{"name": "browse", "input": {"url": "x"}}]},
            {"tools": [run_cell("a"), run_cell("b"), run_cell("c")]},
            END,
        ],
        ran=("a", "b", "c"),
        results=("there is no tool browse; there are: run_cell", "a 2", "b 2", "c 2"),
    ),
    "a model that never stops": Fault(
        [{"tools": [run_cell(name)]} for name in "abcdef"],
        state="bound",
        status=4,
        words=("a bound was reached: 5 of 5 replies", "runner resume", "--max-turns"),
        ran=tuple("abcde"),
        max_turns=5,
    ),
}
SHORT = {
    "broken off in the middle of a call",
    "a call cut off by max_tokens",
    "a refusal",
    "400",
    "a tool that does not exist, and three at once",
    "a model that never stops",
}
"""What `make test` has of them: the others are there piece by piece, in test_providers.py and
test_loop.py."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SHORT else pytest.mark.long) for n in FAULTS]
)
def test_a_run_with_a_model_that_fails(lab: Lab, name: str) -> None:
    fault = FAULTS[name]
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir), ANTHROPIC_API_KEY=KEY)
    with messages_api(fault.replies) as server:
        agent = f'[agent]\nbase_url = "{server.url}"\nmax_turns = {fault.max_turns}\n'
        with line.starting("submit", str(lab.write(toml=agent))) as submit:
            run = lab.adopt(lab.backend.attach(submit.run_id))
            with NotebookReader(run.path / "notebook.ipynb"):
                told = submit.end()
        asked = len(server.requests)
    status = run.over()
    assert (status.state, told.status) == (fault.state, fault.status), told
    for words in fault.words:
        assert words in told.words
    assert "Traceback" not in told.words + run.log()
    assert ran(run) == list(fault.ran)
    assert len(run.lines("retry")) == fault.retries
    if fault.results:
        results = run.results()
        assert len(results) == len(fault.results)
        for result, words in zip(results, fault.results, strict=True):
            assert words in result
    assert asked == min(len(fault.replies), fault.max_turns + fault.retries)
    assert not (run.root / "workspace" / "half").exists()
    check(run.path, run.root)
    assert not [file for file, data in lab.traces(run) if KEY.encode() in data]


def ran(run: Run) -> list[str]:
    """The cells that ran, in their order."""
    file = run.root / "workspace" / "ran"
    return file.read_text().split() if file.exists() else []


def test_a_run_that_its_models_server_refused_goes_on_when_that_is_mended(lab: Lab) -> None:
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir), ANTHROPIC_API_KEY=KEY)
    refusal = {"status": 403, "message": "no credit is left"}
    with messages_api([CALL, refusal, {"tools": [run_cell("b")]}, END]) as server:
        file = lab.write(toml=f'[agent]\nbase_url = "{server.url}"\n')
        with line.starting("submit", str(file)) as submit:
            run = lab.adopt(lab.backend.attach(submit.run_id))
            assert submit.end().status == 1
        resumed = line("resume", run.run_id)
    assert resumed.status == 0, resumed
    assert ran(run) == ["a", "b"]
    check(run.path, run.root)
