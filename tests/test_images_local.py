"""What images say of themselves, and what an engine that has them is asked. Without an engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from runner.errors import InfrastructureError, UsageError
from runner.images import labels, local
from runner.images.engine import connected
from runner.images.labels import Labels

TORCH = Labels(
    name="torch",
    role="sandbox",
    content="c" * 64,
    folder="lab",
    added=("ffmpeg",),
    base="sha256:" + "b" * 64,
    base_name="lab/torch:2.9",
    lock="sha256:" + "d" * 64,
    python="/opt/python/bin/python",
    python_version="3.11.2",
    packages=("numpy==2.4.6", "torch==2.9.1+cu130"),
    system_packages=("ffmpeg", "git"),
    gpu=True,
    version="0.1.0",
    revision="e" * 40,
)
AGENT = replace(TORCH, name="agent", role="agent", gpu=False, revision=None)


@pytest.mark.parametrize("of", [TORCH, AGENT])
def test_what_is_written_is_read_again(of: Labels) -> None:
    assert labels.read(labels.write(of)) == of
    assert all(isinstance(value, str) for value in labels.write(of).values())


def test_a_revision_of_the_base_is_not_taken_for_ours() -> None:
    inherited = {labels.REVISION: "of the lab", **labels.write(AGENT)}
    assert labels.read(inherited) == AGENT


@pytest.mark.parametrize(
    "said", [None, {}, {"maintainer": "a lab"}, {labels.NAME: "base", labels.CONTENT: "0"}]
)
def test_what_has_not_all_labels_is_none_of_ours(said: dict[str, str] | None) -> None:
    assert labels.read(said) is None


class Engine:
    """The part of an engine that lists images."""

    def __init__(self, *images: dict[str, Any]) -> None:
        self.api, self._images = self, images

    def images(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters == {"label": "runner.image"}
        return list(self._images)


def item(of: Labels, created: int, *tags: str) -> dict[str, Any]:
    return {
        "Id": "sha256:" + "1" * 64,
        "Created": created,
        "Size": 10**9,
        "RepoTags": list(tags) or None,
        "Labels": labels.write(of),
    }


def test_the_catalogue_is_of_sandboxes_the_newest_first() -> None:
    engine: Any = Engine(
        item(TORCH, 1_000_000_000, "runner/torch:old", "ghcr.io/lab/runner/torch:old"),
        item(TORCH, 1_000_000_060, "runner/torch:new"),
        item(TORCH, 1_000_000_090),
        item(AGENT, 1_000_000_030, "runner/agent:1"),
        {**item(TORCH, 1, "runner/torch:other"), "Labels": {labels.NAME: "torch"}},
    )
    found = local.catalogue(engine)
    assert [entry.image.image for entry in found] == ["runner/torch:new", "runner/torch:old"]
    assert found[0].created == "2001-09-09T01:47:40Z"
    image = found[0].image
    assert (image.name, image.python_version, image.gpu) == ("torch", "3.11.2", True)
    assert image.packages == TORCH.packages
    assert image.system_packages == TORCH.system_packages
    (agent,) = local.agents(engine)
    assert (agent.tag, agent.content) == ("runner/agent:1", "c" * 64)


class Api(BaseHTTPRequestHandler):
    """An engine that says its version, and nothing else."""

    def do_GET(self) -> None:
        said = json.dumps({"ApiVersion": self.server.api_version}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Api) as http:
        http.api_version = request.param  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"tcp://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("server", ["1.9", "1.40"], indirect=True)
def test_an_engine_that_is_too_old_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", server)
    with pytest.raises(InfrastructureError, match="is too old: its API is") as caught, connected():
        pass
    assert server in caught.value.message
    assert "1.41 is the least" in caught.value.message
    assert "20.10" in caught.value.hint


@pytest.mark.parametrize("server", ["1.41", "1.52"], indirect=True)
def test_an_engine_that_is_new_enough_will_do(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", server)
    with connected() as engine:
        assert server.endswith(str(engine.api.base_url.rpartition(":")[2]))


def test_an_image_of_another_kind_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    present = local.Present("runner/agent:1", "sha256:1", 1, "2026-11-27T02:44:55Z", AGENT)
    monkeypatch.setattr(local, "find", lambda *_: present)
    engine: Any = None
    with pytest.raises(UsageError, match="is no sandbox's: it is for the agent"):
        local.inspect(engine, "runner/agent:1")
