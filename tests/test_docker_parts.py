"""Runs on a Docker engine, without one: what it is asked for, and what is said of what it tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan
from hypothesis import given
from plans import plans

from runner.backends.docker import containers, explain, fetching
from runner.backends.docker.snapshot import Snapshot, container_of, time_of
from runner.phases import Phase
from runner.plan import PinnedModel, PinnedRepo, PlannedImages, RunPlan
from runner.record.run import RunState
from runner.settings import Settings

IMAGES = PlannedImages(
    sandbox="runner/base:1", agent="runner/agent:1", python="/opt/python/bin/python"
)
SETTINGS = Settings(network={"ca_bundle": "/etc/lab/ca.crt", "https_proxy": "http://proxy:3128"})
RUN = RunState(
    run_id="r", state="created", created="2026-11-24T03:00:00.000Z", plan={"agent": True}
)


def planned(**table: Any) -> RunPlan:
    return make_plan(sandbox=table, images=IMAGES)


def env(body: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in body["Env"])


# -- what the engine is asked for ----------------------------------------------------------


def test_the_containers_of_a_run_wait_for_one_another() -> None:
    repo = PinnedRepo(url="https://x/y", name="y", ref=None, commit="0" * 40, install=True)
    plan = planned().model_copy(update={"repos": (repo,)})
    made = containers.containers(plan, SETTINGS)
    assert list(made) == ["record", "clone", "install", "sandbox", "agent"]
    after = {name: env(body).get("RUNNER_AFTER") for name, body in made.items()}
    assert after == {
        "record": None,
        "clone": "record",
        "install": "clone",
        "sandbox": "install",
        "agent": "install",
    }
    images = {name: body["Image"] for name, body in made.items()}
    assert images["record"] == images["agent"] == "runner/agent:1"
    assert images["clone"] == images["install"] == images["sandbox"] == "runner/base:1"


def test_only_who_needs_it_sees_the_record_and_the_shared_cache() -> None:
    made = containers.containers(planned().model_copy(update={"packages": ("x==1",)}), SETTINGS)

    def seen(target: str) -> dict[str, bool]:
        mounts = ((n, m) for n, body in made.items() for m in body["HostConfig"]["Mounts"])
        return {name: mount["ReadOnly"] for name, mount in mounts if mount["Target"] == target}

    assert seen("/record") == {"record": False, "agent": False}
    assert seen("/cache") == {"install": False}
    sources = [m["Source"] for m in made["install"]["HostConfig"]["Mounts"]]
    assert "runner-packages" in sources
    assert seen("/workspace") == {"record": False, "install": False, "sandbox": False}
    assert seen("/sandbox")["agent"] is True
    assert set(seen("/etc/runner").values()) == {True}
    assert set(seen("/etc/runner-ca").values()) == {True}


def test_a_repository_that_is_installed_cannot_change_what_others_get() -> None:
    repo = PinnedRepo(url="https://x/y", name="y", ref=None, commit="0" * 40, install=True)
    plan = planned().model_copy(update={"repos": (repo,), "packages": ("x==1",)})
    made = containers.containers(plan, SETTINGS)["install"]
    assert not [m for m in made["HostConfig"]["Mounts"] if m["Target"] == "/cache"]
    assert "UV_CACHE_DIR" not in env(made)


def test_a_sandbox_sees_its_own_models_alone() -> None:
    model = PinnedModel(name="lab/tiny", revision=None, commit="0" * 40, size=1, secret=None)
    made = containers.containers(planned().model_copy(update={"models": (model,)}), SETTINGS)
    seen = [m for m in made["sandbox"]["HostConfig"]["Mounts"] if m["Target"].startswith("/cache")]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in seen] == [
        ("runner-models--lab--tiny", "/cache/huggingface/hub/models--lab--tiny", True)
    ]


def test_what_the_experiment_and_the_settings_bound() -> None:
    asked = containers.containers(planned(cpu="1500m", memory="2Gi"), SETTINGS)["sandbox"][
        "HostConfig"
    ]
    assert (asked["NanoCpus"], asked["Memory"], asked["MemorySwap"]) == (
        15 * 10**8,
        2 << 30,
        2 << 30,
    )
    given = containers.containers(planned(), SETTINGS)
    assert "NanoCpus" not in given["sandbox"]["HostConfig"], "throttled beside idle cores"
    assert given["sandbox"]["HostConfig"]["Memory"] == 8 << 30
    assert given["agent"]["HostConfig"]["Memory"] == containers.SMALL
    tiny = Settings(docker={"memory": "128Mi"})
    assert containers.containers(planned(), tiny)["sandbox"]["HostConfig"]["ShmSize"] == 128 << 20


def test_gpus_are_the_sandbox_s_alone() -> None:
    plan = planned(gpu="H100").model_copy(update={"gpus": ("GPU-1", "GPU-2")})
    made = containers.containers(plan, SETTINGS)
    (request,) = made["sandbox"]["HostConfig"]["DeviceRequests"]
    assert request["DeviceIDs"] == ["GPU-1", "GPU-2"]
    assert "NVIDIA_VISIBLE_DEVICES" not in env(made["sandbox"])
    for name in ("record", "agent"):
        assert "DeviceRequests" not in made[name]["HostConfig"]
        assert env(made[name])["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_sandbox_without_a_network_is_alone_on_an_internal_one() -> None:
    plan = planned(network="none")
    made = containers.containers(plan, SETTINGS)
    assert containers.networks(plan)["Internal"] is True
    assert made["sandbox"]["HostConfig"]["NetworkMode"] == plan.run_id
    assert made["record"]["HostConfig"]["NetworkMode"] == "bridge"
    assert "https_proxy" not in env(made["sandbox"])
    assert made["sandbox"]["HostConfig"]["Dns"] == containers.NO_DNS
    assert env(made["agent"])["https_proxy"] == "http://proxy:3128"
    assert "sandbox" in env(made["agent"])["no_proxy"].split(",")
    assert containers.networks(planned())["Internal"] is False


@given(plans())
def test_any_plan_makes_containers_that_are_confined(plan: RunPlan) -> None:
    names = [volume.name for volume in plan.experiment.sandbox.volumes]
    settings = Settings(volumes=dict.fromkeys(names, Path("/srv/x")))
    made = containers.containers(plan, settings)
    json.dumps(made)
    for name, body in made.items():
        host = body["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["ReadonlyRootfs"] == (name != "sandbox")
        assert body["User"] == "1000:1000"
    ports = made["sandbox"]["HostConfig"].get("PortBindings", {})
    assert all(bind["HostIp"] == "127.0.0.1" for binds in ports.values() for bind in binds)


def test_each_container_is_told_its_own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_LAB_PASSWORD", "of the index")
    monkeypatch.setenv("UV_CACHE_DIR", "/home/me/.cache/uv")
    monkeypatch.setattr(fetching, "_login", lambda: {"HF_TOKEN": "of the user"})
    plan = planned(secrets=["LAB"], models=[]).model_copy(update={"packages": ("x==1",)})
    agent = plan.experiment.agent.model_copy(update={"llm_secret": "KEY"})
    plan = plan.model_copy(
        update={"experiment": plan.experiment.model_copy(update={"agent": agent})}
    )
    told = fetching.messages(plan, {"LAB": "of the lab", "KEY": "of the model"}, "t0ken")
    env = {step: json.loads(line)["env"] for step, line in told.items()}
    assert env["record"] == {}
    assert env["install"] == {"UV_INDEX_LAB_PASSWORD": "of the index"}
    assert env["sandbox"]["LAB"] == "of the lab"
    assert env["agent"] == {"KEY": "of the model"}
    assert "KEY" not in env["sandbox"]
    files = {step: json.loads(line)["files"] for step, line in told.items()}
    assert files["sandbox"] == files["agent"] == {"/run/secrets/runner/token": "t0ken"}


# -- what is said of what it tells ---------------------------------------------------------


def told(step: str, state: str, code: int = 0, **more: Any) -> Any:
    status = {"Status": state, "ExitCode": code, "OOMKilled": False, "Error": ""}
    status |= {"StartedAt": "2026-11-24T03:00:01.5Z", "FinishedAt": "0001-01-01T00:00:00Z"}
    labels = {"runner.run": "r", "runner.step": step, "runner.alone": more.pop("alone", "false")}
    return container_of(
        {
            "Id": step,
            "Image": "sha256:1",
            "Created": "2026-11-24T03:00:01.123456789Z",
            "State": {**status, **more},
            "Config": {"Labels": labels},
            "HostConfig": {"Memory": 1 << 30},
        }
    )


def stands(
    *found: Any, run: RunState = RUN, phases: tuple[Phase, ...] = ()
) -> tuple[str, str, int | None]:
    status = explain.describe(run, Snapshot(found), phases)
    return status.state, status.reason, status.exit_status


UP = told("sandbox", "running")


def test_times_of_the_engine() -> None:
    assert time_of("0001-01-01T00:00:00Z") is None
    assert time_of("2026-11-24T03:00:01.123456789Z") == "2026-11-24T03:00:01.123Z"
    assert time_of("2026-11-24T03:00:01.5Z") == "2026-11-24T03:00:01.500Z"
    assert time_of("2026-11-24T03:00:01Z") == "2026-11-24T03:00:01.000Z"


@pytest.mark.parametrize(
    ("found", "state", "words", "code"),
    [
        ((), "interrupted", "its containers are gone; `runner resume r`", None),
        ((told("agent", "created"),), "interrupted", "never started", None),
        ((told("agent", "exited", 137), UP), "interrupted", "(SIGKILL); `runner resume r`", None),
        ((told("agent", "exited", 130), UP), "cancelled", "ended with exit status 130", 130),
        ((told("agent", "exited", 124),), "timeout", "ended with exit status 124", 124),
        (
            (told("agent", "exited", 137, OOMKilled=True),),
            "failed",
            "the agent's container was out of memory (OOMKilled by the engine): it used more than "
            "its limit of 1.0 GiB",
            3,
        ),
        ((told("sandbox", "exited", 0, alone="true"),), "done", "the sandbox has ended", 0),
        ((told("sandbox", "exited", 143, alone="true"),), "done", "the sandbox has ended", 0),
        ((told("sandbox", "exited", 1, alone="true"),), "failed", "exit status 1", 3),
        (
            (told("sandbox", "exited", 137, alone="true", OOMKilled=True),),
            "failed",
            "the sandbox's container was out of memory",
            3,
        ),
        ((told("sandbox", "running", alone="true"),), "running", "", None),
        ((told("agent", "running"), UP), "preparing", "", None),
    ],
)
def test_how_a_run_stands(found: Any, state: str, words: str, code: int | None) -> None:
    run = RUN
    if found and found[0].labels["runner.alone"] == "true":
        run = RunState(run_id="r", plan={"agent": False})
    assert stands(*found, run=run)[::2] == (state, code)
    assert words in stands(*found, run=run)[1]


def test_what_it_is_at_while_it_prepares() -> None:
    phases = (Phase("filling", "t", "t"), Phase("cloning", "t", None, "https://x/y at 123"))
    both = (told("agent", "running"), UP)
    assert stands(*both, phases=phases) == ("preparing", "cloning https://x/y at 123", None)
    assert stands(*both, phases=phases[:1])[0] == "starting"


def test_phases_of_an_earlier_start_are_not_those_of_this_one() -> None:
    phase = {"name": "filling", "started": "", "ended": "2026-11-24T03:00:02.000Z", "of": "sandbox"}
    run = RunState(run_id="r", phases=[phase])
    assert explain.has_phases(run, Snapshot((told("agent", "running"),)))
    earlier = RunState(run_id="r", phases=[{**phase, "ended": "2026-11-24T02:00:02.000Z"}])
    assert not explain.has_phases(earlier, Snapshot((told("agent", "running"),)))
    assert not explain.has_phases(RUN, Snapshot((told("agent", "running"),)))


def test_one_that_is_being_made_is_no_leftover() -> None:
    made = Snapshot((told("record", "created", StartedAt="0001-01-01T00:00:00Z"),))
    at = datetime(2026, 11, 24, 3, 1, tzinfo=UTC)
    assert explain.is_starting(made, at)
    assert not explain.is_starting(made, at + timedelta(minutes=5))
    assert not explain.is_starting(Snapshot((UP,)), at)
    assert not explain.is_starting(Snapshot(), at)


def test_the_record_s_words_win_and_the_engine_adds_what_the_agent_could_not_see() -> None:
    run = RunState(
        run_id="r",
        state="failed",
        reason="the sandbox ended: Killed",
        exit_status=3,
        ended="2026-11-24T03:09:00.000Z",
        plan={"agent": True},
    )
    gone = told("sandbox", "exited", 137, OOMKilled=True)
    state, reason, code = stands(told("agent", "exited", 3), gone, run=run)
    assert (state, code) == ("failed", 3)
    assert reason.startswith("the sandbox ended: Killed; the sandbox's container was out of memory")
    ended_well = told("sandbox", "exited", 143, OOMKilled=True)  # it was a cell's own
    assert stands(told("agent", "exited", 3), ended_well, run=run)[1] == run.reason
    earlier = RunState(
        run_id="r",
        state="done",
        ended="2026-11-24T02:00:00.000Z",
        exit_status=0,
        plan={"agent": True},
    )
    assert stands(told("agent", "exited", 137), run=earlier)[0] == "interrupted", (
        "of an earlier try"
    )
