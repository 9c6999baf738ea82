"""Snapshots of a sandbox, and a sandbox by its id, as scripts have them on every backend."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import CommandLine, Started
from tiny_runs import GO, Lab, Run, cell, end, tool

from runner.errors import UsageError
from runner.record.verify import verify

BEGIN = """\
import sys
from runner import Sandbox, SandboxConfig, create_notebook_session
"""
TAKE = """\
config = SandboxConfig(
    python_packages=["iniconfig==2.0.0"], local_files=[(__file__, "copied.py")]
)
with Sandbox(config, name="first") as sandbox:
    print("run", sandbox.run_id, flush=True)
    session = create_notebook_session(sandbox)
    session.exec("import os; os.makedirs('data/deep'); kept = 1")
    sandbox.write_file("data/deep/a.txt", "ä")
    sandbox.exec("mkdir empty && ln -s data/deep/a.txt near && ln -s /etc/passwd far")
    sandbox.exec("chmod +x data/deep/a.txt")
    taken = sandbox.snapshot()
    sandbox.exec("rm -r data")
    print("snapshot", taken, "of", taken.of, flush=True)
"""
USE = """\
with Sandbox.from_snapshot(sys.argv[1], name="second") as sandbox:
    print("run", sandbox.run_id, flush=True)
    session = create_notebook_session(sandbox)
    said = session.exec("import iniconfig, importlib.metadata\\n"
        "print(importlib.metadata.version('iniconfig'), 'kept' in dir())")
    print("has", said.text.strip(), flush=True)
    print("files", *sorted(sandbox.exec("find . -path './.*' -prune -o -print").text.split()))
    print("reads", sandbox.read_file("near").decode(), sandbox.exec("stat -c %a data/deep/a.txt"))
"""
GUEST = """\
with Sandbox.from_id(sys.argv[1]) as sandbox:
    print("has", sandbox.exec("cat made.txt").text, flush=True)
    session = create_notebook_session(sandbox)
    print("sees", session.exec("print(answer)").text, flush=True)
    sandbox.write_file("by_guest.txt", "hello")
"""


@contextmanager
def script(lab: Lab, source: str, *words: str) -> Iterator[Started]:
    file = lab.top / "main.py"
    file.write_text(BEGIN + source)
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    with line.starting(*words, program=(str(file),)) as started:
        yield started


def run_of(lab: Lab, run_id: str) -> Run:
    return lab.adopt(lab.backend.attach(run_id))


def check(run: Run) -> None:
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))


@pytest.mark.timeout(400)
def test_a_snapshot_has_files_and_packages_and_no_memory(lab: Lab) -> None:
    with script(lab, TAKE) as started:
        first = run_of(lab, started.said(r"^run (\S+)$")[1])
        found = started.said(r"^snapshot (\S+) of (\S+)$")
        told = started.end()
    assert told.status == 0, told
    assert found[2] == first.run_id
    taken = run_of(lab, found[1])
    status = taken.status
    assert (status.state, status.exit_status) == ("done", 0)
    assert status.reason.startswith(f"a snapshot of {first.run_id}, without the kernel's memory")
    check(taken)
    # It is where the backend keeps records; on one machine that is here.
    if lab.settings.backend != "local":
        shutil.rmtree(taken.path)
    with script(lab, USE, found[1]) as started:
        second = run_of(lab, started.said(r"^run (\S+)$")[1])
        told = started.end()
    assert told.status == 0, told
    assert "has 2.0.0 False\n" in told.out
    files = next(line for line in told.out.splitlines() if line.startswith("files")).split()[1:]
    assert {"./data/deep/a.txt", "./empty", "./near", "./copied.py"} <= set(files)
    assert "./far" not in files, "it leads out"
    assert '"kept = 1"' not in (second.path / "notebook.ipynb").read_text()
    assert "reads ä 755" in " ".join(told.out.split())
    check(second)
    assert "iniconfig==2.0.0" in second.plan.packages
    with (taken.path / "outputs" / "workspace.tar").open("ab") as archive:
        archive.write(b"more")
    with script(lab, USE, found[1]) as started:
        assert "workspace.tar is not what was kept; it was altered" in started.end().words


@pytest.mark.timeout(300)
def test_who_works_in_the_sandbox_of_a_run_is_a_guest_there(lab: Lab) -> None:
    """Its agent has the record, and goes on when the guest has left."""
    before = "answer = 42; open('made.txt', 'w').write('it is made')"
    # The kernel is free meanwhile, and the agent goes on when the guest has left.
    waits = f"touch outputs/began; while [ ! -e {GO} ]; do sleep 0.05; done"
    run = lab.submit([cell(before), tool("run_shell", command=waits), end()])
    run.wait_for_output("began")
    refused = GUEST.partition("    print")[0] + "    sandbox.snapshot()\n"
    with script(lab, refused, run.run_id) as started:
        told = started.end()
    assert told.status == 1, told
    assert "a snapshot would have half of what it writes" in told.words
    with script(lab, GUEST, run.run_id) as started:
        told = started.end()
    run.let_go()
    assert told.status == 0, told
    assert "has it is made" in told.out
    assert "sees 42" in told.out
    assert run.over().state == "done"
    check(run)
    journal = run.journal()
    assert "by_guest.txt" in [line.get("path") for line in journal]
    assert "print(answer)" in (run.path / "notebook.ipynb").read_text()


@pytest.mark.timeout(300)
def test_a_sandbox_whose_script_was_killed_is_taken_over(lab: Lab) -> None:
    body = TAKE.split("    taken =")[0]
    wait = f"{body}    print('ready', flush=True)\n    sandbox.exec('sleep 600', 700)\n"
    with script(lab, wait) as started:
        run = run_of(lab, started.said(r"^run (\S+)$")[1])
        started.said("^ready$")
        started.kill()
    use = GUEST.partition("    print")[0] + (
        "    session = create_notebook_session(sandbox)\n"
        "    print('sees', session.exec('print(kept)'), flush=True)\n"
    )
    with script(lab, use, run.run_id) as started:
        told = started.end()
    assert told.status == 0, told
    assert "sees 1" in told.out
    assert run.over().state == "done"
    assert [line["attempt"] for line in run.lines("attempt")] == [1, 2]
    check(run)


def test_what_is_no_snapshot_and_what_is_over_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lab.env.items():
        monkeypatch.setenv(name, value)
    from runner import Sandbox
    from runner.errors import InfrastructureError, RunNotFound

    run = lab.submit([end()])
    run.over()
    where = {"backend": lab.settings.backend, "runs": lab.settings.runs}
    with pytest.raises(UsageError, match="is no snapshot but a run"):
        Sandbox.from_snapshot(run.run_id, **where)
    with pytest.raises(RunNotFound):
        Sandbox.from_snapshot("nothing-261123-0907-x7k2", **where)
    with pytest.raises(InfrastructureError, match="has ended"):
        Sandbox.from_id(run.run_id, **where)
