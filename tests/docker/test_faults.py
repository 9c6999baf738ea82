"""Containers that are killed, clients that are, memory that is used up, names that are taken."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from command_line import CommandLine
from docker_lab import DockerLab
from tiny_runs import Run, cell, end, held, until

from runner.backends import backend_of
from runner.backends.docker.leftovers import leftovers
from runner.backends.docker.names import thing
from runner.backends.docker.snapshot import Container, snapshot
from runner.errors import InfrastructureError, UsageError
from runner.record.verify import verify
from runner.settings import load_settings

pytestmark = pytest.mark.docker

KEPT = "open('outputs/kept.txt', 'w').write('k'); print('here')"


def container(run: Run, step: str) -> Container:
    assert isinstance(run.lab, DockerLab)
    found = snapshot(run.lab.client, run.run_id).get(step)
    assert found is not None
    return found


def working(lab: DockerLab, toml: str = "") -> Run:
    """A run in whose first cell an output was made."""
    run = lab.submit([cell(held(KEPT)), cell("print('after')"), end()], toml)
    run.wait_for_output("kept.txt")
    run.state("running")
    until(lambda: (run.synced().path / "outputs" / "kept.txt").exists(), "it is in the record")
    return run


# -- containers that are killed ------------------------------------------------------------


def test_an_agent_that_is_killed_leaves_a_run_that_goes_on(lab: DockerLab) -> None:
    run = working(lab)
    lab.client.api.kill(container(run, "agent").id)
    status = run.over()  # the sandbox leaves with its agent
    assert (status.state, status.exit_status) == ("interrupted", None)
    assert "SIGKILL" in status.reason
    assert f"runner resume {run.run_id}" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    run.resume()
    run.let_go()
    status = run.over()
    assert (status.state, status.run.attempts) == ("done", 2)
    assert "after" in run.results()[-1]
    assert verify(run.path, None).ok


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_sandbox_that_is_ended_from_outside_ends_the_run_in_words(
    lab: DockerLab, how: str
) -> None:
    run = working(lab)
    sandbox = container(run, "sandbox").id
    lab.client.api.kill(sandbox) if how == "kill" else lab.client.api.stop(sandbox, timeout=10)
    status = run.over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "the sandbox" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    assert "here" in (run.path / "notebook.ipynb").read_text()
    assert verify(run.path, None).ok


def test_memory_of_the_kernel_and_of_the_container(lab: DockerLab) -> None:
    eat = "kept = []\nwhile True: kept.append(bytearray(32 << 20))"
    run = lab.submit(
        [cell(eat), cell("print('alive')", expect="out of memory"), end()],
        '[sandbox]\nmemory = "600Mi"\n',
    )
    status = run.over()
    assert status.state == "done", status.reason
    assert "out of memory" in run.results()[0]


def test_a_container_that_is_out_of_memory(lab: DockerLab) -> None:
    run = working(lab, '[sandbox]\nmemory = "600Mi"\n')
    sandbox = container(run, "sandbox").id
    # The server's processes are those that the kernel of the machine picks then.
    pick = "for p in $(pgrep -f 'runner.po[d]'); do echo 1000 > /proc/$p/oom_score_adj; done; "
    hog = "python -c 'x = [bytearray(1 << 20) for _ in range(2000)]'"
    made = lab.client.api.exec_create(sandbox, ["sh", "-c", pick + hog])
    lab.client.api.exec_start(made["Id"])
    status = run.over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "OOMKilled by the engine): it used more than its limit of 0.6 GiB" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    assert verify(run.path, None).ok


# -- clients that are killed ---------------------------------------------------------------


def test_a_client_that_is_killed_changes_nothing(lab: DockerLab, tmp_path: Path) -> None:
    file = lab.write([cell(held(KEPT)), cell("print('after')"), end()])
    runner = CommandLine(lab.top, **lab.env)
    elsewhere = runner.there(tmp_path / "elsewhere")
    with runner.starting("submit", str(file)) as started:
        run_id = started.run_id
        started.said("cell 1")
        started.kill()
        started.end()
    run = lab.adopt(lab.backend.attach(run_id))
    run.wait_for_output("kept.txt")
    there = elsewhere.folder / "runs" / run_id / "outputs" / "kept.txt"
    until(lambda: elsewhere("status", run_id).status or there.exists(), "the output comes")
    assert elsewhere("fetch", run_id, "--to", "early").status == 0
    assert (elsewhere.folder / "early" / "outputs" / "kept.txt").read_text() == "k"
    assert "running" in elsewhere("status", run_id).out
    assert run_id in elsewhere("list").out
    assert elsewhere("exec", run_id, "echo", "from here").out == "from here\n"
    run.let_go()
    assert run.over().state == "done"
    told = elsewhere("fetch", run_id, "--to", "late")
    assert told.status == 0, told
    assert "after" in (elsewhere.folder / "late" / "notebook.ipynb").read_text()
    assert elsewhere("verify", run_id).status == 0
    told = elsewhere("delete", "--yes", run_id)
    assert told.status == 0, told
    assert not any(lab.things(run_id).values())
    lab.runs.clear()


def test_a_submit_that_is_killed_half_way_is_found_and_removed(
    lab: DockerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.backends.docker import explain, launch

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_start", dies)
    monkeypatch.setattr(launch, "_undo", lambda *_, **__: None)  # as nobody does who was killed
    prepared = lab.prepare([end()])
    with pytest.raises(KeyboardInterrupt):
        lab.start(prepared)
    monkeypatch.undo()
    run_id = prepared.plan.run_id
    (item,) = [item for item in leftovers(lab.client) if item.run_id == run_id]
    assert not item.problem, "its client may be at work"
    monkeypatch.setattr(explain, "STARTING_S", 0.0)
    (item,) = [item for item in leftovers(lab.client) if item.run_id == run_id]
    assert "never started" in item.problem
    assert item.mend == f"runner delete --backend docker {run_id}"
    handle = lab.backend.attach(run_id)
    assert "never started" in lab.backend.status(handle).reason
    lab.backend.delete(handle)
    lab.backend.delete_record(handle)
    assert not any(lab.things(run_id).values())


def test_ctrl_c_while_it_starts_leaves_nothing(
    lab: DockerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.backends.docker import launch

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_start", interrupted)
    prepared = lab.prepare([end()])
    with pytest.raises(KeyboardInterrupt):
        lab.start(prepared)
    assert not any(lab.things(prepared.plan.run_id).values())
    assert not (Path(lab.settings.runs) / prepared.plan.run_id).exists()


def test_a_run_that_is_cancelled_while_it_prepares(lab: DockerLab, tmp_path: Path) -> None:
    from git_server import git_server

    with git_server(tmp_path / "git", address=lab.address) as git, lab.trusting(git.ca):
        git.add_repo("lib", {"lib.py": "x = 1\n"})
        prepared = lab.prepare([end()], f'[sandbox]\nrepos = ["{git.url("lib")}"]\n')
        git.stall_after = len(git.requests)
        run = lab.start(prepared)
        until(lambda: run.status.reason.startswith("cloning https"), "it clones")
        lab.backend.stop(run.handle, 5.0)
        status = run.over()
    assert (status.state, status.exit_status) == ("cancelled", 130), (status.reason, run.log())
    assert verify(run.path, None).ok


# -- what is taken, or not there -----------------------------------------------------------


def test_a_port_that_is_taken(lab: DockerLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of this machine is taken"):
            lab.submit([end()], f"[sandbox]\njupyter_port = {port}\n")
    assert not Path(lab.settings.runs).exists() or not list(Path(lab.settings.runs).iterdir())


def test_a_name_that_is_taken(lab: DockerLab) -> None:
    prepared = lab.prepare([end()])
    name = thing(prepared.plan.run_id, "sandbox")
    other = lab.client.api.create_container(lab.settings.docker.agent or "", ["true"], name=name)
    try:
        with pytest.raises(UsageError, match=f"something of the name {prepared.plan.run_id}"):
            lab.start(prepared)
    finally:
        lab.client.api.remove_container(other["Id"])
    assert not any(lab.things(prepared.plan.run_id).values())


def test_a_volume_that_somebody_else_uses(lab: DockerLab) -> None:
    run = lab.submit([end()])
    run.over()
    volume = thing(run.run_id, "workspace")
    config = lab.client.api.create_host_config(binds=[f"{volume}:/theirs"])
    other = lab.client.api.create_container(
        lab.settings.docker.agent or "", ["true"], host_config=config
    )
    try:
        with pytest.raises(InfrastructureError, match="in use by a container") as caught:
            lab.backend.delete(run.handle)
        assert f"--filter volume={volume}" in str(caught.value)
    finally:
        lab.client.api.remove_container(other["Id"])


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('image = "nonesuch"', "sandbox.image: expected an image of this machine's engine: base"),
        ('image = "bse"', "Did you mean `base`?"),
        ('system_packages = ["ffmpeg"]', "runner images build base --add ffmpeg"),
        ('python_version = "3.13"', "sandbox.python_version: expected a Python of this machine's"),
        ('gpu = "H100"', "1 × H100 in this machine"),
        ('memory = "2Ti"', "sandbox.memory: expected at most this machine's memory"),
        ("cpu = 4096", "sandbox.cpu: expected at most this machine's cores"),
        (
            'repos = ["git@github.com:org/name.git"]',
            "sandbox.repos[0].url: expected a URL with https",
        ),
        ('volumes = [{name = "data", path = "/data"}]', "sandbox.volumes[0].name"),
        ('queue = "team"', "sandbox.queue: expected no such key on `docker`"),
        ('python_packages = ["numpy<1"]', "the image base keeps its own packages"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_starts(
    lab: DockerLab, toml: str, told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        lab.prepare([end()], f"[sandbox]\n{toml}\n")
    assert told in str(caught.value)
    assert lab.unused()


def test_gpus_that_the_engine_cannot_give(
    lab: DockerLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho '0, GPU-1, NVIDIA H100 80GB HBM3, 81559'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match="one without the runtime `nvidia`") as caught:
        lab.prepare([end()], '[sandbox]\ngpu = "H100"\n')
    assert "nvidia-ctk runtime configure --runtime=docker" in str(caught.value)


def test_an_engine_of_another_machine_is_refused(
    lab: DockerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://gpubox.lab.example:2376")
    with pytest.raises(UsageError, match="expected an engine of this machine") as caught:
        lab.prepare([end()])
    assert caught.value.exit_status == 2


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    backend = backend_of(load_settings(backend="docker", runs=str(tmp_path / "runs")))
    from runner.backends.base import Selector

    with pytest.raises(InfrastructureError, match="no Docker engine answers") as caught:
        backend.list(Selector())
    assert "systemctl start docker" in str(caught.value)
