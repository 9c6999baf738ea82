"""Each bad input of an experiment: one clear message, the right status, nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git_server import GitServer, git_server

from runner import cli

Out = pytest.CaptureFixture[str]
Try = Callable[..., tuple[int, str]]

TOP = 'name = "tiny"\ntask = "Do it."\n'
AGENT = '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
SCRIPT = '{"steps": [{"text": "That is all."}]}'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the user's; his state directory is elsewhere."""
    for name in [name for name in os.environ if name.startswith("RUNNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(folder)
    (folder / "script.json").write_text(SCRIPT)
    return folder


@pytest.fixture
def submit(place: Path, capsys: Out) -> Try:
    """Submit a file; its exit status and what it says, once it is seen that nothing is left."""

    def submit(file: str, *options: str) -> tuple[int, str]:
        before = sorted(place.rglob("*"))
        status = cli.main(["submit", file, *options])
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert said.err.count("error: ") >= 1
        assert sorted(place.rglob("*")) == before, "nothing is left where the user is"
        assert not (place.parent / "state").exists(), "nor where runs are kept"
        return status, said.err.partition("error: ")[2]

    return submit


@pytest.fixture
def attempt(place: Path, submit: Try) -> Try:
    """Submit an experiment with this text."""

    def attempt(text: str | bytes, *options: str) -> tuple[int, str]:
        (place / "experiment.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return submit("experiment.toml", *options)

    return attempt


def sandbox(lines: str) -> str:
    return f"{TOP}[sandbox]\n{lines}\n{AGENT}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (sandbox("gpus = 1"), "sandbox.gpus: expected a known key"),
        (sandbox("repos = 5"), "sandbox.repos: expected"),
        (f"{TOP}{AGENT}max_turns = '5'", "agent.max_turns: expected"),
        (sandbox("timeout = 0"), "sandbox.timeout: expected a duration above 0"),
        (sandbox("timeout = -1"), "sandbox.timeout: expected a duration above 0"),
        (sandbox("timeout = 'abcd'"), "found 'abcd'"),
        (f'name = "{"x" * 300}"\ntask = "x"\n{AGENT}', "name: expected 1 to 40"),
        (f'name = "größe"\ntask = "x"\n{AGENT}', "name: expected"),
        (f'name = "a/b"\ntask = "x"\n{AGENT}', "name: expected"),
        (f'name = ".."\ntask = "x"\n{AGENT}', "name: expected"),
        (f'name = "Tiny"\ntask = "x"\n{AGENT}', "`tiny` would do"),
        (f'name = "tiny"\ntask = "task.md"\n{AGENT}', "task"),
        (f"{TOP}[agent]\nprovider = 'scripted'\nscript = 'gone.json'", "gone.json"),
        (sandbox("local_files = ['gone.csv']"), "gone.csv"),
        (sandbox("local_files = [['script.json', '../up.json']]"), "local_files"),
        (sandbox("repos = ['ext::sh -c touch% made']"), "sandbox.repos"),
        (sandbox("repos = ['--upload-pack=touch made']"), "sandbox.repos"),
        (sandbox("repos = ['file:///etc']"), "sandbox.repos"),
        (sandbox("repos = [{url = 'a/b', ref = '--upload-pack=x'}]"), "sandbox.repos"),
        (sandbox("python_packages = ['--index-url=http://x']"), "sandbox.python_packages"),
        (f"{TOP}[sandbox\n", "expected TOML"),
        (b'name = "\xff\xfe"', "text in UTF-8"),
        (b"\x7fELF\0\0\0", "is a binary file, not TOML text"),
        ("", "name: expected"),
    ],
)
def test_refused_by_the_file_alone(text: str | bytes, words: str, attempt: Try) -> None:
    status, said = attempt(text)
    assert status == 2
    assert words in said
    assert said.count("\n") <= 6, "one clear message"


def test_in_place_of_a_file(submit: Try, place: Path) -> None:
    (place / "folder").mkdir()
    (place / "folder" / "other.toml").write_text("")
    for name, words in (
        ("folder", "folder is a directory, not an experiment file.\n  → Name a file in it: other"),
        ("gone.toml", "There is no experiment file at gone.toml"),
        ("/dev/null", "not an ordinary file"),
    ):
        status, said = submit(name)
        assert status == 2
        assert words in said


def test_every_missing_secret_in_one_message(attempt: Try) -> None:
    status, said = attempt(f"{TOP}[sandbox]\nsecrets = ['FIRST_TOKEN', 'SECOND_TOKEN']\n")
    assert status == 2
    assert said.startswith("missing secrets: FIRST_TOKEN, SECOND_TOKEN, ANTHROPIC_API_KEY\n")


def test_options_are_checked_as_the_file_is(attempt: Try) -> None:
    for option, value, words in (
        ("--timeout", "abcd", "command line: sandbox.timeout: expected a duration"),
        ("--timeout", "0", "command line: sandbox.timeout: expected a duration"),
        ("--max-cost-usd", "-1", "command line: agent.max_cost_usd: expected"),
    ):
        status, said = attempt(TOP + AGENT, option, value)
        assert (status, words in said) == (2, True), said


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as server:
        server.add_repo("there.git", {"README.md": "x"})
        yield server


def test_what_git_does_not_find(
    served: GitServer, attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in served.env.items():
        monkeypatch.setenv(name, value)
    status, said = attempt(sandbox(f"repos = ['{served.url('gone.git')}']"))
    assert status == 2
    assert "not found" in said
    assert "gone.git" in said
    ref = f"repos = [{{url = '{served.url('there.git')}', ref = 'no-such-branch'}}]"
    status, said = attempt(sandbox(ref))
    assert status == 2
    assert "no-such-branch" in said


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of loopback at which nobody listens, and nobody else can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_network(
    attempt: Try, monkeypatch: pytest.MonkeyPatch, closed_port: int, tmp_path: Path
) -> None:
    nowhere = f"https://127.0.0.1:{closed_port}"
    status, said = attempt(sandbox(f"repos = ['{nowhere}/a/b']"))
    assert status == 3
    assert "127.0.0.1" in said
    monkeypatch.setenv("UV_INDEX_URL", f"{nowhere}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    status, said = attempt(TOP + AGENT)
    assert status == 3
    assert "uv could not resolve the Python packages" in said
    assert "→ Is the network, and the package index, there?" in said


def test_a_package_that_does_not_exist(
    attempt: Try, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An index without it stands for the public one: the words are uv's own."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    status, said = attempt(sandbox("python_packages = ['no-such-package-at-all']"))
    assert status == 2
    assert "no-such-package-at-all" in said


def test_a_process_says_the_same(place: Path) -> None:
    """As a user gets it: the whole program, stderr red only on a terminal."""
    (place / "experiment.toml").write_text(sandbox("gpus = 1"))
    done = subprocess.run(
        [sys.executable, "-m", "runner", "submit", "experiment.toml"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert done.stderr.startswith("error: experiment.toml: sandbox.gpus: expected a known key")
