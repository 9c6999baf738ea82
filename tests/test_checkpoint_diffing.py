"""The experiment that cannot run here: its file is good, its client does what task.md promises."""

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner import cli, machine, pins, submission

HERE = Path(__file__).parents[1] / "experiments" / "checkpoint-diffing"
FILE = HERE / "experiment.toml"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module openrouter_client, as the notebook imports it."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-test")
    for name in ("http_proxy", "https_proxy", "all_proxy", "OPENROUTER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    spec = importlib.util.spec_from_file_location(
        "openrouter_client", HERE / "openrouter_client.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OpenRouter:
    """A server on loopback that speaks chat completions.

    `replies` has, by prompt, the statuses and bodies that come first; then, and for all
    other prompts, the reply is the prompt in capitals, at `cost` dollars.
    """

    def __init__(self, **replies: list[Any]) -> None:
        self.replies = replies
        self.cost = 0.01
        self.takes_s = 0.0
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def sent(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt = body["messages"][0]["content"]
        with self.lock:
            self.requests.append(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            special = self.replies.get(prompt)
            reply = (special[0] if len(special) == 1 else special.pop(0)) if special else None
        time.sleep(self.takes_s)
        with self.lock:
            self.at_once -= 1
        if isinstance(reply, int):
            return reply, {"error": {"message": "not now", "code": reply}}
        return 200, reply or completion(prompt.upper(), self.cost)


def completion(text: str | None, cost: float | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, **more}],
        "usage": usage | ({} if cost is None else {"cost": cost}),
    }


@contextmanager
def serving(router: OpenRouter) -> Iterator[OpenRouter]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.say(200, {"data": [{"id": "lab/old"}, {"id": "lab/new"}]})

        def do_POST(self) -> None:
            router.keys.add(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.say(*router.answer(body))

        def say(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status != 200:
                self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    router.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield router
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def asked(
    module: ModuleType, router: OpenRouter, prompts: list[str], **given: Any
) -> tuple[list[str | None], Any]:
    """The responses to all prompts, and the client that got them."""

    async def ask() -> tuple[list[str | None], Any]:
        client = module.Client(base_url=router.url, **given)
        try:
            return await client.ask_all("lab/new", prompts, temperature=1.0), client
        finally:
            await client.close()

    return asyncio.run(ask())


# -- the file ------------------------------------------------------------------------------


def test_the_experiment_is_seers() -> None:
    experiment = submission.load(FILE, None)
    box = experiment.sandbox
    assert box.gpu == ("A100",) and box.gpu_count == 1
    assert box.timeout == 2 * 3600
    (repo,) = box.repos
    assert repo.url == "https://github.com/nickjiang2378/interp_embed"
    assert repo.ref == "1f7e682c9d50f2c673598f18be3b4933785429d2"
    assert set(box.secrets) == {"OPENROUTER_API_KEY", "HF_TOKEN"}
    # interp_embed.sae imports these two, which Seer's list lacks.
    assert {"goodfire==0.3.4", "python-dotenv"} <= set(box.packages)
    assert {"MODEL_A", "MODEL_B"} <= set(box.env)


def test_local_refuses_it_by_name_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("RUNNER_BACKEND", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["submit", str(FILE)]) == 2
    assert "sandbox.gpu: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_base_image_has_nothing_that_keeps_its_packages_out() -> None:
    """What an image has keeps its version: another one that is asked for would be refused."""
    lock = (HERE.parent.parent / "images" / "base" / "python.txt").read_text()
    there = [line.split(" ")[0] for line in lock.splitlines() if "==" in line]
    asked = submission.load(FILE, None).sandbox.packages
    names = {line.partition("==")[0] for line in there}
    left = pins.missing(asked, there, "3.11.2")
    assert "torch" in left
    assert not [package for package in left if re.split("[=<>~]", package)[0] in names]


def test_the_task_names_what_the_experiment_brings() -> None:
    task = (HERE / "task.md").read_text()
    box = submission.load(FILE, None).sandbox
    for name in ("interp_embed", "openrouter_client", "stats", "MODEL_A", "MODEL_B", *box.secrets):
        assert name in task


# -- the client ----------------------------------------------------------------------------


def test_responses_come_in_order_and_are_paid_for(client: ModuleType) -> None:
    prompts = [f"p{number}" for number in range(20)]
    with serving(OpenRouter()) as router:
        responses, made = asked(client, router, prompts)
    assert responses == [prompt.upper() for prompt in prompts]
    assert made.requests == 20 and made.failures == []
    assert made.cost_usd == pytest.approx(0.2)
    assert router.keys == {"Bearer sk-test"}
    for request in router.requests:
        assert request["model"] == "lab/new" and request["temperature"] == 1.0
        assert request["usage"] == {"include": True}


def test_what_passes_is_tried_again(client: ModuleType) -> None:
    with serving(OpenRouter(busy=[429, 503, completion("at last", 0.02)])) as router:
        responses, made = asked(client, router, ["busy", "other"])
    assert responses == ["at last", "OTHER"]
    assert made.failures == [] and made.requests == 2
    assert made.cost_usd == pytest.approx(0.03)
    assert router.sent().count("busy") == 3


def test_one_that_fails_for_good_stops_no_other(client: ModuleType) -> None:
    with serving(OpenRouter(broken=[500])) as router:
        responses, made = asked(client, router, ["a", "broken", "b"], retries=2)
    assert responses == ["A", None, "B"]
    ((prompt, reason),) = made.failures
    assert prompt == "broken" and "500" in reason
    assert router.sent().count("broken") == 3
    assert made.cost_usd == pytest.approx(0.02)


def test_what_no_repetition_mends_is_sent_once(client: ModuleType) -> None:
    with serving(OpenRouter(a=[401])) as router:
        responses, made = asked(client, router, ["a"])
    assert responses == [None] and len(router.requests) == 1
    assert "AuthenticationError" in made.failures[0][1]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"error": {"message": "provider is down", "code": 502}}, "provider is down"),
        (completion(None, 0.01, finish_reason="content_filter"), "content_filter"),
        (completion("", 0.01, finish_reason="length"), "length"),
    ],
)
def test_a_reply_without_text_is_a_failure(
    client: ModuleType, reply: dict[str, Any], reason: str
) -> None:
    with serving(OpenRouter(odd=[reply])) as router:
        responses, made = asked(client, router, ["odd", "b"])
    assert responses == [None, "B"]
    ((prompt, why),) = made.failures
    assert prompt == "odd" and reason in why


