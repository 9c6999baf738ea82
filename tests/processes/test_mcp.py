"""The tools of a sandbox, for the official client of the Model Context Protocol."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from command_line import CommandLine
from mcp import Client, StdioServerParameters
from tiny_runs import processes_of, until

from runner import Library, Sandbox, Workspace, create_cli_session, create_notebook_session
from runner.api.foreign import over_http

PNG = (
    "from IPython.display import Image, display\nimport base64\n"
    "display(Image(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==')))"
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    top = tmp_path_factory.mktemp("mcp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_RUNS", str(top / "runs"))
        patch.setenv("RUNNER_STATE_DIR", str(top / "state"))
        with Sandbox(name="served") as started:
            yield started
        assert not list(processes_of(top)), "a process was left behind"


def client(config: Any) -> Client:
    """As a client of others starts it: in another directory, with what the config says."""
    entry = config["runner"]
    return Client(
        StdioServerParameters(
            command=entry["command"], args=entry["args"], env=entry["env"], cwd="/"
        ),
        read_timeout_seconds=60,
    )


def text(result: Any) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


def test_the_official_client_works_in_the_notebook(sandbox: Sandbox) -> None:
    library = Library.from_code("served", "def two() -> int:\n    return 2\n")
    session = create_notebook_session(sandbox, Workspace(libraries=[library]))

    async def work() -> None:
        async with client(session.mcp_config) as mcp:
            tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
            assert {"run_cell", "run_shell", "interrupt", "read_notebook"} <= set(tools)
            assert tools["run_cell"].input_schema["required"] == ["source"]
            source = "import served\nprint(served.two() + 40)"
            done = await mcp.call_tool("run_cell", {"source": source})
            assert (text(done).splitlines()[0], done.is_error) == ("42", False)
            failed = await mcp.call_tool("run_cell", {"source": "1 / 0"})
            assert failed.is_error
            assert "ZeroDivisionError" in text(failed)
            wrong = await mcp.call_tool("run_cell", {"sauce": "1"})
            assert wrong.is_error
            assert "run_cell was not run" in text(wrong)
            none = await mcp.call_tool("no_such_tool", {})
            assert "there is no tool no_such_tool" in text(none)
            seen = await mcp.call_tool("run_cell", {"source": PNG})
            assert [block.mime_type for block in seen.content if block.type == "image"] == [
                "image/png"
            ]

    asyncio.run(work())
    cells = json.loads(sandbox.session.notebook())["cells"]
    assert any("served.two() + 40" in "".join(cell["source"]) for cell in cells)


def test_two_calls_at_once_and_an_interrupt(sandbox: Sandbox) -> None:
    session = create_notebook_session(sandbox)

    async def work() -> None:
        async with client(session.mcp_config) as mcp:
            sleeping = asyncio.ensure_future(
                mcp.call_tool("run_cell", {"source": "import time\ntime.sleep(600)"})
            )
            while not (running := sandbox.session.info()["running"]):
                await asyncio.sleep(0.05)
            ended = await mcp.call_tool("interrupt", {"execution": running[0]})
            assert "interrupted" in text(ended)
            assert "interrupted" in text(await sleeping)

    asyncio.run(work())


def test_a_cell_outlives_a_client_that_goes_away_in_a_call(sandbox: Sandbox) -> None:
    session = create_notebook_session(sandbox)
    source = (
        "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "pathlib.Path('went').touch()"
    )

    async def leave() -> None:
        async with client(session.mcp_config) as mcp:
            calling = asyncio.ensure_future(mcp.call_tool("run_cell", {"source": source}))
            while not sandbox.session.info()["running"]:
                await asyncio.sleep(0.05)
            calling.cancel()

    asyncio.run(leave())
    until(lambda: not servers(sandbox), "the server leaves", 20)
    sandbox.write_file("go", "")
    until(lambda: "went" in sandbox.exec("ls").text, "the cell goes on")


def test_a_client_that_is_killed_leaves_no_server(sandbox: Sandbox) -> None:
    session = create_notebook_session(sandbox)
    entry = session.mcp_config["runner"]
    script = "import subprocess, sys, time\nsubprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\ntime.sleep(600)"
    killed = subprocess.Popen(
        [sys.executable, "-c", script, entry["command"], *entry["args"]],
        env=os.environ | entry["env"],
        stderr=subprocess.DEVNULL,
    )
    until(lambda: servers(sandbox), "it is started", 20)
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    until(lambda: not servers(sandbox), "the server leaves", 20)


def servers(sandbox: Sandbox) -> list[int]:
    """The servers of this sandbox's tools."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if words[1:4] == ["-m", "runner", "mcp"] and sandbox.run_id in words:
            found.append(process.pid)
    return found


