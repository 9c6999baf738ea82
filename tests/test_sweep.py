"""Sweeps: what --set and [sweep] mean, what is refused, how many runs are started together."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import Lab, end

from runner import cli, submission
from runner.backends.base import Handle, Resolved, Selector, Status, sweep_noted
from runner.backends.kubernetes import manifests, samples
from runner.cluster import example
from runner.config import sweep
from runner.config.load import load, load_all
from runner.errors import ConfigError, InfrastructureError, RunnerError, RunNotFound, UsageError
from runner.lookups import LookUps
from runner.names import RUN_ID_LENGTH, is_run_id
from runner.plan import RunPlan, SweepPart
from runner.record import Record
from runner.record.run import RunState
from runner.secrets import SecretValues
from runner.sweep import Beginning, prepare_all, rest_of, start_all

HEAD = 'name = "tiny"\ntask = "Do it."\n'


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], {}),
        (["agent.max_turns=4"], {"agent.max_turns": [4]}),
        (["agent.max_turns=4", "agent.max_turns=8"], {"agent.max_turns": [4, 8]}),
        (["sandbox.gpu=A100"], {"sandbox.gpu": ["A100"]}),
        (['sandbox.gpu=["A100", "H100"]'], {"sandbox.gpu": [["A100", "H100"]]}),
        (['sandbox.gpu="A100"'], {"sandbox.gpu": ["A100"]}),
        (["task=say a=b"], {"task": ["say a=b"]}),
        (["task="], {"task": [""]}),
        (["task=1\nb = 2"], {"task": ["1\nb = 2"]}),
        (["task=2026-11-27"], {"task": ["2026-11-27"]}),
        (["agent.max_cost_usd=2.5"], {"agent.max_cost_usd": [2.5]}),
        (["sandbox.debug=true"], {"sandbox.debug": [True]}),
        (["sandbox.env.SEED=1", "sandbox.env.SEED=02"], {"sandbox.env.SEED": ["1", "02"]}),
        (['sandbox.env.WHO="me"'], {"sandbox.env.WHO": ["me"]}),
        ([" agent.max_turns = 4"], {"agent.max_turns": [4]}),
    ],
)
def test_an_option_says(options: Sequence[str], keys: Mapping[str, Any]) -> None:
    assert sweep.given(options) == keys


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["agent.max_turns"], "--set agent.max_turns: expected KEY=VALUE"),
        (["=4"], "--set =4: expected KEY=VALUE"),
        (["a.b=1", "a.b=1"], "--set: a.b: expected each value once, found 1 twice"),
        (["name=a", "name=b"], "--set: name: expected one name"),
        (["agent.x=1", "agent=2"], "--set: agent.x: expected it or agent, not both"),
    ],
)
def test_an_option_is_refused(options: Sequence[str], words: str) -> None:
    with pytest.raises(UsageError, match=".*") as refused:
        sweep.given(options)
    assert words in str(refused.value)


@given(
    st.dictionaries(
        st.from_regex(r"[a-c](\.[a-c])?", fullmatch=True),
        st.lists(st.integers(), min_size=1, max_size=4, unique=True),
        max_size=4,
    )
)
def test_every_combination_is_there_once(keys: dict[str, list[int]]) -> None:
    found = sweep.combinations(keys)
    count = 1
    for values in keys.values():
        count *= len(values)
    assert len({json.dumps(values) for values in found}) == len(found) == count
    for values in found:
        assert all(values[key] in keys[key] for key in keys)
        assert set(sweep.own(values, keys)) == {key for key in keys if len(keys[key]) > 1}


def test_a_thousand_runs_are_the_most() -> None:
    keys = {"agent.max_turns": list(range(1, 101)), "agent.max_tokens": list(range(1, 11))}
    assert len(sweep.combinations(keys)) == 1000
    keys["agent.max_tokens"].append(11)
    with pytest.raises(UsageError, match=r"1,000 runs at most.*1,100: 100 of agent\.max_turns"):
        sweep.combinations(keys)


def write(folder: Path, toml: str) -> Path:
    file = folder / "experiment.toml"
    file.write_text(HEAD + toml)
    return file


def turns(file: Path, **given: Any) -> list[int]:
    return [variant.experiment.agent.max_turns for variant in load_all(file, **given)]


def test_a_file_is_a_sweep(tmp_path: Path) -> None:
    table = "[sweep]\nagent.max_turns = [4, 8]\nsandbox.env.SEED = ['1', '2']\n"
    file = write(tmp_path, f"{table}agent.max_tokens = [99]\n")
    variants = load_all(file)
    assert [dict(variant.values) for variant in variants] == [
        {"agent.max_turns": turns, "sandbox.env.SEED": seed}
        for turns in (4, 8)
        for seed in ("1", "2")
    ]
    for variant in variants:
        own = variant.experiment
        assert own.agent.max_tokens == 99
        assert own.agent.max_turns == variant.values["agent.max_turns"]
        assert own.sandbox.env == {"SEED": variant.values["sandbox.env.SEED"]}
    with pytest.raises(UsageError, match=r"is a sweep of 4 runs, and one is wanted"):
        load(file)


def test_what_is_typed_takes_the_files_place(tmp_path: Path) -> None:
    file = write(tmp_path, "[agent]\nmax_turns = 2\n[sweep]\nagent.max_turns = [4, 8]\n")
    assert turns(file) == [4, 8]
    assert turns(file, sets={"agent.max_turns": [1, 3, 5]}) == [1, 3, 5]
    assert turns(file, sets={"agent.max_turns": [1]}) == [1]
    assert turns(file, overrides={"agent.max_turns": 7}) == [7]
    assert load(file, {"agent.max_turns": 7}).agent.max_turns == 7
    with pytest.raises(UsageError, match="another option says it as well"):
        load_all(file, {"agent.max_turns": 7}, {"agent.max_turns": [1]})


@pytest.mark.parametrize(
    ("toml", "sets", "words"),
    [
        ("[sweep]\nagent.max_turn = [1]", {}, "[sweep]: agent.max_turn: expected a known key"),
        ("[sweep]\nagent.max_turns = [1, 'x']", {}, "[sweep]: agent.max_turns: expected a whole"),
        ("[sweep]\nagent.max_turns = 4", {}, "sweep.agent.max_turns: expected a list of values"),
        ("[sweep]\nagent.max_turns = []", {}, "found an empty list"),
        ("[sweep]\nagent = {}", {}, "sweep.agent: expected a list of values"),
        ("sweep = 4", {}, "sweep: expected a table"),
        ("", {"agent.max_turn": [1]}, "--set: agent.max_turn: expected a known key of [agent]"),
        ("", {"agent.max_turn": [1]}, "Did you mean `max_turns`?"),
        ("", {"sandbox.gpu": [3]}, "--set: sandbox.gpu"),
        ("", {"sandbox.env": [{"A": 3}]}, "--set: sandbox.env.A"),
        ("", {"task.x": [3]}, "--set: task.x: expected a key of a table, found 'Do it.' at task"),
        (
            "[sandbox]\nrepos = ['a/b']",
            {"sandbox.repos.ref": ["x"]},
            "expected a key of a table, found a list at sandbox.repos\n  → set sandbox.repos as",
        ),
        (
            "[agent]\nllm_secret = 'KEY'",
            {"agent.provider": ["anthropic", "scripted"]},
            "in the run with agent.provider=scripted",
        ),
    ],
)
def test_a_sweep_is_refused(tmp_path: Path, toml: str, sets: sweep.Keys, words: str) -> None:
    file = write(tmp_path, toml)
    with pytest.raises(ConfigError) as refused:
        load_all(file, None, sets)
    assert words in str(refused.value)


# -- prepared ------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def prepared(lab: Lab, sets: sweep.Keys, toml: str = "") -> list[submission.Submission]:
    return prepare_all(lab.write([end()], toml), lab.settings, {}, sets)


def test_each_plan_says_which_run_it_is(lab: Lab) -> None:
    found = prepared(lab, {"agent.max_turns": [4, 8], "sandbox.env.A": ["x" * 300]})
    plans = [item.plan for item in found]
    parts = [plan.sweep for plan in plans if plan.sweep]
    assert [(part.number, part.of, part.values) for part in parts] == [
        (1, 2, {"agent.max_turns": 4}),
        (2, 2, {"agent.max_turns": 8}),
    ]
    assert [plan.run_id for plan in plans] == [f"{parts[0].id}-1", f"{parts[0].id}-2"]
    assert {plan.name for plan in plans} == {"tiny"}
    assert RunPlan.model_validate(plans[0].record()) == plans[0]
    assert sweep_noted(parts[0].note()) == parts[0].model_dump(mode="json")
    [one] = prepared(lab, {"agent.max_turns": [4]})
    assert one.plan.sweep is None
    assert one.plan.experiment.agent.max_turns == 4


def test_a_job_tells_of_its_sweep() -> None:
    part = SweepPart(id="tiny-x", number=2, of=3, values={"task": "x" * 300, "agent.max_turns": 2})
    made = manifests.job(samples.plan("tiny", {}, sweep=part), example(), 1)
    for meta in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert meta["labels"]["runner/sweep"] == "tiny-x"
    told = sweep_noted(made["metadata"]["annotations"]["runner/sweep"])
    assert told == {**part.model_dump(), "values": sweep.noted(part.values)}
    assert len(sweep.noted(part.values)["task"]) == sweep.NOTED + 1
    alone = manifests.job(samples.plan("tiny", {}), example(), 1)["metadata"]
    assert "runner/sweep" not in {**alone["labels"], **alone["annotations"]}


@pytest.mark.parametrize("note", [None, "", "{}", "[]", "3", '{"id": "x"}', "no JSON", "null"])
def test_a_note_that_is_none_is_no_sweep(note: str | None) -> None:
    assert sweep_noted(note) is None


def test_the_longest_name_leaves_room(lab: Lab) -> None:
    file = lab.write([end()])
    file.write_text(file.read_text().replace('"tiny"', f'"{"n" * 40}"'))
    found = prepare_all(file, lab.settings, {}, {"agent.max_turns": list(range(1, 9))})
    for item in found:
        assert is_run_id(item.plan.run_id)
        assert len(item.plan.run_id) <= RUN_ID_LENGTH - len("000")


def test_one_machine_takes_a_few(lab: Lab) -> None:
    with pytest.raises(UsageError, match=r"9 runs would all start at once.*local takes 8") as no:
        prepared(lab, {"agent.max_turns": list(range(1, 10))})
    assert "--backend kubernetes" in no.value.hint
    assert lab.unused()


def test_a_record_is_repeated_with_what_may_change(lab: Lab) -> None:
    [first] = prepared(lab, {})
    record = Record.create(Path(lab.settings.runs), first.plan.run_id, first.plan.record())
    for blob in first.blobs.values():
        assert isinstance(blob, bytes)
        record.add_input(blob)
    record.close()
    found = prepare_all(record.path, lab.settings, {}, {"agent.max_turns": [4, 8]})
    assert [item.plan.experiment.agent.max_turns for item in found] == [4, 8]
    assert {item.plan.repeats for item in found} == {first.plan.run_id}
    with pytest.raises(ConfigError, match=r"sandbox\.cpu: expected one of agent\.provider"):
        prepare_all(record.path, lab.settings, {}, {"sandbox.cpu": [1, 2]})


def test_a_run_of_a_sweep_is_repeated_alone(lab: Lab) -> None:
    first = prepared(lab, {"agent.max_turns": [4, 8]})[1]
    record = Record.create(Path(lab.settings.runs), first.plan.run_id, first.plan.record())
    for blob in first.blobs.values():
        assert isinstance(blob, bytes)
        record.add_input(blob)
    record.close()
    [again] = prepare_all(record.path, lab.settings, {}, {})
    assert again.plan.sweep is None
    assert again.plan.experiment == first.plan.experiment


class Backend:
    """Counts what it is asked, and starts nothing; the run of this number fails."""

    def __init__(self, fails: int = 0, found: Sequence[Status] = ()) -> None:
        self.fails, self.found = fails, list(found)
        self.resolved = 0
        self.created: list[str] = []
        self._lock = threading.Lock()

    def resolve(self, *_: Any, **__: Any) -> Resolved:
        self.resolved += 1
        return Resolved("3.12", (), SecretValues())

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        del secrets
        if plan.sweep and plan.sweep.number == self.fails:
            raise InfrastructureError("the API server is gone", hint="ask an admin")
        with self._lock:
            self.created.append(plan.run_id)
        return Handle("kubernetes", plan.run_id)

    def list(self, selector: Selector) -> list[Status]:
        del selector
        return self.found


def test_what_runs_ask_alike_is_looked_up_once(tmp_path: Path, lab: Lab) -> None:
    looked, backend = LookUps(lab.settings), Backend()
    looked.backend = backend  # type: ignore[assignment]
    (tmp_path / "data.txt").write_text("data")
    toml = f'[sandbox]\nlocal_files = ["{tmp_path / "data.txt"}"]\n'
    file = lab.write([end()], toml)
    sets: sweep.Keys = {"agent.max_turns": [1, 2, 3], "sandbox.env.A": ["1", "2"]}
    found = [
        submission.from_experiment(variant.experiment, lab.settings, tmp_path, looked=looked)
        for variant in load_all(file, None, sets)
    ]
    assert len(found) == 6
    assert backend.resolved == 1
    assert len({id(item.plan.inputs[0]) for item in found}) == 1
    one, other = load_all(file, None, {"sandbox.cpu": ["1", "2"]})
    for variant in (one, other):
        submission.from_experiment(variant.experiment, lab.settings, tmp_path, looked=looked)
    assert backend.resolved == 3


# -- started -------------------------------------------------------------------------------


def many(lab: Lab, count: int = 8) -> list[submission.Submission]:
    return prepared(lab, {"agent.max_turns": list(range(1, count + 1))})


def begin(lab: Lab, runs: Sequence[submission.Submission], backend: Backend, **given: Any) -> Any:
    settings = lab.settings.model_copy(update={"backend": "kubernetes"})
    begun = Beginning()
    given = {"stopped": lambda: False, **given}
    told = [
        handle.run_id
        for _, handle in start_all(runs, settings, backend, begun=begun, **given)  # type: ignore[arg-type]
    ]
    assert sorted(told) == sorted(backend.created) == sorted(h.run_id for h in begun.started)
    assert {path.name for path in Path(lab.settings.runs).glob("*")} == set(told)
    return begun


def test_all_are_started(lab: Lab) -> None:
    begun = begin(lab, many(lab), Backend())
    assert len(begun.started) == 8
    assert not begun.failed


def test_one_that_fails_ends_the_start_and_nothing_is_lost(lab: Lab) -> None:
    runs = many(lab)
    begun = begin(lab, runs, Backend(fails=3))
    [(submission, error)] = begun.failed
    assert submission is runs[2]
    assert "the API server is gone" in str(error)
    assert 2 <= len(begun.started) < 8  # those beside it were let finish


def test_none_is_begun_once_it_is_stopped(lab: Lab) -> None:
    backend = Backend()
    begun = begin(lab, many(lab), backend, stopped=lambda: len(backend.created) >= 2)
    assert 2 <= len(begun.started) < 8
    assert not begun.failed


def statuses(runs: Sequence[submission.Submission]) -> list[Status]:
    return [
        Status(run_id, "done", "", 0, (), False, False, RunState(run_id, plan=item.plan.record()))
        for item in runs
        for run_id in [item.plan.run_id]
    ]


def test_the_rest_of_a_sweep_is_found(lab: Lab) -> None:
    earlier, now = many(lab), many(lab)
    sweep_id = str(earlier[0].plan.sweep and earlier[0].plan.sweep.id)
    backend: Any = Backend(found=statuses([*earlier[:3], *earlier[5:]]))
    left = rest_of(sweep_id, now, lab.settings, backend)
    assert [item.plan.run_id for item in left] == [item.plan.run_id for item in earlier[3:5]]
    assert [item.plan.sweep for item in left] == [item.plan.sweep for item in earlier[3:5]]


@pytest.mark.parametrize(
    ("count", "there", "error", "words"),
    [
        (8, [], RunNotFound, "no run of a sweep"),
        (8, range(8), UsageError, "is whole"),
        (7, range(3), UsageError, "its run 1 of 8 has agent.max_turns=1, and now it would be"),
        (1, range(3), UsageError, "this makes one run"),
    ],
)
def test_what_is_no_rest_is_refused(
    lab: Lab, count: int, there: Sequence[int], error: type[RunnerError], words: str
) -> None:
    earlier = many(lab)
    part = earlier[0].plan.sweep
    assert part
    backend: Any = Backend(found=statuses([earlier[number] for number in there]))
    with pytest.raises(error) as refused:
        rest_of(part.id, many(lab, count), lab.settings, backend)
    assert words in str(refused.value)


# -- listed --------------------------------------------------------------------------------


def test_a_list_has_a_sweep_together(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    runs = [*many(lab, 3), *prepared(lab, {})]
    for item in reversed(runs):
        plan = item.plan
        Record.create(Path(lab.settings.runs), plan.run_id, plan.record()).close()
    first, alone = runs[0].plan, runs[-1].plan
    assert first.sweep
    assert cli.main(["list", "--runs", lab.settings.runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{first.sweep.id}  3 runs: 3 interrupted · $0.00"
    assert [line.split()[0] for line in lines[2:]] == [
        *(item.plan.run_id for item in runs[:3]),
        alone.run_id,
    ]
    assert "agent.max_turns=2" in lines[3]
    assert cli.main(["list", "--runs", lab.settings.runs, "--sweep", first.sweep.id, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(item["sweep"]["number"] for item in found) == [1, 2, 3]
    assert cli.main(["status", "--runs", lab.settings.runs, first.run_id]) == 0
    assert f"{first.sweep.id}, 1 of 3: agent.max_turns=1" in capsys.readouterr().out