def test_no_more_at_once_than_allowed(client: ModuleType) -> None:
    router = OpenRouter()
    router.takes_s = 0.05
    with serving(router):
        asked(client, router, [f"p{number}" for number in range(12)], concurrency=3)
    assert router.most_at_once == 3


def test_nothing_is_sent_once_the_money_is_spent(client: ModuleType) -> None:
    router = OpenRouter()
    router.cost = 1.0
    with serving(router):
        responses, made = asked(client, router, list("abcdef"), concurrency=1, max_cost_usd=2.5)
    assert responses == ["A", "B", "C", None, None, None]
    assert made.cost_usd == 3.0 and len(router.requests) == 3
    assert [reason for _, reason in made.failures] == ["not sent: 3.00 USD are spent"] * 3


def test_a_bill_without_a_price_is_no_error(client: ModuleType) -> None:
    with serving(OpenRouter(free=[completion("Free", None)])) as router:
        responses, made = asked(client, router, ["free"])
    assert responses == ["Free"] and made.cost_usd == 0.0


# -- which models there are ----------------------------------------------------------------


def test_which_models_are_served(client: ModuleType) -> None:
    with serving(OpenRouter()) as router:
        found = client.served(["lab/new", "lab/retired"], router.url)
    assert found == {"lab/new": True, "lab/retired": False}


@pytest.mark.parametrize(
    ("models", "status", "said"),
    [
        (["lab/old", "lab/new"], 0, "lab/new: served"),
        (["lab/old", "lab/retired"], 1, "lab/retired: NOT served"),
        ([], 1, "usage: "),
    ],
)
def test_it_says_so_on_the_command_line_without_a_key(
    models: list[str], status: int, said: str
) -> None:
    with serving(OpenRouter()) as router:
        done = subprocess.run(
            [sys.executable, HERE / "openrouter_client.py", *models],
            env={"OPENROUTER_BASE_URL": router.url},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
