"""What the command line is, without any run: usage, help, errors, words."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from runner import cli
from runner.cli import words
from runner.cli.app import COMMANDS
from runner.cli.live import rendered
from runner.cli.manual import manual
from runner.cli.narrate import Entry, Narrator
from runner.cli.shell import PlaceKeeper
from runner.cli.views import SOURCE_LINES, plain
from runner.phases import Phase

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a state directory with nothing in them."""
    for name in [name for name in os.environ if name.startswith("RUNNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_the_page_of_the_command_line_is_current() -> None:
    page = Path(__file__).parents[1] / "docs" / "cli.md"
    assert page.read_text() == manual(), "`python -m runner.cli.manual` writes it anew"


def test_every_command_has_help_with_examples(capsys: Out) -> None:
    for name in COMMANDS:
        assert cli.main([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"Usage: runner {name} ")
        assert f"runner {name}" in said.partition("Examples:")[2]
        assert "--json" in said
        assert all(len(line) <= 100 for line in said.splitlines())


def test_help_imports_next_to_nothing() -> None:
    heavy = ("pydantic", "httpx", "rich", "jupyter_client", "nbformat", "git", "anthropic")
    code = (
        "import sys; from runner.cli import main; main(['--help'])\n"
        f"sys.stdout.write('IMPORTED ' + ' '.join(m for m in {heavy} if m in sys.modules))"
    )
    assert python(code).endswith("IMPORTED ")


def test_a_list_imports_what_it_needs() -> None:
    heavy = ("httpx", "rich", "jupyter_client", "nbformat", "git", "anthropic", "tornado", "uv")
    code = (
        "import sys; from runner.cli import main; main(['list'])\n"
        f"sys.stdout.write('IMPORTED ' + ' '.join(m for m in {heavy} if m in sys.modules))"
    )
    assert python(code).endswith("IMPORTED ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sbumit", "x.toml"], "No such command 'sbumit'. Did you mean 'submit'?"),
        (["submit"], "Missing argument 'FILE'"),
        (["submit", "x.toml", "--max-turns", "0"], "greater than or equal to 1"),
        (["submit", "x.toml", "--max-turn", "5"], "No such option: --max-turn"),
        (["cancel"], "Missing argument 'RUN'"),
        (["delete"], "Missing argument 'RUN'"),
        (["resume"], "Missing argument 'RUN'"),
        (["exec", "some-run"], "Missing argument 'CMD'"),
        (["list", "--state", "runing"], "there is no state 'runing'"),
        (["list", "--backend", "modal"], "backend: expected 'local', 'docker' or 'kubernetes'"),
        (["status"], "runs: holds no run yet"),
        (["attach", "nothing"], "holds no run 'nothing'"),
        (["wait", "../x"], "no run"),
        (["list", "--runs", "s3://bucket/x"], "expected a directory of this machine"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, capsys: Out, place: Path) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert "Traceback" not in said.err
    assert list(place.iterdir()) == []

    assert cli.main([arguments[0], "--json", *arguments[1:]]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert words in error["message"]
    assert error["exit_status"] == 2


def test_an_empty_list_says_what_to_do(capsys: Out) -> None:
    assert cli.main(["list"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "runs: holds no run yet; `runner submit FILE` makes one\n"
    assert cli.main(["list", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_a_bug_keeps_its_traceback(
    capsys: Out, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr("runner.settings.load_settings", lambda: 1 / 0)
    assert cli.main(["list"]) == 70
    said = capsys.readouterr().err
    assert "this is a bug of the runner: ZeroDivisionError" in said
    assert "Traceback" not in said
    [kept] = place.glob("runner-error-*.txt")
    assert str(kept) in said
    assert "Traceback" in kept.read_text()


def test_ctrl_c_is_130(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.settings.load_settings", interrupt)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_reader_that_went_away_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m runner doctor --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_words() -> None:
    durations = [words.seconds(value) for value in (0.04, 9.94, 9.96, 59.4, 59.6, 185, 7620)]
    assert durations == ["0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s", "2 h 07 min"]
    sizes = [words.size(value) for value in (0, 999, 1000, 9960, 34_000_000, 10**15)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "10 kB", "34 MB", "1000.0 TB"]
    assert [words.dollars(value) for value in (None, 0, 0.0123, 12.5)] == [
        "$?",
        "$0.00",
        "$0.012",
        "$12.50",
    ]
    assert words.count(1, "turn") + words.count(1200, "token") == "1 turn1,200 tokens"
    now = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert words.between("2026-01-01T00:00:00.000Z", None, now) == 5
    assert words.between(None, None) is None
    assert words.cut(["a"] * 10, 4, 99) == ["a", "a", "… 7 more lines …", "a"]
    assert words.cut(["abcdef"], 4, 4) == ["abc…"]


def told(*lines: dict[str, object]) -> list[str]:
    narrator = Narrator()
    time = "2026-01-01T00:00:00.000Z"
    said = []
    for line in lines:
        for entry in narrator.apply("journal", {"time": time, **line}):
            said += [text[10:] for text in plain(entry)]
    return said


def test_what_a_run_waits_for_is_told_as_it_becomes_known_and_once() -> None:
    time, full = "2026-01-01T00:00:00.000Z", "0/1 nodes are available"
    looks = [
        [Phase("scheduling", time, None)],
        [Phase("scheduling", time, None, full)],
        [Phase("scheduling", time, None, full)],
        [Phase("scheduling", time, time), Phase("creating", time, None)],
        [Phase("scheduling", time, time), Phase("creating", time, None, "", "no image")],
        [Phase("scheduling", time, time), Phase("creating", time, None, "", "no image: again")],
    ]
    narrator = Narrator()
    told = [entry.title for phases in looks for entry in narrator.preparing(phases)]
    stuck = ["creating", "creating: no image"]
    assert told == ["scheduling", f"scheduling {full}", "scheduling took 0.0 s", *stuck]


def test_what_the_kernel_prints_cannot_write_to_the_terminal() -> None:
    nasty = "\x1b]0;title\x07\x1b[31mred\x1b[0m\rlast\x08t \x9b2J\n"
    said = told(
        {"type": "cell", "action": "insert", "cell": "a", "cell_type": "code", "source": nasty},
        {"type": "start", "op": "o", "cell": "a"},
        {
            "type": "message",
            "op": "o",
            "cell": "a",
            "msg_type": "stream",
            "content": {"name": "stdout", "text": nasty},
        },
        {"type": "end", "op": "o", "cell": "a", "state": "ok", "reason": ""},
    )
    assert said[0] == "cell 1"
    assert said[2] == "cell 1: done after 0.0 s"
    assert all(character.isprintable() for line in said for character in line)


def test_much_output_stays_small() -> None:
    narrator = Narrator()
    begin = {"type": "shell", "op": "o", "command": "yes", "time": "2026-01-01T00:00:00.000Z"}
    narrator.apply("journal", begin)
    piece = {"type": "shell_output", "op": "o", "stream": "stdout", "text": "y\n" * 50_000}
    for _ in range(100):
        narrator.apply("journal", piece)
    end = {"type": "end", "op": "o", "state": "ok", "exit": 1, "time": "2026-01-01T00:00:02.000Z"}
    [entry] = narrator.apply("journal", end)
    assert entry.title == "$: ended with status 1 after 2.0 s"
    assert not entry.ok
    assert len(plain(entry)) == 11
    assert len(entry.body) < 20_000


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_shell_finds_out_where_a_command_ended(size: int) -> None:
    keeper = PlaceKeeper("MARK")
    output = "one\n\nMAR\ntwo\nMARK/tmp/a b\n"
    pieces = [output[at : at + size] for at in range(0, len(output), size)]
    assert "".join(map(keeper.filtered, pieces)) == "one\n\nMAR\ntwo"
    assert keeper.place == "/tmp/a b"


def test_long_code_keeps_to_its_lines_on_a_terminal() -> None:
    code = tuple(f"x{number} = 'long' * {'9' * 3 * number}" for number in range(60))
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, color_system=None)
    for part in rendered(Entry("cell", "2026-01-01T00:00:00.000Z", "cell 1", code), 46):
        console.print(part)
    _, title, *lines = out.getvalue().splitlines()
    assert title.split() == [words.clock("2026-01-01T00:00:00.000Z"), "cell", "1"]
    assert len(lines) == SOURCE_LINES
    assert all(line.startswith("          │ ") for line in lines)
    assert lines[0].rstrip().endswith("x0 = 'long' *")
    assert lines[10].endswith("│ … 45 more lines …")
    assert lines[-1].endswith("9…")
