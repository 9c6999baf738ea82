"""The connection between an agent and its sandbox fails at many moments; nothing is lost by it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from invariants import NotebookReader, check, counted, counted_command
from proxy import Proxy
from sandbox_process import sandbox
from tiny_runs import Lab, cell, end, tool, until, waiting

from runner.agent.options import AgentOptions
from runner.agent.puller import Puller
from runner.backends.local import launch
from runner.errors import SandboxUnreachable
from runner.record import Record
from runner.session import Endpoint, Session
from runner.session import client as session_client

KB = 1000
OUTPUT_BYTES = 2_000_000
STEPS = [
    cell(counted("c0", 20, every_s=0.02)),
    cell(
        counted(
            "c1",
            300,
            every_s=0.005,
            before=f"open('outputs/large', 'wb').write(b'0123456789' * {OUTPUT_BYTES // 10})",
        )
    ),
    tool("write_file", path="notes.txt", content="n" * 20_000),
    tool("read_file", path="notes.txt"),
    tool("run_shell", command=counted_command("s0")),
    cell(counted("c2", 5)),
    tool("add_markdown", source="That is all."),
    cell(counted("c3", 30)),
    end("c3 29"),
]
USUAL_S = 4.0
"""About how long a run of these takes from its first cell on."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What lies between the agents that are started here and their sandboxes."""
    with Proxy() as made:

        def options(**given: object) -> AgentOptions:
            made.port = int(str(given["url"]).rpartition(":")[2])
            return AgentOptions(**{**given, "url": made.url})

        monkeypatch.setattr(launch, "AgentOptions", options)
        yield made


def resets(proxy: Proxy, chance: random.Random, stall_s: float) -> None:
    for _ in range(chance.randrange(1, 6)):
        time.sleep(chance.uniform(0, 0.5))  # the moment
        proxy.reset()


def black_hole(proxy: Proxy, chance: random.Random, stall_s: float) -> None:
    """Both ends' connections are forgotten; in the end they are told so."""
    proxy.swallow()
    time.sleep(stall_s)
    proxy.heal()
    proxy.reset()


def trickle(proxy: Proxy, chance: random.Random, stall_s: float) -> None:
    proxy.rate = 10 * KB
    time.sleep(stall_s)
    proxy.heal()


def lateness(proxy: Proxy, chance: random.Random, stall_s: float) -> None:
    """Each answer is as late as that, and so are two of them, one after the other."""
    proxy.late_s = stall_s
    time.sleep(2.5 * stall_s)
    proxy.heal()


def trickle_that_breaks(proxy: Proxy, chance: random.Random, stall_s: float) -> None:
    """What takes long is cut off in the middle of it."""
    proxy.rate = 10 * KB
    for _ in range(3):
        time.sleep(stall_s / 3)
        proxy.reset()
    proxy.heal()


Fault = Callable[[Proxy, random.Random, float], None]
FAULTS: list[Fault] = [resets, black_hole, trickle, lateness, trickle_that_breaks]


@pytest.mark.few
@pytest.mark.timeout(600)
def test_a_run_outlives_what_happens_to_its_connection(
    lab: Lab, proxy: Proxy, chance: random.Random, moment: int, stall_s: float
) -> None:
    fault = FAULTS[moment % len(FAULTS)]
    run = lab.submit(STEPS)
    with NotebookReader(run.path / "notebook.ipynb", run.root / "workspace" / "notebook.ipynb"):
        until(lambda: run.lines("message") or not run.status.agent_alive, "it begins")
        time.sleep(chance.uniform(0, USUAL_S))  # the moment
        fault(proxy, chance, stall_s)
        status = run.over(300)
    assert (status.state, status.reason) == ("done", "the agent ended the run"), fault.__name__
    assert proxy.passed, "the agent does not go through it"
    check(run.path, run.root)
    assert (run.path / "outputs" / "large").stat().st_size == OUTPUT_BYTES
    assert [line["is_error"] for line in run.lines("tool_result")] == [False] * (len(STEPS) - 1)
    assert status.run is not None
    assert (status.run.attempts, len(status.run.sandboxes)) == (1, 1)
    assert {line["state"] for line in run.journal() if line["type"] == "end"} == {"ok"}


def test_files_that_are_cut_off_on_their_way_come_whole(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, Proxy(int(box.url.rpartition(":")[2])) as proxy:
        with box.session():
            pass  # it is ready
        content = bytes(range(256)) * 4_000
        for name in ("folder/a", "folder/b"):
            (box.workspace / name).parent.mkdir(exist_ok=True)
            (box.workspace / name).write_bytes(content)
        begun: list[int] = []

        def cut_off_twice(pieces: Iterator[bytes]) -> bytes:
            begun.append(0)
            data = next(pieces)
            if len(begun) <= 2:
                proxy.reset()
            return data + b"".join(pieces)

        with Session(Endpoint(proxy.url, box.token)) as session:
            session.connect(30.0)
            proxy.rate = 4_000 * KB
            assert session.fetch("folder/a", cut_off_twice) == content
            assert len(begun) == 3
            before = proxy.passed
            cutting = threading.Thread(
                target=lambda: (
                    until(lambda: proxy.passed > before + 100_000, "it is on its way"),
                    proxy.reset(),
                )
            )
            cutting.start()
            session.download("folder", tmp_path / "fetched")
            cutting.join()
        for name in ("a", "b"):
            assert (tmp_path / "fetched" / name).read_bytes() == content


def test_a_sandbox_that_is_not_reached_any_more_is_told_of_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_client, "POLL_S", 0.2)
    monkeypatch.setattr(session_client, "LATE_S", 0.3)
    with (
        sandbox(tmp_path) as box,
        Proxy(int(box.url.rpartition(":")[2])) as proxy,
        box.session() as near,
        Session(Endpoint(proxy.url, box.token), reconnect_s=1) as far,
    ):
        far.connect(30.0)
        op = far.run("'ran'", timeout_s=0).op
        proxy.swallow()
        with pytest.raises(SandboxUnreachable, match="has not answered for 1 s: "):
            far.info()
        proxy.heal()
        monkeypatch.undo()
        with Session(far.endpoint) as later:
            assert later.wait(op).text == near.wait(op).text == "'ran'"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_connection_that_is_forgotten_in_silence_is_made_anew(
    lab: Lab, proxy: Proxy, temporary: Path
) -> None:
    go = temporary / "go"
    run = lab.submit([cell(counted("a", 20, after=waiting(go)), timeout=200), end("a 19")])
    until(lambda: "a 19" in str(run.journal()), "the cell has printed")
    proxy.swallow()
    proxy.heal()
    go.touch()
    assert run.over(200).reason == "the agent ended the run"
    check(run.path, run.root)


def test_outputs_that_are_cut_off_on_their_way_are_collected(tmp_path: Path) -> None:
    with (
        sandbox(tmp_path) as box,
        Proxy(int(box.url.rpartition(":")[2])) as proxy,
        Session(Endpoint(proxy.url, box.token)) as session,
    ):
        session.connect(60.0)
        session.write_file("outputs/large", bytes(OUTPUT_BYTES))
        record = Record.create(tmp_path / "runs", "cut-1", {"name": "cut"})
        puller = Puller(session, record)
        proxy.rate, before = 1_000 * KB, proxy.passed
        puller.start()
        until(lambda: proxy.passed > before + 300 * KB, "it is on its way")
        proxy.reset()
        proxy.heal()
        assert puller.finish() == []
        record.close()
    assert (record.path / "outputs" / "large").stat().st_size == OUTPUT_BYTES
