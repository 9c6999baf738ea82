"""Every field of an experiment that takes effect on `local` has an effect, and is cleaned up."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import git_server
from tiny_runs import Lab, cell, end, pids, processes_of, tool, until, waiting

from runner import locks
from runner.backends.local import processes
from runner.errors import InfrastructureError, UsageError
from runner.packages import find_python
from runner.record import Record

LIBRARY = {"package/__init__.py": "", "package/inner.py": "VALUE = 'of the package'\n"}
ALL = """
[sandbox]
cpu = 1
env = {{ PLAIN = "pläin", PYTHONPATH = "data/a" }}
repos = [{{ url = "{url}", ref = "v1", install = true }}]
local_files = [["given.txt", "deep/er/given.txt"], "run.sh"]
local_dirs = [["tree", "data"]]
volumes = [{{ name = "weights", path = "weights" }}]
system_packages = ["git"]
notebook_packages = ["six"]

[workspace]
libraries = ["alone.py", "package"]

[agent]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def test_everything_lands_where_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "model.bin").write_text("weights")
    lab = Lab(tmp_path / "lab", volumes={"weights": volume})
    files = {
        "given.txt": "given",
        "run.sh": "echo ran",
        "tree/a/b.txt": "b",
        # On the path of the experiment's code, and not on that of the server.
        "tree/a/jupyter_server.py": "raise RuntimeError",
        "tree/__pycache__/x.pyc": "",
        "alone.py": "VALUE = 'alone'\n",
        **LIBRARY,
    }
    place = tmp_path / "lab" / "x"
    place.mkdir(parents=True)
    (place / "run.sh").write_text("")
    (place / "run.sh").chmod(0o755)
    (place / "tree").mkdir()
    (place / "tree" / "link").symlink_to("a")
    with git_server(tmp_path / "git") as server:
        project = "[project]\nname = 'lib'\nversion = '1'\n[build-system]\nrequires = []\n"
        backend = "build-backend = 'b'\nbackend-path = ['.']\n"  # needs no network, and is at hand
        made = (
            "import pathlib, zipfile\n"
            "def build_editable(where, *a, **k):\n"
            "    name = 'lib-1-py3-none-any.whl'\n"
            "    with zipfile.ZipFile(pathlib.Path(where, name), 'w') as z:\n"
            "        z.writestr('lib_installed.py', 'X = 1')\n"
            "        z.writestr('lib-1.dist-info/METADATA',\n"
            "                   'Metadata-Version: 2.1\\nName: lib\\nVersion: 1\\n')\n"
            "        z.writestr('lib-1.dist-info/WHEEL',\n"
            "                   'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
            "        z.writestr('lib-1.dist-info/RECORD', '')\n"
            "    return name\n"
        )
        commit = server.add_repo(
            "lib", {"pyproject.toml": project + backend, "b.py": made, "src/libmod.py": "Y = 2\n"}
        )
        server.tag("lib", "v1")
        server.add_repo("lib", {"src/libmod.py": "Y = 3\n"})
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        look = (
            "import os, pathlib, sys, six, alone, package.inner, libmod, lib_installed\n"
            "print(alone.VALUE, package.inner.VALUE, libmod.Y, lib_installed.X, os.environ['PLAIN'])\n"
            "print(len(os.sched_getaffinity(0)), repr(os.environ['CUDA_VISIBLE_DEVICES']))\n"
            "read = lambda p: pathlib.Path(p).read_text()\n"
            "print(read('deep/er/given.txt'), read('data/a/b.txt'), read('data/link/b.txt'))\n"
            "print(read('weights/model.bin'), os.path.exists('data/__pycache__'))\n"
            "open('weights/new', 'w').write('n')\n"
            "import importlib.util; print(importlib.util.find_spec('jupyter_server').origin)\n"
            "print(os.path.islink('weights'), sys.prefix != sys.base_prefix)"
        )
        run = lab.submit(
            [
                cell(look),
                tool("run_shell", command="./run.sh; python -c 'import six; print(1)'"),
                end(),
            ],
            ALL.format(url=server.url("lib")),
            files=files,
        )
        status = run.over()
    assert status.state == "done", status.reason
    out, shell = run.results()
    assert "alone of the package 2 1 pläin" in out, out
    assert "1 ''" in out
    assert "given b b" in out
    assert "weights False" in out
    assert "data/a/jupyter_server.py" in out
    assert "True True" in out
    assert "ran\n1" in shell
    assert [repo["commit"] for repo in status.run.repos] == [commit]
    assert any(line.startswith("six==") for line in status.run.packages)
    assert [phase.name for phase in status.phases] == ["cloning", "installing"]
    assert not (run.root / "venv").exists()
    lab.close()
    assert (volume / "new").read_text() == "n"  # the link was removed, not what it leads to
    assert (volume / "model.bin").exists()


