"""Packages and models: added to what the image has, once for all runs, out of the sandbox's reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from docker_lab import DockerLab
from hub_server import hub_server, used_here
from tiny_runs import cell, end

from runner.backends.docker.snapshot import snapshot

pytestmark = pytest.mark.docker

WEIGHTS = os.urandom(1_000_000)
TOKEN = "hf_t0ken-of-the-user"
LOOK = """\
import numpy, cowsay, sys, os, pathlib
print(numpy.__file__.startswith("/opt/python"), cowsay.__file__.startswith("/venv"), sys.prefix)
print(os.path.exists("/cache/uv"), [n for n in os.environ if "INDEX" in n or "UV_" in n])
"""
MODEL = """\
import hashlib, os, pathlib
(snapshot,) = pathlib.Path(os.environ["HF_HOME"], "hub/models--lab--tiny/snapshots").iterdir()
print(hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest())
for file in (snapshot.resolve() / "mine", pathlib.Path("/cache/mine")):
    try:
        file.write_text("mine"); print("written", file)
    except OSError as error:
        print("refused:", error.strerror)
print("tokens", [name for name in os.environ if "TOKEN" in name])
"""


def test_what_the_image_lacks_is_installed_over_it(lab: DockerLab) -> None:
    packages = '[sandbox]\npython_packages = ["cowsay==6.1", "numpy>=2"]\n'
    run = lab.submit([cell(LOOK), end()], packages)
    status = run.over()
    assert status.state == "done", (status.reason, run.log())
    assert run.plan.to_install == ("cowsay==6.1",)
    assert "True True /venv" in run.results()[0]
    assert "False []" in run.results()[0]
    assert "installing" in {phase.name for phase in status.phases}
    assert any(package == "cowsay==6.1" for package in status.run.packages)
    again = lab.submit([cell("import cowsay; print('again')"), end()], packages)
    assert again.over().state == "done"
    log = (again.path / "logs" / "install.log").read_text()
    assert "Installed 1 package" in log
    assert "Prepared" not in log, "it came from the cache"


def test_what_the_image_has_is_not_installed_again(lab: DockerLab) -> None:
    run = lab.submit(
        [cell("import numpy; print('there')"), end()],
        '[sandbox]\npython_packages = ["numpy", "pandas"]\n',
    )
    assert run.over().state == "done"
    assert run.plan.to_install == ()
    assert snapshot(lab.client, run.run_id).get("install") is None


def test_models_come_with_the_user_s_login_into_what_runs_share(
    lab: DockerLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        hub_server(tmp_path / "hub", address=lab.address) as hub,
        used_here(hub),
        lab.trusting(hub.ca),
    ):
        hub.tokens["lab/tiny"] = TOKEN
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.add("lab/tiny", {"config.json": b"{}", "model.safetensors": WEIGHTS})
        toml = '[sandbox]\nmodels = ["lab/tiny"]\n'
        for _ in range(2):
            run = lab.submit([cell(MODEL), end()], toml)
            status = run.over()
            assert status.state == "done", (status.reason, run.log())
    assert hub.sent["lab/tiny/model.safetensors"] == len(WEIGHTS), "once for both"
    said = run.results()[0]
    assert "refused: Read-only file system" in said, said
    assert "refused: Permission denied" in said, said
    assert "tokens []" in said
    for name, content in lab.traces(run):
        assert TOKEN.encode() not in content, name
    other = lab.submit([cell("import os; print(os.path.exists('/cache'))"), end()])
    other.over()
    assert other.results()[0].startswith("False"), "another run sees none of it"


def test_runs_at_once(lab: DockerLab) -> None:
    runs = [lab.submit([cell(f"print({i})"), end()]) for i in range(4)]
    for i, run in enumerate(runs):
        assert run.over().state == "done"
        assert run.results()[0].startswith(str(i))
        assert not lab.things(run.run_id)["networks"], "its range of addresses is free again"
