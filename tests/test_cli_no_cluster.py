"""Commands on a cluster that cannot be used: one clear error, and nothing is started."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_server import answering, failure, kubeconfig

from runner import cli
from runner.record import Record

Out = pytest.CaptureFixture[str]

OTHER = "tiny-260101-0000-aaaa"
MINE = "tiny-260101-0000-bbbb"
FILE = 'name = "tiny"\ntask = "Do it."\n[agent]\nprovider = "scripted"\nscript = "s.json"\n'
COMMANDS = (
    ["submit", "tiny.toml"],
    ["list"],
    ["status", OTHER],
    ["fetch", OTHER],
    ["logs", OTHER],
    ["attach", OTHER],
    ["cancel", OTHER],
    ["resume", OTHER],
    ["delete", OTHER, "--yes"],
    ["secrets", "list"],
    ["secrets", "check", "tiny.toml"],
)
NO_FILE = failure(404, 'configmaps "runner-settings" not found')
NO_SPACE = failure(404, 'namespaces "team" not found', kind="namespaces", name="team")
FORBIDDEN = failure(
    403,
    'jobs.batch is forbidden: User "jane" cannot list resource "jobs" in API group "batch" in the '
    'namespace "team"',
)
EMPTY = (200, {"metadata": {}, "items": []})
NAMESPACE = (200, {"metadata": {"name": "team"}})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an experiment, which is to run on a cluster."""
    for name in [name for name in os.environ if name.startswith("RUNNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNNER_BACKEND", "kubernetes")
    monkeypatch.setenv("RUNNER_KUBERNETES__NAMESPACE", "team")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("runner.backends.kubernetes.client.FIRST_S", 0.05)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(FILE)
    (tmp_path / "s.json").write_text(json.dumps({"steps": [{"text": "Done."}]}))
    return tmp_path


def refused(command: list[str], status: int, words: str, mend: str, capsys: Out) -> None:
    """The command ends so, says so once, with what mends it, and has made no record."""
    assert cli.main(command) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("error: ") == 1
    assert words in said.err
    assert mend in said.err.partition("→")[2]
    assert "Traceback" not in said.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_kubeconfig(command: list[str], capsys: Out) -> None:
    refused(command, 2, "no kubeconfig", "export KUBECONFIG=FILE", capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nobody_answers(command: list[str], place: Path, capsys: Out) -> None:
    kubeconfig(place, "http://127.0.0.1:9")
    words = "no cluster answers at http://127.0.0.1:9"
    refused(command, 3, words, "kubectl cluster-info", capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_expired_token(command: list[str], place: Path, capsys: Out) -> None:
    with answering(failure(401, "Unauthorized")) as (server, _):
        kubeconfig(place, server)
        refused(command, 2, "does not accept the credentials", "log in again", capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_such_context(
    command: list[str], place: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(place, "http://127.0.0.1:9")
    monkeypatch.setenv("RUNNER_KUBERNETES__CONTEXT", "other")
    refused(command, 2, "no context is named 'other' (there: lab)", "get-contexts", capsys)


@pytest.mark.parametrize(
    ("command", "answers"),
    [
        (["submit", "tiny.toml"], [NO_FILE, NO_SPACE]),
        (["list"], [EMPTY, EMPTY, NO_FILE, NO_SPACE]),
        (["status", OTHER], [EMPTY, EMPTY, NO_FILE, NO_SPACE]),
        (["fetch", OTHER], [EMPTY, EMPTY, NO_FILE, NO_SPACE]),
        (["secrets", "list"], [NO_FILE, NO_SPACE]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_no_such_namespace_and_no_chart(
    command: list[str], answers: list[Any], place: Path, capsys: Out
) -> None:
    with answering(*answers) as (server, _):
        kubeconfig(place, server)
        refused(command, 2, "there is no namespace 'team'", "kubernetes.namespace", capsys)
    with answering(*answers[:-1], NAMESPACE) as (server, _):
        kubeconfig(place, server)
        words = "the runner's chart is not installed in namespace team"
        refused(command, 2, words, "helm install runner", capsys)


@pytest.mark.parametrize("command", COMMANDS[1:8], ids=" ".join)
def test_a_user_without_rights(command: list[str], place: Path, capsys: Out) -> None:
    with answering(FORBIDDEN) as (server, _):
        kubeconfig(place, server)
        mend = "kubectl create rolebinding runner-jane -n team --role=runner-researcher --user=jane"
        refused(command, 2, "jane may not list jobs in namespace team", mend, capsys)


def test_doctor_says_it_as_a_check_and_a_plain_word(place: Path, capsys: Out) -> None:
    for make, words in (
        (lambda: None, "no kubeconfig"),
        (lambda: kubeconfig(place, "http://127.0.0.1:9"), "no cluster answers"),
    ):
        make()
        assert cli.main(["doctor"]) == 3
        told = capsys.readouterr().out
        [line] = [line for line in told.splitlines() if line.startswith("problem")]
        assert words in line


# -- a run whose record is here ------------------------------------------------------------


@pytest.fixture
def record(place: Path) -> Callable[..., Path]:
    """Makes the mirror of a run on a cluster."""

    def make(**end: Any) -> Path:
        plan = {"name": "tiny", "backend": "kubernetes", "author": "jane"}
        record = Record.create(place / "runs", MINE, plan)
        if end:
            record.say("end", **{"bound": None, "journal": record.journal_mark(), **end})
        record.close()
        return record.path

    return make


def test_the_copy_of_a_run_that_is_over_serves_without_its_cluster(
    record: Callable[..., Path], place: Path, capsys: Out
) -> None:
    record(state="done", reason="the agent ended the run", exit_status=0)
    kubeconfig(place, "http://127.0.0.1:9")
    served(place, "one", capsys)
    with answering(failure(401, "Unauthorized")) as (server, _):
        kubeconfig(place, server)
        served(place, "two", capsys)


def served(place: Path, copy: str, capsys: Out) -> None:
    assert cli.main(["status"]) == 0
    said = capsys.readouterr()
    assert "note: this is the copy on this machine" in said.err
    assert "done: the agent ended the run" in said.out
    assert cli.main(["fetch", "--to", copy]) == 0
    assert (place / copy / "transcript.jsonl").exists()


def test_how_a_run_stands_that_is_not_over_is_not_guessed(
    record: Callable[..., Path], place: Path, capsys: Out
) -> None:
    record()
    kubeconfig(place, "http://127.0.0.1:9")
    assert cli.main(["status"]) == 3
    assert "no cluster answers" in capsys.readouterr().err
