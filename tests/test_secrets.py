"""`runner secrets`, on this machine and on a cluster whose API server is in memory."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_api import SPACE, FakeApi

from runner import cli, secrets
from runner.backends.kubernetes.secrets import held, put
from runner.backends.kubernetes.translate import NotFound, Refused
from runner.cli import secrets as commands
from runner.cluster import SecretKey, example
from runner.errors import UsageError

Out = pytest.CaptureFixture[str]
VALUE = "sk-very-secret-0123456789"
EXPERIMENT = 'name = "x"\ntask = "Do it."\n[sandbox]\nsecrets = ["HF_TOKEN"]\n'
CLUSTER = example(secrets={"named": {"WANDB_KEY": {"secret": "wandb", "key": "token"}}})
SECRET = f"/api/v1/namespaces/{SPACE}/secrets/runner-secrets"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an experiment, and an environment without secrets."""
    for name in list(os.environ):
        if name.startswith("RUNNER_") or name in secrets.known([]):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The cluster that commands talk to."""
    made = FakeApi()
    monkeypatch.setenv("RUNNER_BACKEND", "kubernetes")
    monkeypatch.setattr(commands, "_cluster", lambda _: (made, CLUSTER))
    return made


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let stdin be this, as from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def value(api: FakeApi, key: str) -> str:
    return base64.b64decode(api.objects[SECRET]["data"][key]).decode()


# -- this machine ------------------------------------------------------------------------------


def test_places_and_known_names(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nHF_TOKEN=x\nEMPTY=\n")
    environ = {"HF_TOKEN": "y", "OUR_API_KEY": "z", "PATH": "/bin", "NO_KEY": ""}
    assert secrets.known([tmp_path], environ) == ("A", "HF_TOKEN", "OUR_API_KEY")
    assert secrets.places(["A", "HF_TOKEN", "EMPTY"], [tmp_path], environ) == {
        "A": str(tmp_path / ".env"),
        "HF_TOKEN": "environment",
        "EMPTY": None,
    }


def test_the_environment_wins_and_values_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"A={VALUE}\nB=file\n")
    found = secrets.look_up(["A", "B"], [tmp_path], {"B": "environment"})
    assert found == {"A": VALUE, "B": "environment"}
    assert VALUE not in repr(found)
    with pytest.raises(UsageError, match="missing secrets: C, D"):
        secrets.look_up(["A", "C", "D"], [tmp_path], {})


def test_list_and_check_on_this_machine(place: Path, capsys: Out) -> None:
    (place / ".env").write_text(f"HF_TOKEN={VALUE}\n")
    assert cli.main(["secrets", "list"]) == 0
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[1:]] == [
        ["ANTHROPIC_API_KEY", "–", "missing"],
        ["HF_TOKEN", str(place / ".env"), "there"],
    ]
    assert cli.main(["secrets", "check", "experiment.toml"]) == 2
    both = capsys.readouterr()
    assert "missing secrets: ANTHROPIC_API_KEY" in both.err
    assert ".env" in both.err
    assert VALUE not in said + both.out + both.err
    (place / ".env").write_text("HF_TOKEN=x\nANTHROPIC_API_KEY=y\n")
    assert cli.main(["secrets", "check", "experiment.toml"]) == 0


def test_set_is_refused_on_this_machine(capsys: Out) -> None:
    assert cli.main(["secrets", "set", "HF_TOKEN"]) == 2
    said = capsys.readouterr().err
    assert "`secrets set HF_TOKEN` needs a cluster" in said
    assert "write HF_TOKEN=… into .env" in said


def test_in_containers_they_come_from_this_machine_too(capsys: Out) -> None:
    assert cli.main(["secrets", "list", "--backend", "docker"]) == 0
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().out


# -- a cluster ---------------------------------------------------------------------------------


def test_list_on_a_cluster(api: FakeApi, capsys: Out) -> None:
    data = {"HF_TOKEN": "eA==", "EMPTY": "", "not-a-name": "eA=="}
    api.put("secrets", "runner-secrets", data=data)
    assert cli.main(["secrets", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["place"], row["state"]) for row in rows] == [
        ("ANTHROPIC_API_KEY", "runner-secrets/ANTHROPIC_API_KEY", "missing"),
        ("HF_TOKEN", "runner-secrets/HF_TOKEN", "there"),
        ("WANDB_KEY", "wandb/token", "missing"),
    ]


def test_secrets_that_may_not_be_read_are_unknown(capsys: Out, monkeypatch: Any) -> None:
    hidden = FakeApi(forbidden=(f"/api/v1/namespaces/{SPACE}/secrets",))
    monkeypatch.setenv("RUNNER_BACKEND", "kubernetes")
    monkeypatch.setattr(commands, "_cluster", lambda _: (hidden, CLUSTER))
    assert cli.main(["secrets", "check", "experiment.toml"]) == 0
    both = capsys.readouterr()
    assert both.out.count("unknown") == 2
    assert "you may not read these Secrets" in both.err


def test_check_on_a_cluster(api: FakeApi, capsys: Out) -> None:
    assert cli.main(["secrets", "check", "experiment.toml"]) == 2
    said = capsys.readouterr().err
    assert "missing secrets: HF_TOKEN, ANTHROPIC_API_KEY" in said
    assert "runner secrets set HF_TOKEN; runner secrets set ANTHROPIC_API_KEY" in said
    assert cli.main(["secrets", "check", "experiment.toml", "--json"]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
    api.put("secrets", "runner-secrets", data={"HF_TOKEN": "eA==", "ANTHROPIC_API_KEY": "eA=="})
    assert cli.main(["secrets", "check", "experiment.toml"]) == 0


def test_an_experiment_without_secrets(api: FakeApi, place: Path, capsys: Out) -> None:
    (place / "script.json").write_text("[]")
    agent = '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
    (place / "none.toml").write_text(f'name = "x"\ntask = "Do it."\n{agent}')
    assert cli.main(["secrets", "check", "none.toml"]) == 0
    assert "names no secrets" in capsys.readouterr().err


def test_set_makes_the_secret_and_then_changes_it(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    typed(monkeypatch, f"{VALUE}\n".encode())
    assert cli.main(["secrets", "set", "HF_TOKEN"]) == 0
    both = capsys.readouterr()
    assert "the key HF_TOKEN of the Secret runner-secrets, which was made" in both.out
    assert "a line break at the end of the value was taken away" in both.err
    assert VALUE not in both.out + both.err
    assert value(api, "HF_TOKEN") == VALUE
    assert api.objects[SECRET]["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "runner"
    typed(monkeypatch, b"two\r\n")
    assert cli.main(["secrets", "set", "OTHER", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"name": "OTHER", "secret": "runner-secrets", "key": "OTHER", "created": False}
    assert (value(api, "HF_TOKEN"), value(api, "OTHER")) == (VALUE, "two")


def test_set_goes_where_the_chart_says(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, VALUE.encode())
    assert cli.main(["secrets", "set", "WANDB_KEY"]) == 0
    made = api.objects[f"/api/v1/namespaces/{SPACE}/secrets/wandb"]
    assert made["data"] == {"token": base64.b64encode(VALUE.encode()).decode()}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b" \t\n", "is empty"),
        (b"sk-abc\n\n", "begins or ends with white space"),
        (b" sk-abc", "begins or ends with white space"),
        (b"sk\0abc", "NUL"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"HF_TOKEN=sk-abc\n", "begins as a line of a .env file"),
        (b"x" * (commands.LONGEST + 1), "larger than"),
    ],
)
def test_values_that_are_none(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: Out, data: bytes, words: str
) -> None:
    typed(monkeypatch, data)
    assert cli.main(["secrets", "set", "HF_TOKEN"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "sk-abc" not in said
    assert api.requests == []


def test_a_value_of_several_lines_is_kept(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    typed(monkeypatch, b"{\n}\n")
    assert cli.main(["secrets", "set", "SERVICE_ACCOUNT"]) == 0
    assert value(api, "SERVICE_ACCOUNT") == "{\n}"
    assert "has 2 lines" in capsys.readouterr().err


def test_a_value_in_place_of_the_name_is_not_repeated(api: FakeApi, capsys: Out) -> None:
    assert cli.main(["secrets", "set", VALUE]) == 2
    assert VALUE not in capsys.readouterr().err
    assert cli.main(["secrets", "set", "HF_TOKEN", VALUE]) == 2
    assert VALUE not in capsys.readouterr().err


def test_a_prompt_hides_what_is_typed(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    typed(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or VALUE)
    assert cli.main(["secrets", "set", "HF_TOKEN"]) == 0
    assert asked == ["value of HF_TOKEN, which is not shown: "]
    assert value(api, "HF_TOKEN") == VALUE


# -- the Secrets themselves --------------------------------------------------------------------


def test_one_look_up_for_each_secret() -> None:
    api = FakeApi()
    found = held(api, CLUSTER, ["A", "B", "C", "WANDB_KEY"])
    assert [one.name for one in found] == ["A", "B", "C", "WANDB_KEY"]
    assert len(api.requests) == 2


def test_somebody_else_makes_the_secret_first() -> None:
    class Slow(FakeApi):
        def _patch(self, path: str, body: Any) -> dict[str, Any]:
            if path not in self.objects:
                self.put("secrets", "runner-secrets", data={"A": "eA=="})
                raise NotFound(path)
            return super()._patch(path, body)

    api = Slow()
    assert put(api, SecretKey(secret="runner-secrets", key="B"), "y").made is False
    assert api.objects[SECRET]["data"] == {"A": "eA==", "B": "eQ=="}


def test_who_else_writes_a_secret_is_told(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    owner = {"kind": "ExternalSecret", "name": "vault"}
    api.put("secrets", "runner-secrets", metadata={"ownerReferences": [owner]})
    typed(monkeypatch, b"x")
    assert cli.main(["secrets", "set", "HF_TOKEN"]) == 0
    assert "ExternalSecret vault writes this Secret too" in capsys.readouterr().err


def test_a_secret_that_cannot_be_changed() -> None:
    class Immutable(FakeApi):
        def _patch(self, path: str, body: Any) -> dict[str, Any]:
            raise Refused("data: Forbidden: field is immutable")

    with pytest.raises(UsageError, match="field is immutable") as caught:
        put(Immutable(), SecretKey(secret="s", key="k"), "x")
    assert "made anew" in caught.value.hint
