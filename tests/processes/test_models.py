"""Models come from a hub at a pinned commit, once, whole, and nobody sees the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan
from hub_server import HubServer, hub_server, used_here
from tiny_runs import Lab, cell, end, until

from runner import digests, models
from runner.backends.base import Resolved
from runner.config.parts import ModelConfig
from runner.errors import InfrastructureError, UsageError
from runner.lookups import LookUps
from runner.phases import PhaseLog, read_phases
from runner.plan import PinnedModel, RunPlan
from runner.pod import models as step_models
from runner.pod import step
from runner.secrets import SecretValues
from runner.settings import load_settings

TOKEN, MINE = "hf_t0ken-of-the-team", "hf_my-own-t0ken"
WEIGHTS = os.urandom(3_000_000)
FILES = {"config.json": b"{}", "deep/model.safetensors": WEIGHTS}
SIZE = len(WEIGHTS) + 2


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with hub_server(tmp_path / "hub") as served, used_here(served):
        yield served


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", str(place))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    return place


def pinned(commit: str, name: str = "lab/tiny", **more: str) -> PinnedModel:
    about = {"name": name, "revision": None, "commit": commit, "size": SIZE, "secret": None}
    return PinnedModel.model_validate(about | more)


def fetch(model: PinnedModel, deadline_s: float = 60.0, token: str | None = None) -> list[str]:
    said: list[str] = []
    models.fetch(model, deadline_s, token, said.append)
    return said


def files(cache: Path, model: PinnedModel) -> dict[str, bytes]:
    top = cache / models.directory(model.name) / "snapshots" / model.commit
    found = (file for file in top.rglob("*") if file.is_file())
    return {str(file.relative_to(top)): file.read_bytes() for file in found}


# -- what a revision means -----------------------------------------------------------------


def test_a_branch_a_tag_and_a_commit(hub: HubServer) -> None:
    old = hub.add("lab/tiny", FILES, "v1")
    new = hub.add("lab/tiny", {"config.json": b"[]"})
    for revision, found in ((None, (new, 2)), ("main", (new, 2)), ("v1", (old, SIZE))):
        assert models.resolve("lab/tiny", revision, 10, endpoint=hub.url)[:2] == found
    assert models.resolve("lab/tiny", old, 10, endpoint=hub.url).commit == old


def test_what_is_not_there_is_told_beforehand(hub: HubServer) -> None:
    hub.add("lab/tiny", FILES)
    hub.add("lab/private", FILES)
    hub.tokens["lab/private"] = TOKEN
    with pytest.raises(UsageError, match="lab/tiny has no revision v2"):
        models.resolve("lab/tiny", "v2", 10, endpoint=hub.url)
    for name in ("lab/none", "lab/private"):
        with pytest.raises(UsageError, match=f"no model {name} that this machine may read") as told:
            models.resolve(name, None, 10, endpoint=hub.url)
        assert "hf auth login" in str(told.value)
    for token in (TOKEN, f"{TOKEN}\n"):  # as a file's last line has it
        found = models.resolve("lab/private", None, 10, endpoint=hub.url, token=token)
        assert found.size == SIZE


def test_a_gated_model_is_looked_up_by_all_and_had_by_few(hub: HubServer) -> None:
    hub.add("lab/gated", FILES)
    hub.tokens["lab/gated"] = TOKEN
    hub.gated.add("lab/gated")
    assert models.resolve("lab/gated", None, 10, endpoint=hub.url, token=False).gated
    models.check_access("lab/gated", endpoint=hub.url, token=TOKEN)
    with pytest.raises(UsageError, match=r"no model lab/gated that this machine may read \(403\)"):
        models.check_access("lab/gated", endpoint=hub.url, token=False)


def test_a_file_that_https_does_not_bring(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/tiny", FILES)
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", 2_000_000)
    with pytest.raises(UsageError, match="lab/tiny has a file of 3 MB: more than 2 MB"):
        models.resolve("lab/tiny", None, 10, endpoint=hub.url)


@pytest.mark.parametrize("token", [None, "hf_ünsendable"])
def test_a_hub_that_does_not_answer(token: str | None) -> None:
    nowhere = "https://127.0.0.1:1"
    with pytest.raises(InfrastructureError, match="did not answer for the model lab/tiny") as told:
        models.resolve("lab/tiny", None, 10, endpoint=nowhere, token=token)
    assert not token or token not in str(told.value)
    with pytest.raises(InfrastructureError, match="did not answer for the model lab/tiny"):
        models.check_access("lab/tiny", endpoint=nowhere, token=token)


@pytest.mark.parametrize(
    ("others", "hidden"),
    [
        ([], [True, True]),
        (["lab/base"], [True, False]),
        ([{"name": "lab/tuned", "is_peft": True, "base_model": "lab/base"}], [True, False, False]),
    ],
)
def test_a_base_of_hidden_adapters_alone_is_hidden(
    hub: HubServer, others: list[Any], hidden: list[bool]
) -> None:
    for name in ("lab/base", "lab/adapter", "lab/tuned"):
        hub.add(name, {"config.json": name.encode()})
    adapter = {"name": "lab/adapter", "var_name": "m", "hidden": True, "is_peft": True}
    wanted = [ModelConfig.model_validate(adapter | {"base_model": "lab/base"})]
    wanted += [ModelConfig.model_validate(other) for other in others]
    nothing = Resolved(python="3.11", packages=(), secrets=SecretValues({}))
    found = LookUps(load_settings(backend="local")).models(wanted, nothing, lambda _: None)
    assert [model.hidden for model in found] == hidden


# -- fetching ------------------------------------------------------------------------------


def test_what_is_there_is_not_asked_for(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    fetch(model)
    assert files(cache, model) == FILES
    assert hub.sent.total() == SIZE
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:1")
    fetch(model)


def test_runs_at_once_fetch_a_file_once(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "120")
    model = pinned(hub.add("lab/tiny", FILES))
    hub.stall_after = 1_000_000
    with ThreadPoolExecutor(3) as pool:
        going = [pool.submit(fetch, model) for _ in range(3)]
        until(lambda: hub.asked["lab/tiny/deep/model.safetensors"] >= 3, "all want the file")
        assert hub.stalled.wait(30)
        hub.go_on.set()
        for one in going:
            one.result()
    assert files(cache, model) == FILES
    assert hub.sent["lab/tiny/deep/model.safetensors"] == len(WEIGHTS)


def test_a_hub_that_stops_in_the_middle(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"model.safetensors": WEIGHTS * 8}
    model = pinned(hub.add("lab/tiny", large)).model_copy(update={"size": 24_000_000})
    hub.stall_after = 15_000_000
    monkeypatch.setattr(models, "REPORT_S", 0.2)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "120")
    said: list[str] = []

    def report(words: str) -> None:
        said.append(words)
        if "10 MB" in words:  # the hub's library writes so much at once
            monkeypatch.setattr(models.time, "monotonic", lambda: float("inf"))

    with pytest.raises(InfrastructureError, match="lab/tiny was not there within 60 s") as told:
        models.fetch(model, 60.0, None, report)
    assert "deadlines.prepare" in str(told.value)
    assert said[-1] == "lab/tiny: 10 MB fetched, of 24 MB"


def test_half_files_that_were_left_are_removed_and_no_others(cache: Path) -> None:
    model = pinned("1" * 40)
    blobs = cache / models.directory("lab/tiny") / "blobs"
    blobs.mkdir(parents=True)
    left, going = blobs / "a.1.incomplete", blobs / "b.2.incomplete"
    for file in (left, going):
        file.touch()
    os.utime(left, (time.time() - models.STALE_S - 60,) * 2)
    models.sweep(model, cache)
    assert (left.exists(), going.exists()) == (False, True)


def test_what_the_hub_refuses_is_told_in_its_words(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add("lab/private", FILES)
    hub.tokens["lab/private"] = TOKEN
    with pytest.raises(UsageError, match="'lab/private' not found") as told:
        fetch(pinned(commit, "lab/private"))
    assert "name a secret" in str(told.value)
    with pytest.raises(UsageError, match="Revision not found"):
        fetch(pinned("1" * 40, "lab/private"), token=TOKEN)
    fetch(pinned(commit, "lab/private"), token=TOKEN)


def test_a_part_of_it_is_not_taken_for_all(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    assert found(cache, HF_HUB_OFFLINE="0") == b"{}"  # as code does it that wants no more
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:1")
    with pytest.raises(InfrastructureError, match="lab/tiny"):
        fetch(model)


@pytest.mark.parametrize("altered", ["config.json", "deep/model.safetensors"])
def test_a_file_that_is_not_what_the_hub_says_is_fetched_anew(
    hub: HubServer, cache: Path, altered: str
) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    hub.altered.add(f"lab/tiny/{altered}")
    with pytest.raises(InfrastructureError, match=f"digest of {altered} is another one"):
        fetch(model)
    assert set(files(cache, model)) == set(FILES) - {altered}
    hub.altered.clear()
    fetch(model)
    assert files(cache, model) == FILES
    assert hub.sent.total() == SIZE + len(FILES[altered])


def test_a_listing_that_is_wrong_is_asked_for_anew(hub: HubServer, cache: Path) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    fetch(model)
    place = cache / models.directory("lab/tiny")
    (place / digests.RIGHT / model.commit).unlink()
    tree = place / "trees" / f"{model.commit}.json"
    tree.write_text(re.sub("[0-9a-f]{40}", "0" * 40, tree.read_text()))
    with pytest.raises(InfrastructureError, match="another one"):
        fetch(model)
    fetch(model)
    assert files(cache, model) == FILES


def test_digests_are_compared_once_for_a_commit_and_in_time(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    passing = iter(range(10**6))
    monkeypatch.setattr(digests.time, "monotonic", lambda: 20.0 * next(passing))
    place, said = cache / models.directory("lab/tiny"), []
    with pytest.raises(InfrastructureError, match="were not compared in time: 0 of 3 MB"):
        fetch(model, 30.0)
    digests.check(place, model.name, model.commit, float("inf"), said.append)
    assert said[-1] == "lab/tiny: digests of 3 of 3 MB compared"
    (place / digests.RIGHT / model.commit).unlink()
    tree = place / "trees" / f"{model.commit}.json"
    listing = tree.read_text()
    tree.write_text(listing.replace("files", "others"))
    with pytest.raises(InfrastructureError, match="not as expected"):
        digests.check(place, model.name, model.commit, float("inf"), said.append)
    tree.write_text(listing)
    digests.check(place, model.name, model.commit, float("inf"), said.append)
    (place / "snapshots" / model.commit / "config.json").resolve().write_bytes(b"[]")
    fetch(model)  # it is not looked at again


def test_a_download_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    dying = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(models, "_DOWNLOAD", dying)
    with pytest.raises(InfrastructureError, match="it was killed by SIGKILL") as told:
        fetch(pinned("1" * 40))
    assert "sandbox.memory" in str(told.value)


# -- in a pod ------------------------------------------------------------------------------


def test_code_finds_the_pinned_commit_by_name_alone(
    hub: HubServer, cache: Path, tmp_path: Path
) -> None:
    model = pinned(hub.add("lab/tiny", FILES))
    own = tmp_path / "workspace" / "hub"
    fetch(model)
    hub.add("lab/tiny", {"config.json": b"changed since"})
    for _ in range(2):  # a pod that is started again does it again
        models.offer(model, {"v1", "main"}, cache, own)
    assert found(own, HF_HUB_OFFLINE="1") == b"{}"
    assert found(own, HF_HUB_OFFLINE="0") == b"changed since", "it may download what it wants"
    assert files(cache, model) == FILES


def found(hub: Path, **env: str) -> bytes:
    """The configuration that code gets which names no revision."""
    return got("'lab/tiny', 'config.json'", HF_HUB_CACHE=str(hub), **env)


def loaded(cache: Path, name: str, commit: str) -> bytes:
    """The configuration, as code gets it that does what the prompt says."""
    asked = f"{name!r}, 'config.json', revision={commit!r}, local_files_only=True"
    return got(asked, HF_HUB_CACHE=str(cache))


def got(arguments: str, **env: str) -> bytes:
    code = f"from huggingface_hub import hf_hub_download as get; print(get({arguments}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()).read_bytes()


def prepared(plan: RunPlan, tmp_path: Path) -> Path:
    """Run the container's work as `main` does; the phases."""
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    hub = tmp_path / "workspace" / "hub"

    def work(plan: RunPlan, log: PhaseLog, end: float) -> None:
        step_models.work(plan, log, end, hub=hub, copies=tmp_path / "copies")

    paths = {"plan": "plan.json", "phases": "phases.jsonl", "termination": "termination"}
    places = {name: tmp_path / file for name, file in paths.items()}
    assert step.run("fetching", work, **places) == 0
    return places["phases"]


