"""One attempt of a command: what it is given, what it prints, what ends it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.agent.bounds import NEAR, SHORTEST_WAIT_S
from runner.agent.command.meter import Meter
from runner.agent.command.process import Process
from runner.agent.masked import masked
from runner.agent.mcp_entry import SERVER, http_entry
from runner.agent.prompt import system_prompt
from runner.agent.stop import Outcome, Stop
from runner.agent.text import clean
from runner.agent.tools import Answer, Others, Toolbox
from runner.errors import ConfigError, SandboxUnreachable
from runner.masking import Mask
from runner.plan import RunPlan
from runner.record import Record
from runner.session import Session

if TYPE_CHECKING:
    from starlette.routing import Route

LOOK_S = 0.1
"""How often it is looked what was printed, and whether a bound is reached."""
GRACE_S = 5.0
"""How long it has to end when it is told to."""
LEAVE_S = 0.5
"""The same where the agent itself is told to leave: a pod that is evicted has a second."""
RECONNECT_S = 5.0
MOST_PRINTED = 64 << 20
"""Characters of output that the record keeps."""
LAST_WORDS = 500
"""Characters of its last output that a failure is explained with: stderr's, if there is any."""
AGAIN = """

[runner] An earlier attempt at this was interrupted. The notebook and the files have what it did: \
look at them before you go on."""
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "TZ")
_KEPT_PREFIXES = ("LC_", "SSL_", "REQUESTS_CA_", "CURL_CA_", "NODE_EXTRA_CA_")
_HERE = "127.0.0.1,localhost"
Said = Mapping[str, Any]


def drive(
    plan: RunPlan,
    record: Record,
    tools: Toolbox,
    stop: Stop,
    left_s: float,
    key: str,
    attempt: int,
    told: Collection[str],
) -> Outcome:
    """Run the experiment's command until it ends, or a bound or somebody ends it.

    It has `left_s` seconds; `told` are the bounds that it was told of before. Raises ConfigError
    where the program, or a key that it needs, is not there.
    """
    agent = plan.experiment.agent
    command = agent.command or ()
    env = environment(os.environ)
    if not command or not shutil.which(command[0], path=env.get("PATH")):
        raise ConfigError(
            file="experiment",
            key="agent.command",
            expected="a program that is there, where the agent runs",
            found=f"no {' '.join(command[:1])!r}",
            hint="on docker and kubernetes the agent's image has to have it: docs/agent.md",
        )
    _check_mcp()
    hide = _hiding(plan, tools.session, stop)
    meter = Meter(plan, record, hide, tools.notices.append, told)
    routes: list[Route] = []
    if agent.provider != "none":
        from runner.agent.command.gateway import Gateway

        routes = Gateway(meter, key, agent.base_url).routes()
    elif agent.llm_secret:
        env[agent.llm_secret] = key
    with (
        tempfile.TemporaryDirectory(prefix="runner-agent-") as folder,
        _serving(_Bounded(tools, stop, left_s, plan.experiment.sandbox.timeout), routes) as at,
    ):
        port, token = at
        files = _files(Path(folder), plan, port, token, again=attempt > 1)
        env |= {f"RUNNER_{name}": str(path) for name, path in files.items()}
        env |= {"RUNNER_RUN_ID": plan.run_id, "RUNNER_ATTEMPT": str(attempt)}
        if routes:
            url = f"http://127.0.0.1:{port}"
            env |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": token}
            env["ANTHROPIC_MODEL"] = agent.model or ""
        process = Process(command, folder=Path(folder), env=env, given=files["TASK"])
        return _Attempt(plan, record, hide, Mask([key]), stop, meter, process).run(left_s)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a command has of the agent's variables: places, languages, certificates, proxies.

    What the tools and the model are asked at is on this machine, and goes past the proxies.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower().endswith("_proxy")
    }
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name), _HERE)))
    return kept


class _Bounded:
    """The sandbox's tools; one of them waits no longer than to what the command is to hear of time.

    A sandbox that stays away ends the run.
    """

    def __init__(self, tools: Toolbox, stop: Stop, left_s: float, timeout_s: float) -> None:
        self._tools, self._stop = tools, stop
        self._end, self._near_s = time.monotonic() + left_s, timeout_s * (1 - NEAR)

    def definitions(self) -> list[dict[str, Any]]:
        return self._tools.definitions()

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        left_s = self._end - time.monotonic()
        longest_s = left_s - self._near_s if left_s > self._near_s else left_s
        try:
            return self._tools.call(name, given, op, longest_s=max(longest_s, SHORTEST_WAIT_S))
        except SandboxUnreachable as error:
            gone = Outcome("failed", error.message, error.exit_status)
            self._stop.outcome = self._stop.outcome or gone
            raise


