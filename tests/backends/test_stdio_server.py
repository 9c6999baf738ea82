"""A server of MCP that is started as a command, in the sandbox of every backend."""

from __future__ import annotations

import json
import os

import pytest
from command_line import CommandLine
from tiny_runs import Lab, end

from runner.record.verify import verify

SERVER = """\
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "here", "version": "1"},
        }
    elif asked["method"] == "tools/list":
        tool = {"name": "where", "description": "Where it is.", "inputSchema": {"type": "object"}}
        answer["result"] = {"tools": [tool]}
    elif asked["method"] == "tools/call":
        text = f"{os.path.exists('of_the_sandbox')} {os.environ['COLOUR']} {sys.argv[1]}"
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"""
SCRIPT = """\
import asyncio
from pathlib import Path
from runner import Sandbox, create_notebook_session, run_agent

async def main():
    with Sandbox(name="stdio") as sandbox:
        print("run", sandbox.run_id, flush=True)
        sandbox.write_file("of_the_sandbox", "")
        sandbox.write_file("server.py", Path("server.py").read_text())
        session = create_notebook_session(sandbox)
        here = {"command": "python", "args": ["server.py", "ä b"], "env": {"COLOUR": "blue"}}
        config = {**session.mcp_config, "here": here}
        talk = run_agent("Do it.", config, provider="scripted", script="steps.json")
        async for message in talk:
            print(message.role, message.text, flush=True)

asyncio.run(main())
"""


@pytest.mark.timeout(300)
def test_it_is_beside_the_notebook(lab: Lab) -> None:
    call = {"tools": [{"name": "mcp__here__where", "input": {}}]}
    (lab.top / "steps.json").write_text(json.dumps({"steps": [call, end("True blue ä b")]}))
    (lab.top / "server.py").write_text(SERVER)
    (lab.top / "main.py").write_text(SCRIPT)
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    with line.starting(program=("main.py",)) as started:
        run = lab.adopt(lab.backend.attach(started.said(r"^run (\S+)$")[1]))
        told = started.end()
    assert told.status == 0, told
    assert "tool True blue ä b" in told.out
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))
