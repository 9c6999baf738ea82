"""Models on a cluster: fetched once for all runs, out of reach of their code, and of no other's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cluster_access
import pytest
import this_machine
from cluster_lab import ClusterLab
from hub_server import HubServer, hub_server, used_here
from kubernetes.client import ApiClient
from tiny_runs import Run, cell, end, tool, until

from runner.backends.kubernetes.client import connect
from runner.errors import UsageError

pytestmark = pytest.mark.cluster

NAME, OTHER = "lab/private", "lab/other"
TOKEN = "hf_t0ken-of-the-team"
WEIGHTS = os.urandom(3_000_000)
FILES = {"config.json": b'{"size": "tiny"}', "deep/model.safetensors": WEIGHTS}
LOOK = """\
import hashlib, os, pathlib, subprocess
hub = pathlib.Path(os.environ["HF_HOME"], "hub")
model = hub / "models--lab--private"
(snapshot,) = (model / "snapshots").iterdir()
print("commit", snapshot.name, (model / "refs/main").read_text() == snapshot.name)
print((snapshot / "config.json").read_text())
print(hashlib.sha256((snapshot / "deep/model.safetensors").read_bytes()).hexdigest())
print("of the cache", sorted(p.name for p in pathlib.Path("/cache/huggingface/hub").iterdir()))
print("and", sorted(p.name for p in pathlib.Path("/cache").iterdir()))
for file in (snapshot / "config.json", snapshot.resolve() / "mine", snapshot.resolve() / "../../x"):
    try:
        file.write_text("mine")
        print("written", file)
    except OSError as error:
        print("refused:", error.strerror)
(hub / "mine").write_text("of the run's own")
get = "from huggingface_hub import hf_hub_download as get; print(open(get('lab/private', "
for rest, env in (
    ("'config.json')).read())", {"HF_HUB_OFFLINE": "1"}),
    (f"'config.json', revision='{snapshot.name}', local_files_only=True)).read())", {}),
    (f"'none', revision='{snapshot.name}', local_files_only=True)))", {}),
):
    python = ["/opt/runner/bin/python", "-c", get + rest]
    done = subprocess.run(python, env={**os.environ, **env}, capture_output=True, text=True)
    print("loaded:", (done.stdout or done.stderr).splitlines()[-1])
print("tokens", [name for name in os.environ if "TOKEN" in name])
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    address = this_machine.address()
    with hub_server(tmp_path / "hub", address=address) as served:
        served.tokens[NAME] = TOKEN
        yield served


@pytest.fixture(autouse=True)
def _here(hub: HubServer) -> Iterator[None]:
    with used_here(hub):
        yield


def installed(hub: HubServer, namespace: str, top: Path, **values: object) -> ClusterLab:
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "120"}  # a stalled one waits
    given = {"pods": {"env": env}, **values}
    cluster_access.install_chart(namespace, cluster_access.images(), top, given)
    return ClusterLab(top, namespace, connect(None, namespace))


@pytest.fixture
def lab(hub: HubServer, namespace: str, tmp_path: Path) -> Iterator[ClusterLab]:
    made = installed(hub, namespace, tmp_path)
    yield made
    made.close()


def asking(revision: str = "main", name: str = NAME) -> str:
    about = f'name = "{name}", revision = "{revision}", secret = "HUB_TOKEN"'
    return f"[sandbox]\nmodels = [{{ {about} }}]\n"


