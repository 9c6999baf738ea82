"""A secret that the code lets out in every way that we know of is in nothing that is kept."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from messages_api import messages_api
from tiny_runs import Lab, Run, cell, end, tool

from runner import cli
from runner.record.verify import verify

CANARY = "canary/of-the 'sandbox' & \"ünicode\" 0123456789"
AGENTS = "canary-of-the-agent-9876543210"
ENCODED = base64.b64encode(CANARY.encode()).decode().rstrip("=")[:-1]
SPELLINGS = {
    CANARY,
    repr(CANARY)[1:-1],
    json.dumps(CANARY)[1:-1],
    json.dumps(CANARY, ensure_ascii=False)[1:-1],
    html.escape(CANARY),
    quote(CANARY),
    quote(CANARY, safe=""),
    ENCODED,
    "0123456789",
    AGENTS,
    base64.b64encode(AGENTS.encode()).decode().rstrip("=")[:-1],
}
GET = "import os; canary = os.environ['CANARY']"
STEPS = [
    cell(f"{GET}\nprint(canary)\ncanary"),
    cell("raise ValueError(canary)"),
    cell("for part in canary: print(part, end='', flush=True)"),
    cell(
        "import sys, time\nprint(canary[:9], end='', flush=True); time.sleep(0.2)\n"
        "print('beside', file=sys.stderr, flush=True); print(canary[9:])\n"
        "print(canary[:9], end='', file=sys.stderr, flush=True)\n"
        "print(canary[9:], file=sys.stderr)"
    ),
    cell(
        "import base64, html, json, urllib.parse as url\n"
        "print(url.quote(canary), url.quote(canary, safe=''), url.quote_plus(canary))\n"
        "print(json.dumps(canary), json.dumps([canary], ensure_ascii=False), repr(canary))\n"
        "for before in ('', 'x', 'xx'):\n"
        "    print(base64.b64encode((before + canary + 'y').encode()).decode())\n"
        "    print(base64.urlsafe_b64encode((before + canary).encode()).decode())"
    ),
    cell(
        "display({'text/html': f'<p title=\"{html.escape(canary)}\">{canary}</p>',"
        " 'application/json': {canary: [canary]}, 'text/plain': canary}, raw=True)"
    ),
    tool(
        "run_shell", command='echo "$CANARY"; printf %s "$CANARY" | base64 -w0; echo "$CANARY" >&2'
    ),
    cell(
        "import pathlib\nout = pathlib.Path('outputs')\n"
        "(out / 'report.md').write_text('clean')\n"
        "(out / 'leak.md').write_text(f'key: {canary}', 'utf-8')\n"
        "(out / 'leak.bin').write_bytes(bytes(range(256)) * 4 + canary.encode() + b'\\xff\\0')\n"
        "(out / f'named {canary.split(\"/\")[0]}').mkdir(parents=True)\n"
        "odd = out / canary\nodd.parent.mkdir(exist_ok=True)\nodd.write_text('x')"
    ),
    cell(
        "import subprocess; print(subprocess.run(['env'], capture_output=True, text=True).stdout)"
    ),
    end(),
]
SCORE = "import json, os, sys\nprint(json.dumps({'files': sorted(os.listdir(sys.argv[1]))}))\n"
TOML = 'score = "score.py"\n[sandbox]\nsecrets = ["CANARY"]\n'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("canary"), backend="local")
    yield made
    made.close()


@pytest.fixture(scope="module")
def done(lab: Lab) -> Run:
    with lab.secrets(CANARY=CANARY):
        run = lab.submit(STEPS, TOML, {"score.py": SCORE})
        assert run.over().state == "done", run.log()
    return run


def leaks(text: str) -> set[str]:
    return {spelling for spelling in SPELLINGS if spelling in text}


def test_nothing_in_the_record_holds_it(done: Run) -> None:
    looked_at = set()
    for file in done.path.rglob("*"):
        inner = file.relative_to(done.path)
        if inner.parts[0] == "withheld":
            continue
        assert not leaks(str(inner))
        if file.is_file():
            assert not leaks(file.read_bytes().decode("utf-8", "replace")), inner
            looked_at.add(inner.parts[0])
    assert {"transcript.jsonl", "journal.jsonl", "notebook.ipynb", "run.json", "logs"} <= looked_at


def test_it_was_really_let_out(done: Run) -> None:
    said = "\n".join(done.results())
    assert said.count("***") > 15
    assert "beside" in said


def test_files_that_hold_it_are_set_aside_as_they_are(done: Run) -> None:
    outputs = {item["path"]: item.get("withheld", False) for item in done.status.run.outputs}
    assert outputs == {"leak.bin": True, "leak.md": True, "report.md": False}
    assert done.status.run.score == {"files": ["report.md"]}
    binary = (done.path / "withheld" / "leak.bin").read_bytes()
    assert binary == bytes(range(256)) * 4 + CANARY.encode() + b"\xff\0"
    assert verify(done.path, None).ok
    assert "its name holds a secret" in done.status.reason


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--json"],
        ["logs"],
        ["logs", "--json"],
        ["logs", "--processes"],
        ["list", "--json"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_no_command_prints_it(
    done: Run, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in(done, monkeypatch)
    command, *options = words
    run = [] if command == "list" else [done.run_id]
    assert cli.main([command, *run, *options]) == 0
    both = capsys.readouterr()
    assert done.run_id in both.out + both.err or command in ("logs", "verify")
    assert not leaks(both.out + both.err)


def test_it_is_fetched_on_demand_only(
    done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in(done, monkeypatch)
    assert cli.main(["fetch", done.run_id, "--to", str(tmp_path / "without")]) == 0
    assert not (tmp_path / "without" / "withheld").exists()
    assert verify(tmp_path / "without", None).ok
    assert cli.main(["fetch", done.run_id, "withheld/leak.md", "--to", str(tmp_path)]) == 2
    assert "--withheld" in capsys.readouterr().err
    assert cli.main(["fetch", done.run_id, "--withheld", "--to", str(tmp_path / "with")]) == 0
    assert CANARY in (tmp_path / "with" / "withheld" / "leak.md").read_text("utf-8")
    assert not leaks("".join(capsys.readouterr()))


def test_the_agents_key_is_in_nothing_either(lab: Lab) -> None:
    given = {"source": f"print({AGENTS!r})"}
    script = [
        {"text": AGENTS, "tools": [{"name": "run_cell", "input": given}]},
        {"text": base64.b64encode(AGENTS.encode()).decode()},
    ]
    with messages_api(script, address=lab.address) as server, lab.secrets(MODEL_KEY=AGENTS):
        agent = f'[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
        run = lab.submit((), agent)
        run.over()
    for file in run.path.rglob("*"):
        assert not file.is_file() or not leaks(file.read_bytes().decode("utf-8", "replace")), file


def test_what_the_model_found_out_is_in_nothing_either(lab: Lab) -> None:
    guessed = {"source": f"import os; print(os.environ['CANARY'] == {CANARY!r})"}
    noted = {"path": "notes.txt", "content": f"I found {CANARY}"}
    script = [
        {"text": f"It is {CANARY}.", "tools": [{"name": "run_cell", "input": guessed}]},
        {"tools": [{"name": "write_file", "input": noted}]},
        {"text": f"It was {quote(CANARY)}."},
    ]
    with messages_api(script, address=lab.address) as server:
        agent = f'[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
        with lab.secrets(CANARY=CANARY, MODEL_KEY=AGENTS):
            run = lab.submit((), f'[sandbox]\nsecrets = ["CANARY"]\n{agent}')
            assert run.over().state == "done", run.log()
    assert "True" in run.results()[0], "what the model wrote is what ran"
    assert [line["content"] for line in run.lines("message")][-1][0]["text"] == "It was ***."
    for file in run.path.rglob("*"):
        assert not file.is_file() or not leaks(file.read_bytes().decode("utf-8", "replace")), file


def _in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(run.lab.settings.state_dir))
    monkeypatch.setenv("RUNNER_RUNS", str(run.lab.settings.runs))
    monkeypatch.setenv("RUNNER_BACKEND", "local")