def test_a_fake_gpu_is_shown_alone(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(
        "#!/bin/sh\necho '0, GPU-aaa, Tesla T4, 15360'\n"
        "echo '1, GPU-bbb, NVIDIA A100-SXM4-80GB, 81920'\n"
        "echo '2, GPU-ccc, NVIDIA A100-SXM4-80GB, 81920'\n"
    )
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    steps = [tool("run_shell", command="echo gpus: $CUDA_VISIBLE_DEVICES"), end()]
    toml = '[sandbox]\ngpu = "A100"\ngpu_count = 2\nexecution_mode = "cli"\n'
    run = lab.submit(steps, toml)
    assert run.over().state == "done"
    assert "gpus: GPU-bbb,GPU-ccc" in run.results()[0]
    assert run.plan.gpus == ("GPU-bbb", "GPU-ccc")


def test_another_python(lab: Lab) -> None:
    wanted = platform.python_version()
    if shutil.which("/usr/bin/python3"):
        said = subprocess.run(
            ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True
        )
        wanted = said.stdout.split()[1]
    try:
        find_python(wanted)
    except UsageError:
        wanted = platform.python_version()
    source = "import platform; print('Python', platform.python_version())"
    run = lab.submit([cell(source), end()], f'[sandbox]\npython_version = "{wanted}"\n')
    assert run.over().state == "done"
    assert f"Python {wanted}" in run.results()[0]
    assert run.status.run.python == wanted


def test_two_at_once_memory_and_a_port_that_is_taken(lab: Lab, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of this machine is taken"):
            lab.submit([end()], f"[sandbox]\njupyter_port = {port}\n")
    assert not list(Path(lab.settings.runs).iterdir())
    assert not list(lab.settings.state_dir.iterdir())
    go = tmp_path / "go"
    hungry = "data = []\nimport time\nwhile True: data.append(b'x' * 2**24); time.sleep(0.01)"
    first = lab.submit(
        [cell(hungry), tool("restart_kernel"), cell(waiting(go)), end()],
        f'[sandbox]\njupyter_port = {port}\nmemory = "400Mi"\n',
    )
    second = lab.submit([cell(waiting(go)), end()])
    assert first.handle.data["url"].endswith(f":{port}")
    second.state("running")
    until(lambda: first.results(), "the kernel was killed")
    assert first.status.state == "running"
    assert "out of memory" in first.results()[0]
    go.touch()
    assert {first.over().state, second.over().state} == {"done"}


def test_what_the_agent_started_is_gone_after_the_run(lab: Lab) -> None:
    source = (
        "import os, subprocess\n"
        "subprocess.Popen(['env', '-i', 'setsid', 'sleep', '77125'])\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: os.execve('/bin/sleep', ['sleep', '77126'], {})\n"
        "    os._exit(0)\n"
    )
    gone = tool("run_shell", command="setsid nohup sleep 77127 >/dev/null 2>&1 &")
    run = lab.submit([cell(source), gone, cell("import time; time.sleep(0.5)"), end()])
    assert run.over().state == "done"
    assert pids("sleep 77125", "sleep 77126", "sleep 77127") == []
    assert not list(processes_of(run.root))


@pytest.mark.parametrize("moment", ["at once", "while it installs", "while it starts"])
def test_cancel_before_it_runs(lab: Lab, moment: str, tmp_path: Path) -> None:
    run = lab.submit([cell(waiting(tmp_path / "never")), end()])
    if moment == "while it installs":
        until(lambda: run.status.phases, "it installs")
    elif moment == "while it starts":
        until(lambda: run.status.phases and run.status.phases[-1].ended, "it starts")
    began = time.monotonic()
    lab.backend.stop(run.handle, 20.0)
    assert time.monotonic() - began < 15
    status = run.over()
    assert (status.state, status.exit_status) == ("cancelled", 130)
    assert status.reason.startswith("cancelled by the user")
    assert not (run.root / "venv").exists()


def test_a_submit_that_died_half_way(lab: Lab) -> None:
    prepared = lab.prepare([end()])
    runs = Path(lab.settings.runs)
    Record.create(runs, prepared.plan.run_id, prepared.plan.record()).close()
    for blob in prepared.blobs.values():
        assert isinstance(blob, bytes)
        Record.open(runs / prepared.plan.run_id).add_input(blob)
    handle = lab.backend.attach(prepared.plan.run_id)
    status = lab.backend.status(handle)
    assert status.state == "interrupted"
    assert "its `submit` is still at work, or was killed" in status.reason
    with pytest.raises(InfrastructureError, match="never started"), lab.backend.endpoint(handle):
        pass
    half = lab.settings.state_dir / prepared.plan.run_id / "workspace.part"
    half.mkdir(parents=True)
    run = lab.adopt(handle)
    run.resume()
    assert run.over().state == "done"
    assert run.lines("attempt")[0]["reason"] == "started"
    assert not half.exists()


def test_what_cannot_be_started_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = lab.prepare([end()])
    plan = prepared.plan
    root = lab.settings.state_dir / plan.run_id
    root.mkdir(parents=True)  # somebody else's
    (root / "theirs").touch()
    with pytest.raises(InfrastructureError, match="could not be set up"):
        lab.start(prepared)
    assert (root / "theirs").exists()
    assert not list(Path(lab.settings.runs).iterdir())
    shutil.rmtree(root)


def test_an_identity_is_of_one_process_only() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    known = processes.identity(child.pid)
    assert processes.lives(known)
    another = f"{child.pid}@1"
    processes.signal_group(another, signal.SIGKILL)
    assert child.poll() is None
    processes.signal_leader(known, signal.SIGKILL)
    until(lambda: not processes.lives(known), "it is dead, be it a zombie", 5)
    child.wait()
    processes.signal_group(known, signal.SIGKILL)  # nobody there
    assert not processes.lives("") and not processes.lives("7@")


def test_a_lock_is_held_in_spite_of_those_who_look(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    fd = locks.hold(path)
    assert fd is not None
    assert locks.is_held(path)
    assert locks.hold(path, 0.0) is None
    os.close(fd)
    assert not locks.is_held(path)
