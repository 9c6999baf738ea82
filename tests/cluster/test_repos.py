"""Private repositories on a cluster: cloned, installed and imported, and nobody sees the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cluster_access
import pytest
import this_machine
from cluster_lab import ClusterLab
from git_server import GitServer, git_server
from kubernetes.client import ApiClient
from ssh_server import ssh_server
from tiny_runs import cell, end

from runner.backends.kubernetes.client import connect

pytestmark = pytest.mark.cluster

TOKEN = "t0ken-of-the-lab"
USER = "x-access-token"
PROJECT = """\
[project]
name = "tiny-lib"
version = "1.0"
dependencies = ["idna"]

[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
py-modules = ["tiny_lib"]
"""
LOOK = """\
import os, pathlib
import idna, tiny_lib
print(tiny_lib.value, pathlib.Path("lib/part/part.py").read_text(), idna.__name__)
print("git", os.path.exists("/run/secrets/git"), os.environ.get("GIT_ASKPASS"))
print("cache", os.path.exists("/cache"))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    address = this_machine.address()
    with git_server(tmp_path_factory.mktemp("git"), address=address) as server:
        server.credentials = f"{USER}:{TOKEN}"
        part = server.add_repo("org/part", {"part.py": "part"})
        server.add_repo("org/lib", {"tiny_lib.py": "value = 7\n", "pyproject.toml": PROJECT})
        server.add_submodule("org/lib", "part", "../part", part)
        yield server


@pytest.fixture
def lab(server: GitServer, namespace: str, api: ApiClient, tmp_path: Path) -> Iterator[ClusterLab]:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lab-git"}}
    cluster_access.apply(api, namespace, {**secret, "stringData": {"token": TOKEN}})
    values = {"secrets": {"git": "lab-git"}}
    cluster_access.install_chart(namespace, cluster_access.images(), tmp_path, values)
    made = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield made
    made.close()


def test_private_repos_with_submodules_are_cloned_and_installed_at_once(
    lab: ClusterLab, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once, which share the cache; this machine's git may read the repository too."""
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\necho username={USER}\necho password={TOKEN}\n")
    helper.chmod(0o700)
    for number, (key, value) in enumerate({"credential.helper": str(helper)}.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    commit = server.git(server.root / "org/lib", "rev-parse", "main")
    repo = f'{{ url = "{server.url("org/lib")}", ref = "main", install = true }}'
    with lab.trusting(server.ca):
        toml = f"[sandbox]\nrepos = [{repo}]\n"
        runs = [lab.submit([cell(LOOK), end()], toml) for _ in range(2)]
        for run in runs:
            status = run.over(240)
            assert status.state == "done", (status, run.log())
    for run in runs:
        said = run.results()[0]
        assert "7 part idna" in said, said
        assert "git False None" in said
        assert "cache False" in said
        assert run.plan.repos[0].commit == commit
        traces = [*lab.traces(run), *((str(f), f.read_bytes()) for f in files(run.path))]
        assert not [name for name, content in traces if TOKEN.encode() in content]


def test_a_commit_that_this_machine_may_not_look_up(lab: ClusterLab, server: GitServer) -> None:
    """The cluster's token may read it: the researcher needs no access of his own."""
    commit = server.git(server.root / "org/lib", "rev-parse", "main")
    repo = f'{{ url = "{server.url("org/lib")}", ref = "{commit}" }}'
    with lab.trusting(server.ca):
        source = "print(open('lib/tiny_lib.py').read())"
        run = lab.submit([cell(source), end()], f"[sandbox]\nrepos = [{repo}]\n")
        status = run.over(240)
    assert status.state == "done", (status, run.log())
    assert "value = 7" in run.results()[0]


def test_a_deploy_key(namespace: str, server: GitServer, api: ApiClient, tmp_path: Path) -> None:
    with ssh_server(server.root, this_machine.address()) as ssh:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lab-key"}}
        key = {"ssh-privatekey": ssh.private_key, "known_hosts": ssh.known_hosts}
        cluster_access.apply(api, namespace, {**secret, "stringData": key})
        values = {"secrets": {"git": "lab-key"}}
        cluster_access.install_chart(namespace, cluster_access.images(), tmp_path, values)
        lab = ClusterLab(tmp_path, namespace, connect(None, namespace))
        repo = f'{{ url = "{ssh.url("org/part")}", ref = "{part_of(server)}" }}'
        run = lab.submit([cell(READ_PART), end()], f"[sandbox]\nrepos = [{repo}]\n")
        status = run.over(240)
    assert status.state == "done", (status, run.log())
    assert "part" in run.results()[0]
    assert ssh.private_key.splitlines()[1] not in run.log()
    lab.close()


def part_of(server: GitServer) -> str:
    return server.git(server.root / "org/part", "rev-parse", "main")


READ_PART = "print(open('part/part.py').read())"


def test_a_token_that_may_not_read_it(
    lab: ClusterLab, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "credentials", "somebody:else")
    repo = f'{{ url = "{server.url("org/lib")}", ref = "{"1" * 40}" }}'
    with lab.trusting(server.ca):
        status = lab.submit([end()], f"[sandbox]\nrepos = [{repo}]\n").over(240)
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "cloning failed" in status.reason
    assert "secrets.git" in status.reason
    assert TOKEN not in json.dumps(status.reason)


def files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())