def test_a_cli_session_has_no_cells(sandbox: Sandbox) -> None:
    session = create_cli_session(sandbox)

    async def work() -> None:
        async with client(session.mcp_config) as mcp:
            names = {tool.name for tool in (await mcp.list_tools()).tools}
            assert "run_cell" not in names
            said = await mcp.call_tool("run_shell", {"command": "echo from the shell"})
            assert text(said).startswith("from the shell")

    asyncio.run(work())


def test_the_printed_config_is_one_that_works(sandbox: Sandbox) -> None:
    top = sandbox.record.parents[1]
    line = CommandLine(top, RUNNER_STATE_DIR=str(top / "state"), RUNNER_RUNS=str(top / "runs"))
    told = line("mcp", sandbox.run_id, "--config")
    assert told.status == 0, told
    config = json.loads(told.out)["mcpServers"]

    async def work() -> None:
        async with client(config) as mcp:
            assert text(await mcp.call_tool("run_cell", {"source": "print(1)"})).startswith("1\n")

    asyncio.run(work())
    told = line("mcp", sandbox.run_id, "--mode", "book")
    assert (told.status, "there is no mode 'book'" in told.err) == (2, True)
    told = line("mcp", "served-261123-0907-aaaa")
    assert told.status == 2
    assert "holds no run" in told.err


def test_several_clients_over_http_with_a_token(sandbox: Sandbox) -> None:
    top = sandbox.record.parents[1]
    line = CommandLine(top, RUNNER_STATE_DIR=str(top / "state"), RUNNER_RUNS=str(top / "runs"))
    with line.starting("mcp", sandbox.run_id, "--http", "0", "--json") as serving:
        entry = json.loads(serving.said("^(.*mcpServers.*)$")[1])["mcpServers"]["runner"]

        async def work() -> None:
            async with over_http("a", entry)() as one, over_http("b", entry)() as other:
                await one.call_tool("run_cell", {"source": "shared = 40"})
                said = await other.call_tool("run_cell", {"source": "print(shared + 2)"})
                assert text(said).startswith("42\n")

        asyncio.run(work())
        ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"Accept": "application/json, text/event-stream"}
        for headers in ({}, {"Authorization": "Bearer none"}, {"Authorization": "token"}):
            refused = httpx.post(entry["url"], json=ask, headers=accept | headers)
            assert (refused.status_code, "token of the entry" in refused.text) == (401, True)
        # A page in a browser that was led here by another name.
        led = accept | entry["headers"] | {"Host": "evil.example"}
        assert httpx.post(entry["url"], json=ask, headers=led).status_code in (403, 421)
        port = entry["url"].split(":")[2].split("/")[0]
        told = line("mcp", sandbox.run_id, "--http", port)
        assert (told.status, f"port {port} of this machine is taken" in told.err) == (2, True)
        serving.interrupt()
        told = serving.end()
    assert told.status in (0, 130)
    assert "Traceback" not in told.err
    assert entry["headers"]["Authorization"] not in told.err
    told = line("mcp", sandbox.run_id, "--http", "0", "--config")
    assert (told.status, "--config and --http" in told.err) == (2, True)


def test_an_over_run_is_told_of_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    with Sandbox(name="over", runs=str(tmp_path / "runs")) as started:
        run_id = started.run_id
    told = CommandLine(tmp_path, RUNNER_STATE_DIR=str(tmp_path / "state"))("mcp", run_id)
    assert told.status != 0
    assert "has ended" in told.err
    assert "Traceback" not in told.err


# -- tools that look after sandboxes -----------------------------------------------------------


def managing(sandbox: Sandbox, *words: str) -> Any:
    """The entry that the command prints for a client."""
    settings = sandbox.driven.settings
    env = {"RUNNER_RUNS": settings.runs, "RUNNER_STATE_DIR": str(settings.state_dir)}
    line = CommandLine(Path(settings.runs).parent, **env)
    told = line("mcp", "--sandboxes", *words)
    assert told.status == 0, told
    return json.loads(told.out)["mcpServers"]


