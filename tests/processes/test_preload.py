"""What a sandbox runs in its kernel before anything else: models, for those who want them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_process import SandboxProcess, sandbox, until
from tiny_runs import Lab, cell, end

from runner.errors import UsageError
from runner.session import Session

PRELOAD = "import time\ntime.sleep(0.3)\nmodel = [41]\ndel time"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("preload"), preload=PRELOAD) as made:
        yield made


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


def test_the_first_cell_waits_for_it_and_does_not_see_it(session: Session) -> None:
    assert session.run("print(model, 'time' in dir())").text == "[41] False\n"
    assert session.run("print(In, _ih[1:-1] == In[1:-1], In[1])").text.startswith(
        "['', \"print(mod"
    )
    result = session.wait(str(session.info()["preload"]))
    assert (result.state, result.cell) == ("ok", None)
    assert "41]" not in session.notebook().replace("print(model", "").partition("[41]")[2]


def test_it_runs_again_in_another_kernel(session: Session) -> None:
    before = session.info()["preload"]
    session.run("model.append(1)")
    assert "models are loaded into it again" in session.restart().reason
    assert session.run("print(model)").text == "[41]\n"
    assert session.info()["preload"] != before
    died = session.run("import os; os._exit(1)")
    assert died.state == "kernel_died"
    session.restart()
    assert session.run("print(model)").text == "[41]\n"


def test_what_fails_is_warned_of(tmp_path: Path) -> None:
    with sandbox(tmp_path, preload="1 / 0") as box, box.session() as session:
        op = session.info()["preload"]
        until(lambda: session.wait(op).final)
        assert session.wait(op).reason == "ZeroDivisionError"
        (warning,) = session.info()["warnings"]
        assert warning == "models could not be loaded into the kernel: ZeroDivisionError"
        assert session.run("1 + 1").state == "ok"


def test_a_run_whose_model_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub_server import hub_server, used_here

    from runner import Sandbox, SandboxConfig

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server(tmp_path / "hub") as hub, used_here(hub):
        hub.add("lab/tiny", {"config.json": b'{"architectures": ["LlamaForCausalLM"]}'})
        lab = Lab(tmp_path, backend="local")
        models = '[sandbox]\nmodels = [{name = "lab/tiny", var_name = "model"}]'
        run = lab.submit([cell("model"), end()], models)
        run.over()
        status = run.status
        assert (status.state, status.exit_status) == ("failed", 2)
        assert "model could not be loaded: ModuleNotFoundError: No module named 'torch'" in (
            status.reason
        )
        assert "transformers and torch" in status.reason
        # Its traceback is in the record.
        assert "ModuleNotFoundError" in (run.path / "journal.jsonl").read_text()
        lab.close()
        monkeypatch.setenv("RUNNER_RUNS", str(tmp_path / "runs"))
        monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
        config = SandboxConfig(models=[{"name": "lab/tiny", "var_name": "model"}])
        with pytest.raises(UsageError, match="model could not be loaded"):
            Sandbox(config, name="script").start()
        assert not list((tmp_path / "state").glob("*"))