def test_runs_at_once_share_what_none_of_them_can_write(
    lab: ClusterLab, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, FILES)
    hub.add(OTHER, {"config.json": b"{}"})
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # this user may look it up
    hub.stall_after = 1_000_000
    with lab.trusting(hub.ca), lab.secrets(HUB_TOKEN=TOKEN):
        config = f".cache/huggingface/hub/models--lab--private/snapshots/{commit}/config.json"
        steps = [cell(LOOK), tool("read_file", path=config), end()]
        runs = [lab.submit(steps, asking()) for _ in range(2)]
        runs.append(lab.submit([end()], asking(name=OTHER)))
        assert hub.stalled.wait(120)
        for run in runs[:2]:
            until(lambda run=run: "fetching" in phases(run), "both of them fetch it")
        until(lambda: hub.asked[f"{NAME}/deep/model.safetensors"] >= 2, "both want the file")
        hub.stall_after = None
        hub.go_on.set()
        for run in runs:
            status = run.over(240)
            assert status.state == "done", (status, run.log())
    assert hub.sent[f"{NAME}/deep/model.safetensors"] == len(WEIGHTS)
    for run in runs[:2]:
        said = run.results()[0]
        assert f"commit {commit} True" in said, said
        assert '{"size": "tiny"}' in said
        assert "of the cache ['models--lab--private']" in said
        assert "and ['huggingface']" in said
        assert said.count("refused: Read-only file system") == 3, said
        assert "tokens []" in said
        assert said.count('loaded: {"size": "tiny"}') == 2, said
        assert "loaded: huggingface_hub.errors.LocalEntryNotFoundError" in said
        assert '{"size": "tiny"}' in run.results()[1], "the agent may read it too"
        assert phases(run).count("fetching") == 1
        assert run.plan.models[0].commit == commit
        traces = [*lab.traces(run), *((str(f), f.read_bytes()) for f in files(run.path))]
        assert not [name for name, content in traces if TOKEN.encode() in content]


def test_a_commit_that_this_machine_may_not_look_up(lab: ClusterLab, hub: HubServer) -> None:
    """The team's token may read it, of a hub that a laptop need not be known to."""
    commit = hub.add(NAME, FILES)
    source = "import os, pathlib\nprint(sorted(os.listdir('.cache/huggingface/hub')))"
    with lab.trusting(hub.ca), lab.secrets(HUB_TOKEN=TOKEN):
        run = lab.submit([cell(source), end()], asking(commit))
        status = run.over(240)
    assert status.state == "done", (status, run.log())
    assert "models--lab--private" in run.results()[0]
    assert run.plan.models[0].size is None


def test_what_no_pod_could_have_is_refused_beforehand(
    lab: ClusterLab, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That this user may read it does not help a pod."""
    commit = hub.add(NAME, FILES)
    hub.add("lab/gated", FILES)
    hub.tokens["lab/gated"] = TOKEN
    hub.gated.add("lab/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for revision in ("main", commit):
        about = f'name = "{NAME}", revision = "{revision}"'
        with pytest.raises(UsageError, match="no model lab/private that this machine may read"):
            lab.submit([end()], f"[sandbox]\nmodels = [{{ {about} }}]\n")
    with pytest.raises(UsageError, match="lab/gated is gated, and pods are logged in nowhere"):
        lab.submit([end()], '[sandbox]\nmodels = ["lab/gated"]\n')
    with pytest.raises(UsageError, match="sandbox.models HUB_TOKEN: the Secret"):
        lab.submit([end()], asking())


def test_a_token_that_may_not_read_it(lab: ClusterLab, hub: HubServer) -> None:
    hub.add(NAME, FILES)
    with lab.trusting(hub.ca), lab.secrets(HUB_TOKEN="somebody-elses"):
        run = lab.submit([end()], asking("1" * 40))
        status = run.over(240)
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "fetching failed" in status.reason
    assert f"'{NAME}' not found" in status.reason
    assert "`secret` in sandbox.models" in status.reason
    assert "somebody-elses" not in json.dumps(status.reason) + run.log()


def test_a_run_of_a_lab_without_a_cache_has_them_to_itself(
    hub: HubServer, namespace: str, api: ApiClient, tmp_path: Path
) -> None:
    commit = hub.add(OTHER, FILES)
    lab = installed(hub, namespace, tmp_path, cache={"enabled": False})
    source = (
        "import pathlib\n"
        f"top = pathlib.Path('.cache/huggingface/hub/models--lab--other/snapshots/{commit}')\n"
        "print((top / 'config.json').read_text(), pathlib.Path('/cache').exists())"
    )
    with lab.trusting(hub.ca):
        run = lab.submit([cell(source), end()], f'[sandbox]\nmodels = ["{OTHER}"]\n')
        status = run.over(240)
    assert status.state == "done", (status, run.log())
    assert '{"size": "tiny"} False' in run.results()[0]
    lab.close()


def phases(run: Run) -> list[str]:
    return [phase.name for phase in run.status.phases]


def files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())
