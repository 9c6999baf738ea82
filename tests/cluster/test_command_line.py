"""Commands that only look, on a run of a cluster, as a researcher types them."""

from __future__ import annotations

import urllib.request
from http.cookiejar import CookieJar

import pytest
import yaml
from command_line import CommandLine
from faulty_runs import GPU, HELD, QUICK, Cluster, made, write

pytestmark = pytest.mark.cluster

RESOURCES = {"Job": "jobs", "Secret": "secrets", "ConfigMap": "configmaps"}


def test_what_render_prints_is_accepted(cluster: Cluster) -> None:
    told = cluster.line("render", write(cluster.line, QUICK, GPU))
    assert told.status == 0, told
    things = list(yaml.safe_load_all(told.out))
    assert [thing["kind"] for thing in things] == ["Job", "Secret", "ConfigMap"]
    warnings: list[str] = []
    for thing in things:
        resource = RESOURCES[thing["kind"]]
        cluster.client.create(resource, thing, dry_run=True, warnings=warnings)
    assert warnings == []
    assert not (cluster.line.folder / "runs").exists()


def test_a_run_is_looked_at_from_elsewhere(cluster: Cluster, elsewhere: CommandLine) -> None:
    with cluster.submitted(write(cluster.line, HELD)) as (submit, name):
        submit.said("cell 1")
        with (
            elsewhere.starting("open", name, "--print") as opened,
            elsewhere.starting("logs", name, "-f") as followed,
            elsewhere.starting("logs", name, "-f", "--processes") as printed,
            elsewhere.starting("wait", name) as waiting,
        ):
            url = opened.said(r"^http://127\.0\.0\.1:\S+$")[0]
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            with browser.open(url, timeout=30) as page:
                assert b"<title>" in page.read()
            followed.said("cell 1")
            printed.said(r"^sandbox .*cell \w+ .*started")
            listed = elsewhere("list")
            assert name in listed.out
            assert "running" in listed.out
            assert elsewhere("exec", name, "--", "touch", "go").status == 0
            assert waiting.end().status == 0
            assert followed.end().status == 0
            assert printed.end().status == 0
            opened.said("the sandbox has ended")
        assert submit.end().status == 0
    assert made(cluster.line.folder / "runs" / name) == {"kept.txt"}
    assert elsewhere("delete", name, "--yes").status == 0
    cluster.gone(name)


def test_doctor_says_what_is_there(cluster: Cluster) -> None:
    told = cluster.line("doctor", "--json")
    assert told.status == 0, told
    for words in (
        "Kubernetes 1.",
        "you may start runs",
        "NVIDIA-A100-SXM4-80GB (A100",
        "runner-records",
    ):
        assert words in told.out, (words, told.out)