def test_a_client_looks_after_its_sandboxes(sandbox: Sandbox) -> None:
    entry = managing(sandbox, "--config")

    async def use() -> dict[str, Any]:
        told: dict[str, Any] = {}
        async with client({"runner": entry["sandboxes"]}) as connected:
            tools = (await connected.list_tools()).tools
            told["tools"] = {tool.name for tool in tools}
            assert all(tool.description for tool in tools)

            async def ask(tool: str, **given: Any) -> Any:
                given = {"sandbox": sandbox.run_id} | given if tool != "list_sandboxes" else given
                told[tool] = await connected.call_tool(tool, given)
                return told[tool]

            await ask("list_sandboxes")
            await ask("sandbox_info")
            await ask("exec", command="echo one; exit 3")
            await ask("exec_python", code="print(6 * 7)")
            await ask("write_file", path="managed/a.txt", content="ä")
            await ask("read_file", path="managed/a.txt")
            await ask("list_files", path="managed")
            await ask("gpu_status")
            await ask("processes")
            await ask("snapshot")
            told["other"] = await connected.call_tool("exec", {"sandbox": "x", "command": "ls"})
            told["nonsense"] = await connected.call_tool("exec", {"command": "ls"})
        return told

    told = asyncio.run(use())
    assert told["tools"] >= set(told) - {"tools", "other", "nonsense"}
    assert {"terminate", "wait", "interrupt"} <= told["tools"]
    assert sandbox.run_id in text(told["list_sandboxes"])
    info = json.loads(text(told["sandbox_info"]))
    assert (info["id"], info["name"], info["kernel"]) == (sandbox.run_id, "served", "idle")
    assert text(told["exec"]).startswith("one\n")
    assert "3" in text(told["exec"])
    assert text(told["exec_python"]).startswith("42\n")
    assert text(told["read_file"]) == "ä"
    assert "a.txt" in text(told["list_files"])
    assert "no GPU is seen here" in text(told["gpu_status"])
    assert "runner.sandbox" in text(told["processes"])
    snapshot = text(told["snapshot"]).split()[1]
    assert (Path(sandbox.driven.settings.runs) / snapshot / "outputs" / "workspace.tar").is_file()
    assert told["other"].is_error
    assert "has no sandbox 'x' that goes on" in text(told["other"])
    assert told["nonsense"].is_error
    assert "sandbox" in text(told["nonsense"])


def test_sandboxes_of_others_are_nobodys(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.api.management import Management

    mine = Management(sandbox.driven.settings)
    assert sandbox.run_id in mine.call("list_sandboxes", {}, "a").content[0]["text"]
    monkeypatch.setenv("LOGNAME", "somebody-else")
    theirs = Management(sandbox.driven.settings)
    listed = theirs.call("list_sandboxes", {}, "b").content[0]["text"]
    assert listed == "somebody-else has no sandbox that goes on"
    for tool in ("exec", "terminate", "snapshot", "sandbox_info"):
        given = {"sandbox": sandbox.run_id} | ({"command": "ls"} if tool == "exec" else {})
        answer = theirs.call(tool, given, "c")
        assert answer.is_error
        assert f"somebody-else has no sandbox '{sandbox.run_id}'" in answer.content[0]["text"]
    assert str(sandbox.exec("echo it goes on")) == "it goes on\n"


def test_a_client_ends_a_sandbox(sandbox: Sandbox) -> None:
    from runner.api.management import Management
    from runner.record import Record

    other = Sandbox(name="other", runs=sandbox.driven.settings.runs).start()
    answer = Management(sandbox.driven.settings).call("terminate", {"sandbox": other.run_id}, "a")
    assert "is cancelled: " in answer.content[0]["text"]
    assert Record.open(other.record).state().state == "cancelled"
    other.terminate()


def test_what_does_not_go_together_is_refused(sandbox: Sandbox) -> None:
    line = CommandLine(Path(sandbox.driven.settings.runs).parent)
    told = line("mcp", sandbox.run_id, "--sandboxes")
    assert told.status == 2
    assert "leave RUN, --mode and --served out" in told.words
