"""GPUs that are held and not used: measured, told of, and the run wound up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_stand_in import UUID, Smi
from messages_api import messages_api
from sandbox_process import SandboxProcess, sandbox
from tiny_runs import Lab, cell, end, held, until

from runner.record.verify import verify
from runner.sandbox import gpus
from runner.sandbox.meter import ACTIVITY, SMI

ONE: dict[str, Any] = {"gpus": 1, "gpu_uuids": [UUID]}
GPU = '[sandbox]\ngpu = "A100"\ngpu_idle_timeout = {}\n'


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    return Smi(tmp_path, monkeypatch)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, gpu_hour_usd=3600.0)
    yield made
    made.close()


def gpu_lines(box: SandboxProcess) -> list[dict[str, Any]]:
    return [line for line in box.journal() if line["type"] == "gpus"]


# -- whole runs ----------------------------------------------------------------------------


def test_an_idle_run_is_told_and_then_wound_up_with_its_outputs(lab: Lab, smi: Smi) -> None:
    steps = [
        cell(held("open('outputs/kept.txt', 'w').write('k')")),
        # The cell still waits: the call came back since there was something to tell.
        cell("'queued'", expect=r"\[warning\] the GPU was not used for \d+ seconds"),
        end(),
    ]
    run = lab.submit(steps, GPU.format(20))
    status = run.over()
    assert (status.state, status.exit_status, status.run.bound) == ("bound", 4, "gpu_idle")
    assert status.reason.startswith("the GPU was not used for ")
    assert "nvidia-smi shows 0 %, and 14.2 GiB of memory held" in status.reason
    assert "; 20 seconds is the most, by sandbox.gpu_idle_timeout" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    assert "still running" in run.results()[0]
    assert "what is in outputs/ is kept" in run.results()[0]
    assert verify(run.path, None).ok
    found = status.run.gpus
    assert (found["count"], found["used_s"], found["source"]) == (1, 0.0, SMI)
    assert found["held_s"] > 20
    assert [line["source"] for line in run.lines("gpus")][-1] == SMI


def test_it_goes_on_when_it_is_resumed(lab: Lab, smi: Smi) -> None:
    # Each call may come back with the warning, and the run is not to end by itself.
    run = lab.submit([cell(held()), cell(held()), cell(held()), end()], GPU.format(3))
    status = run.over()
    assert status.state == "bound"
    held_s = status.run.gpus["held_s"]
    smi.busy(50)
    run.resume()
    run.state("running")
    with run.session() as session:
        until(lambda: (session.info()["gpus"] or {}).get("used_s", 0) > 0, "it is used")
    run.let_go()
    status = run.over()
    assert status.state == "done"
    assert status.run.gpus["used_s"] > 0
    assert status.run.gpus["held_s"] > held_s


def test_a_busy_gpu_with_a_silent_cell_is_left_alone(lab: Lab, smi: Smi) -> None:
    smi.busy(97)
    run = lab.submit([cell(held()), end()], GPU.format(2))
    with run.session() as session:
        until(lambda: (session.info()["gpus"] or {}).get("used_s", 0) > 4, "it was used for 4 s")
        assert session.info()["warnings"] == []
    run.let_go()
    status = run.over()
    assert status.state == "done"
    assert status.run.gpus["used_s"] > 4
    assert status.run.gpus["held_s"] >= status.run.gpus["used_s"]


def test_a_model_that_does_not_answer_holds_no_gpu(lab: Lab, smi: Smi) -> None:
    with (
        messages_api([{"text": "Late.", "delay_s": 60}]) as server,
        lab.secrets(MODEL_KEY="k-1234"),
    ):
        toml = f'{GPU.format(3)}[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
        status = lab.submit((), toml).over()
    assert (status.state, status.run.bound, status.run.turns) == ("bound", "gpu_idle", 0)


def test_the_lab_s_time_holds_where_the_experiment_says_none_or_more(
    tmp_path: Path, smi: Smi
) -> None:
    lab = Lab(tmp_path, gpu_idle_timeout=60.0)
    for said, holds in ((None, 60), ("30s", 30), ("2h", 60)):
        toml = '[sandbox]\ngpu = "A100"\n' + (f'gpu_idle_timeout = "{said}"\n' if said else "")
        assert lab.prepare([end()], toml).plan.gpu_idle_timeout_s == holds
    assert lab.prepare([end()]).plan.gpu_idle_timeout_s is None


# -- the sandbox ---------------------------------------------------------------------------


def test_a_sandbox_alone_tells_and_ends_by_itself(tmp_path: Path, smi: Smi) -> None:
    with sandbox(tmp_path, **ONE, gpu_idle_s=2.0, agent=False) as box:
        box.session().close()
        assert box.wait(60) == 0
        near, over = [line["text"] for line in box.journal() if line["type"] == "warning"]
        assert "After 2 seconds without use the run is wound up" in near
        assert over.startswith("the GPU was not used for 2 seconds")
        assert over.endswith("; the sandbox ends")


def test_with_an_agent_it_waits_for_that_to_wind_up(tmp_path: Path, smi: Smi) -> None:
    with sandbox(tmp_path, **ONE, gpu_idle_s=1.0) as box, box.session() as session:
        until(lambda: (session.info()["gpus"] or {}).get("over"), "it is over")
        assert session.run("1 + 1").text == "2", "what is left is done as ever"


def test_without_nvidia_smi_what_runs_counts(tmp_path: Path) -> None:
    with sandbox(tmp_path, gpus=2, gpu_idle_s=3.0) as box, box.session() as session:
        op = session.run("import time; time.sleep(600)", timeout_s=0).op
        until(lambda: (session.info()["gpus"] or {}).get("used_s", 0) > 8, "2 GPUs for 4 s")
        found = session.info()["gpus"]
        assert (found["source"], found["over"]) == (ACTIVITY, "")
        assert found["idle_s"] < 3.0
        session.interrupt(op)
        until(lambda: session.info()["gpus"]["over"], "nothing runs")
        assert (
            "no cell or command ran, and nvidia-smi does not tell" in session.info()["warnings"][-1]
        )


def test_with_mig_what_runs_counts_too(tmp_path: Path, smi: Smi) -> None:
    smi.script(f"echo '{UUID}, [N/A], [N/A]'")
    with sandbox(tmp_path, **ONE, gpu_idle_s=2.0) as box, box.session() as session:
        until(lambda: (session.info()["gpus"] or {}).get("source") == ACTIVITY, "it is known")


def test_only_its_own_gpus_count(tmp_path: Path, smi: Smi) -> None:
    with (
        sandbox(tmp_path, **ONE, gpu_idle_s=1.0) as box,
        box.session() as session,
    ):
        until(lambda: (session.info()["gpus"] or {}).get("over"), "the other one is not its own")


def test_what_was_used_survives_a_restart_of_the_server(tmp_path: Path, smi: Smi) -> None:
    smi.busy(80)
    with sandbox(tmp_path, **ONE, gpu_idle_s=4.0) as box:
        with box.session() as session:
            until(lambda: (session.info()["gpus"] or {}).get("used_s", 0) > 1, "it is used")
            smi.busy(0)
            until(lambda: gpu_lines(box), "it is told of, and noted")
        noted = gpu_lines(box)[-1]["used_s"]
        box.kill()
        box.start()
        with box.session() as session:
            until(lambda: session.info()["gpus"], "it measures again")
            assert session.info()["gpus"]["used_s"] >= noted > 1


# -- nvidia-smi that does not do what it should ----------------------------------------------


def asked(times: int) -> list[object]:
    """What so many looks find."""

    async def ask() -> list[object]:
        smi, found = gpus.Smi((), os.environ), []
        for _ in range(times):
            try:
                found.append(await smi.read())
            except gpus.NoAnswer:
                found.append("no answer")
        assert smi._asked is not None
        await smi._asked.wait()  # it was killed, and what it started too
        return found

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "script", ["exec sleep 600", "sleep 600", "echo 'NVIDIA-SMI has failed'; exit 9", "exec yes"]
)
def test_one_that_fails_or_hangs_is_given_up_after_three_times(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(gpus, "ANSWER_S", 0.3)
    smi.script(script)
    assert asked(4) == ["no answer", "no answer", None, None]


def test_one_that_lists_some_gpus_and_fails_is_believed(smi: Smi) -> None:
    lost = "Unable to determine the device handle for GPU1: 0000:44:00.0: Unknown Error"
    smi.script(f"echo '{lost}'; echo '{UUID}, 41, 9'; exit 15")
    (found,) = asked(1)
    assert isinstance(found, gpus.Reading)
    assert found.in_use == 1
