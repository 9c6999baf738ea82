"""What a run's containers may, and what nobody can see of them."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from docker_lab import DockerLab
from git_server import git_server
from messages_api import messages_api
from tiny_runs import Run, cell, end, held, until
from uv import find_uv_bin

from runner.backends.docker.exec import output
from runner.backends.docker.snapshot import snapshot
from runner.backends.reach import ExecError
from runner.errors import InfrastructureError

pytestmark = pytest.mark.docker

LOOK = """\
import os, pathlib, json
status = dict(l.split(":\\t", 1) for l in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\\t" in l)
print(json.dumps({
    "uid": os.getuid(), "caps": status["CapEff"], "nnp": status["NoNewPrivs"],
    "record": os.path.exists("/record"), "init": pathlib.Path("/proc/1/comm").read_text().strip(),
    "plan": sorted(os.listdir("/etc/runner")), "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
}))
"""
TOML = """
[sandbox]
secrets = ["TINY_TOKEN"]
cpu = "1500m"
memory = "1Gi"
"""


def said(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.results()[0].strip().splitlines()[0]))


def test_each_container_has_what_it_needs_and_no_more(lab: DockerLab) -> None:
    with lab.secrets(TINY_TOKEN="s3cr3t-of-the-sandbox"):
        run = lab.submit([cell(LOOK), cell(held()), end()], TOML)
    run.state("running")
    until(lambda: len(run.synced().lines("tool_result")) == 1, "the first cell is done")
    things = {
        item["Config"]["Labels"]["runner.step"]: item
        for item in lab.things(run.run_id)["containers"]
    }
    assert set(things) == {"record", "sandbox", "agent"}
    for step, item in things.items():
        host = item["HostConfig"]
        assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"]), step
        assert (item["Config"]["User"], host["Init"], host["Privileged"]) == (
            "1000:1000",
            True,
            False,
        )
        assert host["PidsLimit"] > 0
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["ReadonlyRootfs"] == (step != "sandbox")
        assert host["RestartPolicy"]["Name"] == "no"
        ports = host["PortBindings"] or {}
        assert [p["HostIp"] for binds in ports.values() for p in binds] == ["127.0.0.1"] * (
            step == "sandbox"
        )
        assert not [name for name in item["Config"]["Env"] if "TOKEN" in name]
        mounted = {mount["Destination"]: mount["RW"] for mount in item["Mounts"]}
        assert ("/record" in mounted) == (step != "sandbox")
        assert mounted["/etc/runner"] is False
        assert mounted["/sandbox"] == (step != "agent")
    assert things["sandbox"]["HostConfig"]["NanoCpus"] == 1_500_000_000
    with lab.backend.endpoint(run.handle) as endpoint:
        token = endpoint.token
        port = int(endpoint.url.rpartition(":")[2])
    with pytest.raises(OSError):  # the port is that of the loopback interface alone
        socket.create_connection((lab.address, port), timeout=2)
    for name, content in lab.traces(run):
        assert token.encode() not in content, name
    run.let_go()
    run.over()
    look = said(run)
    assert (look["uid"], look["caps"], look["nnp"]) == (1000, "0000000000000000", "1")
    assert (look["record"], look["init"]) == (False, "docker-init")
    assert "agent.json" in look["plan"]
    assert look["shm"] == 1 << 30


def test_two_runs_cannot_talk_to_each_other(lab: DockerLab) -> None:
    one = lab.submit([cell(held()), end()])
    one.state("running")
    (network,) = lab.things(one.run_id)["networks"]
    told = lab.client.api.inspect_network(network["Id"])["Containers"]
    (address,) = [
        c["IPv4Address"].partition("/")[0] for c in told.values() if c["Name"].endswith("-sandbox")
    ]
    source = (
        "import socket\n"
        f"try: socket.create_connection(({address!r}, 8888), 3); print('reached')\n"
        "except OSError as error: print('refused', error)"
    )
    other = lab.submit([cell(source), end()])
    other.over()
    assert "refused" in other.results()[0]
    reach = "import socket; socket.create_connection(('sandbox', 8888), 3); print('reached')"
    with one.session() as session:  # as from within its own network
        assert session.shell(f'python -c "{reach}"').text == "reached\n"
    one.let_go()
    one.over()


DIAL = """\
import os, socket
try:
    socket.create_connection({place!r}, 3)
    print("reached")
except OSError as error:
    print("refused", error)
try:
    print("named", socket.gethostbyname({name!r}))
except OSError as error:
    print("no name:", type(error).__name__)
print([name for name in os.environ if "proxy" in name.lower()])
"""


def index_host() -> str:
    """The host of the package index, which is beyond this machine, and which tests need anyway."""
    command = [find_uv_bin(), "pip", "compile", "-", "--emit-index-url", "--no-header", "--quiet"]
    told = subprocess.run(command, input="\n", capture_output=True, text=True, check=True).stdout
    host = urlsplit(told.split()[1]).hostname
    assert host, told
    return host


def test_a_sandbox_without_a_network(lab: DockerLab, tmp_path: Path) -> None:
    outside = index_host()
    with (
        git_server(tmp_path / "git", address=lab.address) as git,
        lab.trusting(git.ca),
        lab.secrets(
            MODEL_KEY="key-of-the-model", https_proxy="http://127.0.0.1:1", no_proxy=lab.address
        ),
    ):
        git.add_repo("lib", {"lib.py": "x = 1\n"})
        dial = (
            DIAL.format(place=(socket.gethostbyname(outside), 443), name=outside)
            + "import lib; print('lib', lib.x)"
        )
        script = [
            {"text": "I look.", "tools": [{"name": "run_cell", "input": {"source": dial}}]},
            {"text": "Done."},
        ]
        repos = f'repos = ["{git.url("lib")}"]\n'
        for closed in (True, False):
            with messages_api(script, address=lab.address) as server:
                agent = f'[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
                network = 'network = "none"\n' if closed else ""
                run = lab.submit((), f"[sandbox]\n{network}{repos}{agent}")
                with run.session() as session:  # this machine gets there
                    assert session.shell("echo here").text == "here\n"
                status = run.over()
            assert status.state == "done", status.reason
            said = run.results()[0]
            assert "lib 1" in said
            assert ("reached" in said.splitlines()) != closed
            assert ("no name: gaierror" in said) == closed
            assert ("[]" in said) == closed


def test_what_git_has_stored_is_for_the_container_that_clones(
    lab: DockerLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "ghp-of-the-user-1234"
    with git_server(tmp_path / "git", address=lab.address) as git, lab.trusting(git.ca):
        git.add_repo("lib", {"lib.py": "x = 1\n"})
        git.credentials = f"me:{password}"
        store = tmp_path / "stored"
        host = git.url("lib").split("/")[2]
        store.write_text(f"https://me:{password}@{host}\n")
        config = tmp_path / "gitconfig"
        config.write_text(f"[credential]\n\thelper = store --file={store}\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        steps = [cell("import lib, os; print(lib.x); print(open('lib/.git/config').read())"), end()]
        run = lab.submit(steps, f'[sandbox]\nrepos = ["{git.url("lib")}"]\n')
        status = run.over()
    assert status.state == "done", (status.reason, run.log())
    assert run.results()[0].startswith("1")
    for name, content in lab.traces(run):
        assert password.encode() not in content, name
    assert password not in run.results()[0]
    for file in run.path.rglob("*"):
        assert not file.is_file() or password.encode() not in file.read_bytes(), file


def test_volumes_of_the_settings(lab: DockerLab, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for place in (data, out):
        place.mkdir()
        place.chmod(0o777)
    (data / "x.txt").write_text("here")
    top = tmp_path / "with"
    top.mkdir()
    given = DockerLab(top, volumes={"data": data, "out": out})
    volumes = (
        '[{name = "data", path = "/data", read_only = true}, {name = "out", path = "deep/out"}]'
    )
    source = (
        "import os\nprint(open('/data/x.txt').read())\n"
        "try: open('/data/y', 'w')\nexcept OSError as error: print(error.strerror)\n"
        "open('deep/out/made', 'w').write('1'); open('deep/own', 'w').write('2')"
    )
    run = given.submit([cell(source), end()], f"[sandbox]\nvolumes = {volumes}\n")
    run.over()
    assert "here\nRead-only file system" in run.results()[0]
    assert (out / "made").read_text() == "1"
    given.close()


def test_a_command_that_fails_says_how(lab: DockerLab) -> None:
    run = lab.submit([cell(held()), end()])
    run.state("running")
    found = snapshot(lab.client, run.run_id)
    agent, record = found.get("agent"), found.get("record")
    assert agent and record
    with pytest.raises(ExecError, match="exit status 7: what went wrong") as caught:
        output(lab.client, agent.id, ["sh", "-c", "echo what went wrong >&2; exit 7"])
    assert caught.value.code == 7
    with pytest.raises(InfrastructureError, match="is not running"):
        output(lab.client, record.id, ["true"])
    run.let_go()
    run.over()