class _Attempt:
    def __init__(
        self,
        plan: RunPlan,
        record: Record,
        hide: Callable[[Said], Said],
        key: Mask,
        stop: Stop,
        meter: Meter,
        process: Process,
    ) -> None:
        self._plan, self._record, self._hide, self._stop = plan, record, hide, stop
        self._masks = {"stdout": key.stream(), "stderr": key.stream()}
        self._meter, self._process = meter, process
        self._program = Path((plan.experiment.agent.command or ("",))[0]).name
        self._printed = 0
        self._last = {"stdout": "", "stderr": ""}

    def run(self, left_s: float) -> Outcome:
        """Wait for its end; how it ended."""
        end, timeout_s = time.monotonic() + left_s, self._plan.experiment.sandbox.timeout
        status: int | None = None
        outcome: Outcome | None = None
        try:
            while outcome is None and status is None:
                status = self._process.ended(LOOK_S)
                self._keep()
                outcome = self._stop.outcome
                if outcome is None and status != 0:  # one that a bound refused may have given up
                    outcome = self._meter.look(timeout_s - (end - time.monotonic()))
        finally:
            leaves = self._stop.outcome and self._stop.outcome.state == "interrupted"
            grace_s = LEAVE_S if leaves else GRACE_S
            self._process.end(grace_s)
            last = time.monotonic() + grace_s
            while self._process.prints(last):
                self._keep()
            for stream, mask in self._masks.items():
                self._write(stream, mask.flush())
        return outcome or self._ended(status or 0)

    def _ended(self, status: int) -> Outcome:
        if not status:
            return Outcome("done", "the agent ended the run", 0)
        last = self._last["stderr"] or self._last["stdout"]
        words = " ".join(clean(last).split())[-LAST_WORDS:]
        because = f": {words}" if words else ""
        return Outcome("failed", f"{self._program} ended with status {status}{because}", 1)

    def _keep(self) -> None:
        for stream, text in self._process.printed():
            self._write(stream, self._masks[stream].feed(text))

    def _write(self, stream: str, text: str) -> None:
        """Write down what it has printed."""
        left = MOST_PRINTED - self._printed
        self._printed += len(text)
        if left <= 0 or not text:
            return
        if len(text) > left:
            text = f"{text[:left]}\n[runner] no more of it is kept\n"
        said = self._hide({"text": text})
        self._last[stream] = f"{self._last[stream]}{said['text']}"[-4 * LAST_WORDS :]
        self._record.say("printed", program=self._program, stream=stream, **said)


def _hiding(plan: RunPlan, session: Session, stop: Stop) -> Callable[[Said], Said]:
    """What takes the sandbox's secrets out of what is written down; it does not wait for long.

    A sandbox that stays away ends the run.
    """
    quick = Session(session.endpoint, reconnect_s=RECONNECT_S)

    def hide(said: Said) -> Said:
        try:
            return masked(said, plan, quick)
        except SandboxUnreachable as error:
            stop.outcome = stop.outcome or Outcome("failed", error.message, error.exit_status)
            return said

    return hide


def _check_mcp() -> None:
    try:
        import runner.agent.mcp  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            file="experiment",
            key="agent.command",
            expected="the package `mcp` beside the agent, which speaks with the command",
            found=f"no module {error.name}",
            hint="pip install 'runner[command]', or the agent's image of this version",
        ) from error


@contextlib.contextmanager
def _serving(tools: Others, routes: list[Route]) -> Iterator[tuple[int, str]]:
    """The tools, and what is beside them, on a port of loopback, for whoever has the token."""
    from runner.agent.mcp import http_server

    token = secrets.token_urlsafe(32)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = http_server(tools, token, routes)
        thread = threading.Thread(target=server.run, args=([listening],), name="tools", daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], token
        finally:
            server.should_exit = True
            thread.join(GRACE_S)


def _files(
    folder: Path, plan: RunPlan, port: int, token: str, *, again: bool
) -> Mapping[str, Path]:
    """What it can read, by the variable that names it."""
    entry: dict[str, Any] = {"mcpServers": http_entry(port, token, SERVER)}
    texts = {
        "MCP_CONFIG": ("mcp.json", json.dumps(entry, indent=2)),
        "TASK": ("task.md", plan.experiment.task + (AGAIN if again else "")),
        "SYSTEM_PROMPT": ("system.md", system_prompt(plan)),
    }
    for name, text in texts.values():
        file = folder / name
        file.touch(0o600)
        file.write_text(text)
    return {variable: folder / name for variable, (name, _) in texts.items()}
