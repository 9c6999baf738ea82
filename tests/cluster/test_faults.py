"""A client that is killed or interrupted, or cancels: the run goes on, or ends with its record."""

from __future__ import annotations

import os

import pytest
from command_line import CommandLine
from faulty_runs import GPU, HELD, QUICK, Cluster, made, only_run, write
from tiny_runs import until

pytestmark = pytest.mark.cluster


# -- SIGKILL -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "verb", "resource", "left"),
    [
        ("after", "create", "jobs", {"jobs"}),
        ("after", "create", "secrets", {"jobs", "secrets"}),
        ("before", "patch", "jobs", {"jobs", "secrets", "configmaps"}),
    ],
)
def test_a_submit_killed_before_the_release_holds_no_gpu_and_is_found_and_removed(
    cluster: Cluster, elsewhere: CommandLine, when: str, verb: str, resource: str, left: set[str]
) -> None:
    file = write(cluster.line, QUICK, GPU)
    assert cluster.line.killed(when, verb, resource, "submit", file).status == -9
    run_id = only_run(cluster.line)
    assert {name.partition("/")[0] for name in cluster.objects(run_id)} == left
    doctor = elsewhere("doctor")
    assert f"{run_id}: its Job was never released; it holds no GPU" in doctor.out
    assert f"runner delete --backend kubernetes {run_id}" in doctor.out
    for line in (cluster.line, elsewhere):
        status = line("status", run_id, "--json")
        assert status.status == 0, status
        assert status.data["state"] == "interrupted"
        assert "never released" in status.data["reason"]
    assert "never released" in elsewhere("list").out
    assert elsewhere("delete", run_id, "--yes").status == 0
    cluster.gone(run_id)


def test_a_submit_killed_before_the_release_is_started_by_resume(cluster: Cluster) -> None:
    line = cluster.line
    line.killed("after", "create", "secrets", "submit", write(line, QUICK, GPU))
    run_id = only_run(line)
    assert "starts it" in line("status", run_id).out
    resumed = line("resume", run_id)
    assert resumed.status == 0, resumed
    assert made(line.folder / "runs" / run_id) == {"a.txt"}
    jobs = [name for name in cluster.objects(run_id) if name.startswith("jobs/")]
    assert jobs == [f"jobs/{run_id}-2"]
    assert line("delete", run_id, "--yes").status == 0
    cluster.gone(run_id)


def test_a_submit_killed_before_it_made_anything_is_started_by_resume(cluster: Cluster) -> None:
    line = cluster.line
    told = line.killed("before", "create", "jobs", "submit", write(line, QUICK, GPU))
    assert told.status == -9
    run_id = only_run(line)
    assert cluster.objects(run_id) == []
    status = line("status", run_id, "--json").data
    assert status["state"] == "interrupted"
    assert f"runner resume {run_id}" in status["reason"]
    assert line("resume", run_id).status == 0
    assert made(line.folder / "runs" / run_id) == {"a.txt"}
    assert line("delete", run_id, "--yes").status == 0
    cluster.gone(run_id)


@pytest.mark.parametrize(
    "when", [("after", "create", "pods"), ("during", "send", "websocket")], ids=lambda when: when[0]
)
def test_a_submit_killed_while_its_inputs_are_uploaded(
    cluster: Cluster, when: tuple[str, str, str]
) -> None:
    line = cluster.line
    (line.folder / "large.bin").write_bytes(os.urandom(4 << 20))
    file = write(line, QUICK, f'{GPU}local_files = ["large.bin"]\n')
    assert line.killed(*when, "submit", file).status == -9
    run_id = only_run(line)
    kinds = {name.partition("/")[0] for name in cluster.objects(run_id)}
    assert kinds == {"jobs", "pods"}  # the store's, which asks for no GPU
    resumed = line("resume", run_id)
    assert resumed.status == 0, resumed
    assert line("delete", run_id, "--yes").status == 0
    cluster.gone(run_id)


def test_a_released_run_ends_without_its_client_and_all_of_it_is_fetched(
    cluster: Cluster, elsewhere: CommandLine
) -> None:
    line = cluster.line
    assert line.killed("after", "patch", "jobs", "submit", write(line, QUICK, GPU)).status == -9
    run_id = only_run(line)
    cluster.until(run_id, lambda snap: snap.job and snap.job.finished, "its Job ends")
    assert "done" in elsewhere("list").out
    cluster.client.delete("jobs", f"{run_id}-1")
    cluster.gone(run_id)
    fetched = elsewhere("fetch", run_id, "--to", "copy")
    assert fetched.status == 0, fetched
    assert made(elsewhere.folder / "copy") == {"a.txt"}
    assert elsewhere("verify", run_id).status == 0
    status = line("status", run_id, "--json").data
    assert (status["state"], status["exit_status"]) == ("done", 0)
    assert "the agent ended the run" in elsewhere("logs", run_id).out
    assert "sandbox  " in elsewhere("logs", run_id, "--processes").out


def test_a_follower_that_is_killed(cluster: Cluster, elsewhere: CommandLine) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD)) as (submit, run_id):
        submit.said("cell 1")
        submit.kill()
    assert elsewhere("exec", run_id, "--", "touch", "go").status == 0
    attached = elsewhere("attach", run_id)
    assert attached.status == 0, attached
    assert made(elsewhere.folder / "runs" / run_id) == {"kept.txt"}
    assert elsewhere("delete", run_id, "--yes").status == 0


# -- Ctrl-C --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "resource"), [("create", "jobs"), ("create", "configmaps"), ("patch", "jobs")]
)
def test_ctrl_c_before_the_release_leaves_nothing(
    cluster: Cluster, verb: str, resource: str
) -> None:
    line = cluster.line
    told = line.killed("interrupt", verb, resource, "submit", write(line, QUICK, GPU))
    assert told.status == 130, told
    assert not list((line.folder / "runs").glob("*-*"))
    until(lambda: not cluster.client.list("jobs"), "no Job is left", 60)


def test_ctrl_c_stops_following_and_a_second_one_cancels(cluster: Cluster) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD)) as (submit, run_id):
        submit.said("cell 1")
        submit.interrupt()
        told = submit.end()
    assert told.status == 130
    assert "the run goes on" in told.words
    assert f"runner attach {run_id}" in told.words
    assert f"runner cancel {run_id}" in told.words
    assert line("status", run_id, "--json").data["state"] == "running"
    with line.starting("attach", run_id) as attach:
        attach.said("cell 1")
        attach.interrupt()
        attach.said("no longer followed")
        attach.interrupt()
        told = attach.end()
    assert told.status == 130
    assert "cancelled: cancelled by the user" in told.out
    assert made(line.folder / "runs" / run_id) == {"kept.txt"}
    assert line("status", run_id, "--json").data["state"] == "cancelled"
    assert not [name for name in cluster.objects(run_id) if "store" in name]
    assert line("delete", run_id, "--yes").status == 0


def test_two_submits_of_one_file_at_once_are_two_runs(cluster: Cluster) -> None:
    file = write(cluster.line, QUICK)
    with cluster.submitted(file) as (one, first), cluster.submitted(file) as (two, second):
        assert first != second
        assert (one.end().status, two.end().status) == (0, 0)
    for run_id in (first, second):
        assert made(cluster.line.folder / "runs" / run_id) == {"a.txt"}