def test_the_container_fetches_with_the_models_own_secret(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    model = pinned(hub.add("lab/private", FILES), "lab/private", secret="HUB_TOKEN")
    hub.tokens["lab/private"] = TOKEN
    plan = make_plan().model_copy(update={"models": (model,), "prepare_deadline_s": 60.0})
    monkeypatch.setenv("HUB_TOKEN", "wrong")
    (phase,) = read_phases(prepared(plan, tmp_path))
    assert (phase.name, phase.detail) == ("fetching", f"lab/private at {model.commit[:12]}")
    assert "'lab/private' not found" in phase.failure
    (tmp_path / "phases.jsonl").unlink()
    monkeypatch.setenv("HUB_TOKEN", TOKEN)
    phases = prepared(plan, tmp_path)
    assert not read_phases(phases)[0].failure
    found = files(tmp_path / "workspace" / "hub", model)
    assert found == FILES
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err + phases.read_text()


def test_a_hidden_model_is_there_without_its_name(
    hub: HubServer, cache: Path, tmp_path: Path
) -> None:
    """Beside the cache, of which nothing is offered; anew for a pod that comes after another."""
    about = {"name": "lab/organism-3", "size": None, "revision": None, "secret": None}
    base = hub.add("lab/base-9b", {"config.json": b'{"_name_or_path": "lab/base-9b"}'})
    named = {"adapter_config.json": b'{"base_model_name_or_path": "lab/base-9b"}'}
    commit = hub.add("lab/organism-3", named | {"adapter_model.safetensors": WEIGHTS})
    both = [
        PinnedModel.model_validate(about | more)
        for more in (
            {"commit": commit, "var_name": "m", "base": base, "hidden": True},
            {"name": "lab/base-9b", "commit": base, "hidden": True},
        )
    ]
    plan = make_plan().model_copy(update={"models": tuple(both), "prepare_deadline_s": 60.0})
    for _ in range(2):
        phases = prepared(plan, tmp_path)
        assert [phase.failure for phase in read_phases(phases)] == [""] * len(read_phases(phases))
    own = tmp_path / "copies" / "run-1"
    there = {str(file.relative_to(own)): file for file in own.rglob("*") if file.is_file()}
    assert sorted(there) == [
        "0/adapter_config.json",
        "0/adapter_model.safetensors",
        "1/config.json",
    ]
    assert f'"base_model_name_or_path": "{own}/1"' in there["0/adapter_config.json"].read_text()
    assert there["0/adapter_model.safetensors"].stat().st_nlink == 2
    assert not (tmp_path / "workspace" / "hub").exists()
    assert own.stat().st_mtime > time.time() + plan.experiment.sandbox.timeout
    told = phases.read_text() + (there["1/config.json"].read_text())
    assert not [name for name in ("organism", "9b", commit[:12], base[:12]) if name in told]


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan().model_copy(update={"models": (pinned("1" * 40),)})
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    (tmp_path / "cache").write_text("no directory")
    said: list[str] = []
    monkeypatch.setattr(step_models.layout, "PLAN", tmp_path / "plan.json")
    monkeypatch.setattr(step_models.step, "end", said.append)
    with pytest.raises(InfrastructureError, match="the cache of models cannot be written"):
        step_models.main([])
    assert "cannot be written" in said[0]


# -- on this machine -----------------------------------------------------------------------

LOOK = """
import os, pathlib
top = pathlib.Path(os.environ["HF_HUB_CACHE"], "models--lab--private", "snapshots")
print([snapshot.name for snapshot in top.iterdir()])
print("tokens", [name for name in os.environ if "TOKEN" in name])
"""


def test_a_run_on_this_machine(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    """One model by a token of its own; one by the user's, which the sandbox has as well."""
    commit = hub.add("lab/private", FILES, "v1")
    mine = hub.add("lab/mine", FILES)
    hub.tokens |= {"lab/private": TOKEN, "lab/mine": MINE}
    hub.gated.add("lab/mine")
    hub.add("lab/private", {"config.json": b"changed since"})
    lab = Lab(tmp_path / "lab")
    private = '{ name = "lab/private", revision = "v1", secret = "HUB_TOKEN" }'
    toml = f'[sandbox]\nsecrets = ["HF_TOKEN"]\nmodels = [{private}, "lab/mine"]\n'
    with lab.secrets(HUB_TOKEN=TOKEN, HF_TOKEN=MINE):
        run = lab.submit([cell(LOOK), end()], toml)
        until(lambda: run.results(), "the cell has run")
        assert str([commit]) in run.results()[0]
        assert "tokens ['HF_TOKEN']" in run.results()[0]
        steps = [phase.name for phase in run.status.phases]
        assert steps[:3] == ["fetching", "fetching", "installing"]
        assert run.over().state == "done"
    model, other = run.plan.models
    assert other.commit == mine
    assert (model.revision, model.commit, model.size) == ("v1", commit, SIZE)
    traces = [
        *lab.traces(run),
        *((str(f), f.read_bytes()) for f in run.path.rglob("*") if f.is_file()),
    ]
    for token in (TOKEN, MINE):
        assert not [name for name, content in traces if token.encode() in content]
    for name, revision in (("lab/private", commit), ("lab/mine", mine)):  # without a token
        assert loaded(cache, name, revision) == b"{}"
    lab.close()


def test_a_model_that_is_not_there_is_refused_before_anything_starts(
    hub: HubServer, tmp_path: Path
) -> None:
    lab = Lab(tmp_path / "lab")
    with pytest.raises(UsageError, match="no model lab/none that this machine may read"):
        lab.submit([end()], '[sandbox]\nmodels = ["lab/none"]\n')
    assert not (tmp_path / "lab" / "runs").exists()
    lab.close()
