"""What every backend must do, on a run that goes well and on a sandbox alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import git_server
from messages_api import messages_api
from tiny_runs import Lab, Run, cell, end, held, tool

from runner import submission
from runner.backends import backend_of
from runner.backends.base import Selector
from runner.errors import InfrastructureError, RunNotFound, UsageError
from runner.record.verify import verify
from runner.settings import load_settings

SECRET, CANARY, KEY = "s3cr3t-of-the-sandbox", "canary-of-the-user", "key-of-the-model"

SCORE = """\
import json, os, pathlib, sys
outputs = pathlib.Path(sys.argv[1])
links = [f"/proc/self/fd/{fd}" for fd in range(3, 64)]
lock = [os.readlink(link) for link in links if os.path.lexists(link)]
print(json.dumps({
    "length": len((outputs / "made.txt").read_text()),
    "environment": sorted(os.environ),
    "open": [name for name in lock if "lock" in name],
}))
"""
LOOK = "import os; print([k for k in ('TINY_TOKEN', 'PLAIN', 'CANARY') if k in os.environ])"
STEPS = [
    cell(f"{LOOK}\nprint(os.environ['TINY_TOKEN'], os.environ['PLAIN'])"),
    tool("run_shell", command="echo $TINY_TOKEN ${#TINY_TOKEN} $PLAIN $CANARY", expect="plain"),
    cell("open('outputs/made.txt', 'w').write('x' * 7)\nimport os; os._exit(3)", expect="plain"),
    tool("restart_kernel", expect="exit status 3"),
    cell("open('outputs/leak.txt', 'w').write(os.environ['TINY_TOKEN'])"),
    cell("import os; open('outputs/leak.txt', 'w').write(os.environ['TINY_TOKEN'])"),
    end(),
]
TOML = """
score = "score.py"
[sandbox]
secrets = ["TINY_TOKEN"]
env = { PLAIN = "plain" }
local_files = ["data.csv"]
timeout = "5m"
"""


@pytest.fixture(scope="module")
def done(module_lab: Lab) -> Iterator[Run]:
    """A run that is over, with all that a run can have."""
    place = module_lab.top / "x"
    place.mkdir()
    (place / "score.py").write_text(SCORE)
    (place / "data.csv").write_text("a,b\n")
    with pytest.MonkeyPatch.context() as patch, module_lab.secrets(TINY_TOKEN=SECRET):
        patch.setenv("CANARY", CANARY)
        patch.setenv("UV_INDEX_LAB_PASSWORD", CANARY)
        run = module_lab.submit(STEPS, TOML)
        run.over()
        yield run


def test_status_tells_how_it_ended_and_how_long_it_took(done: Run) -> None:
    status = done.status
    assert (status.state, status.exit_status) == ("done", 0)
    assert status.reason == "the agent ended the run"
    assert "installing" in {phase.name for phase in status.phases} or done.plan.images
    assert all(phase.ended and not phase.failure for phase in status.phases)
    phases = {p["name"]: p["seconds"] for p in status.run.phases if p["of"] == "run"}
    assert list(phases) == ["preparing", "starting", "running", "ending"]
    assert all(seconds is not None and seconds >= 0 for seconds in phases.values())


def test_the_record_is_whole(done: Run) -> None:
    report = verify(done.path, None)
    assert report.ok, report
    run = done.status.run
    assert run.turns == len(STEPS)
    assert run.attempts == 1
    assert any(package.startswith("ipykernel==") for package in run.packages)
    assert [output["path"] for output in run.outputs] == ["leak.txt", "made.txt"]
    assert {"journal.jsonl", "transcript.jsonl", "notebook.ipynb", "run.json"} <= {
        file.name for file in done.path.iterdir()
    }


def test_secrets_reach_the_kernel_and_the_shell_and_are_masked(done: Run) -> None:
    first, second, *_ = done.results()
    assert "['TINY_TOKEN', 'PLAIN']" in first
    assert "*** plain" in first
    assert f"*** {len(SECRET)} plain" in second
    assert not (done.path / "outputs" / "leak.txt").exists()
    assert done.status.run.outputs[0]["withheld"] is True


def test_no_secret_value_is_in_the_record_or_the_state(done: Run) -> None:
    record = (
        (str(file), file.read_bytes())
        for file in done.path.rglob("*")
        if file.is_file() and file.parent.name != "withheld"
    )
    for name, content in (*record, *done.lab.traces(done)):
        assert SECRET.encode() not in content, name
        assert CANARY.encode() not in content, name


def test_an_output_that_holds_a_secret_comes_on_demand(done: Run) -> None:
    lab, kept = done.lab, done.path / "withheld" / "leak.txt"
    assert kept.exists() == (done.status.run.backend == "local")
    lab.backend.bring_withheld(lab.backend.attach(done.run_id))
    assert kept.read_text() == SECRET
    assert verify(done.path, None).ok


def test_a_kernel_that_dies_is_told_in_words_and_the_run_goes_on(done: Run) -> None:
    assert "ended by itself with exit status 3" in done.results()[2]
    assert (done.path / "outputs" / "made.txt").read_text() == "x" * 7


def test_the_score_is_in_the_record_and_ran_without_secrets(done: Run) -> None:
    score = done.status.run.score
    assert score["length"] == 7
    assert score["open"] == []
    assert set(score["environment"]) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TMPDIR"}


def test_logs_say_what_the_processes_printed(done: Run) -> None:
    lines = list(done.lab.backend.logs(done.handle, follow=True))
    assert ("sandbox" if done.plan.images else "prepare") in {line.source for line in lines}
    assert SECRET not in "".join(line.text for line in lines)


def test_a_run_is_found_from_another_process(done: Run) -> None:
    other = backend_of(load_settings(**done.lab.given))
    assert other.attach(done.run_id) == done.handle
    with pytest.raises(RunNotFound, match=done.run_id):
        other.attach(done.run_id[:-1])
    for name in ("../state", "a/b", "", "x" * 300):
        with pytest.raises(RunNotFound):
            other.attach(name)
    code = (
        "from runner.backends import backend_of; from runner.settings import load_settings\n"
        f"b = backend_of(load_settings(runs={done.lab.settings.runs!r}, "
        f"backend={done.lab.settings.backend!r}))\n"
        f"print(b.status(b.attach({done.run_id!r})).state)"
    )
    env = {**os.environ, "RUNNER_STATE_DIR": str(done.lab.settings.state_dir)}
    if namespace := done.lab.settings.kubernetes.namespace:
        env["RUNNER_KUBERNETES__NAMESPACE"] = namespace
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert out.stdout == b"done\n"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (Selector(), True),
        (Selector(name="tiny", state="done"), True),
        (Selector(name="other"), False),
        (Selector(state="running"), False),
        (Selector(author="nobody-of-this-name"), False),
    ],
)
def test_list(done: Run, selector: Selector, found: bool) -> None:
    listed = [status.run_id for status in done.lab.backend.list(selector)]
    assert (done.run_id in listed) == found


def test_the_sandbox_of_a_run_that_is_over_is_refused_in_words(done: Run) -> None:
    with (
        pytest.raises(InfrastructureError, match="has ended"),
        done.lab.backend.endpoint(done.handle),
    ):
        pass


def test_a_run_that_is_over_stays_what_it_is(done: Run) -> None:
    before = (done.path / "transcript.jsonl").read_bytes()
    done.lab.backend.stop(done.handle, 1.0)
    assert (done.path / "transcript.jsonl").read_bytes() == before


def test_submitting_a_record_repeats_the_run(done: Run) -> None:
    again = submission.prepare(done.path, done.lab.settings)
    assert again.plan.run_id != done.run_id
    assert again.plan.repeats == done.run_id
    same = {"run_id", "author", "created", "repeats"}
    assert again.plan.model_dump(exclude=same) == done.plan.model_dump(exclude=same)
    assert set(again.blobs) >= {item.sha256 for item in done.plan.inputs}
    fewer = submission.prepare(done.path, done.lab.settings, {"agent.max_turns": 3})
    assert fewer.plan.experiment.agent.max_turns == 3
    for overrides, words in (
        ({"sandbox.python_packages": ["x"]}, "sandbox.python_packages"),
        ({"agent.max_turns": 0}, "agent.max_turns"),
    ):
        with pytest.raises(UsageError, match=words):
            submission.prepare(done.path, done.lab.settings, overrides)


# -- a sandbox alone -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(module_lab: Lab) -> Run:
    with module_lab.secrets(TINY_TOKEN=SECRET):
        toml = '[sandbox]\nsecrets = ["TINY_TOKEN"]\nidle_timeout = "10s"\n'
        run = module_lab.submit((), toml, agent=False)
        with run.session():  # its secrets have arrived
            return run


def test_a_sandbox_alone_runs_cells_commands_and_files(alone: Run) -> None:
    backend = alone.lab.backend
    with backend.endpoint(alone.handle) as endpoint:
        assert endpoint.token not in repr(endpoint)
    with alone.session() as session:
        assert alone.status.state == "running"
        assert session.run("import os; os.environ['TINY_TOKEN']").text == "'***'"
        assert session.shell("printenv TINY_TOKEN").text == "***\n"
        session.write_file("in/ünï.txt", b"1")
        assert session.run("print(open('in/ünï.txt').read())").text == "1\n"
        assert [entry["path"] for entry in session.tree("in")] == ["ünï.txt"]
        into = alone.lab.top / "down"
        session.download("in", into)
        assert (into / "ünï.txt").read_bytes() == b"1"


def test_a_sandbox_alone_ends_when_it_is_idle(alone: Run) -> None:
    status = alone.over()
    assert (status.state, status.exit_status) == ("done", 0)
    assert not status.run.plan["agent"]


# -- runs that do not go well --------------------------------------------------------------


def test_stop_keeps_what_was_made(lab: Lab) -> None:
    source = held("open('outputs/kept.txt', 'w').write('k'); print('here')")
    run = lab.submit([cell(source), end()])
    other = backend_of(load_settings(**lab.given))
    run.wait_for_output("kept.txt")
    run.state("running")
    with pytest.raises(UsageError, match="goes on already"):
        run.resume()
    follower = other.logs(other.attach(run.run_id), follow=True)
    other.stop(other.attach(run.run_id), 30.0)
    assert list(follower)  # it comes to an end
    status = run.over()
    assert (status.state, status.exit_status) == ("cancelled", 130)
    assert status.reason == "cancelled by the user"
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    assert verify(run.path, None).ok
    assert "here" in (run.path / "notebook.ipynb").read_text()
    lab.backend.delete(run.handle)
    assert run.status.state == "cancelled"
    assert run.status.phases


def test_a_run_whose_time_is_over(lab: Lab) -> None:
    source = held("open('outputs/kept.txt', 'w').write('k')")
    # The agent is told of the time before it is over; this one does not listen.
    run = lab.submit([cell(source), *[cell("queued")] * 5, end()], "[sandbox]\ntimeout = 2\n")
    status = run.over()
    assert (status.state, status.exit_status) == ("timeout", 124)
    assert "time was over" in status.reason
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"


def test_a_package_that_cannot_be_installed(lab: Lab) -> None:
    prepared = lab.prepare([end()])
    pins = (*prepared.plan.packages, "no-such-package-of-this-name==1.0")
    plan = prepared.plan.model_copy(update={"packages": pins})
    run = lab.start(submission.Submission(plan, prepared.secrets, prepared.blobs))
    status = run.over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "no-such-package-of-this-name" in status.reason
    assert status.phases[-1].failure


def test_a_repository_that_vanishes(lab: Lab, tmp_path: Path) -> None:
    with git_server(tmp_path / "git", address=lab.address) as server, lab.trusting(server.ca):
        server.add_repo("lib", {"lib.py": "x = 1\n"})
        prepared = lab.prepare([end()], f'[sandbox]\nrepos = ["{server.url("lib")}"]\n')
    status = lab.start(prepared).over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "cloning failed" in status.reason
    assert server.url("lib") in status.reason


def test_the_model_s_key_is_the_agent_s_alone(lab: Lab) -> None:
    source = "import os; print('MODEL_KEY' in os.environ); open('outputs/o', 'w').write('o')"
    script = [
        {"text": f"My key is {KEY}.", "tools": [{"name": "run_cell", "input": {"source": source}}]},
        {"text": "Done."},
    ]
    with messages_api(script, address=lab.address) as server, lab.secrets(MODEL_KEY=KEY):
        agent = f'[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
        run = lab.submit((), agent)
        status = run.over()
    assert (status.state, status.reason) == ("done", "the agent ended the run")
    assert KEY in " ".join(server.requests[0].headers.values())
    assert "False" in run.results()[0]
    assert status.run.tokens["input_tokens"] == 200
    for file in run.path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    for name, content in lab.traces(run):
        assert KEY.encode() not in content, name


def test_missing_secrets_are_told_at_once_and_nothing_is_left(lab: Lab) -> None:
    with pytest.raises(UsageError) as caught:
        lab.submit([end()], '[sandbox]\nsecrets = ["NOT_THERE", "NOR_THIS"]\n')
    told = str(caught.value)
    assert "NOT_THERE" in told
    assert "NOR_THIS" in told
    assert "→" in told
    assert not Path(lab.settings.runs).exists()
    assert lab.unused()
