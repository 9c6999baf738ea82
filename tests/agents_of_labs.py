"""Agents that are commands, as a lab would have them: of the official clients alone."""

from __future__ import annotations

import json
import sys

_TOOLS = """\
import asyncio, json, os, sys, time
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

entry = json.load(open(os.environ["RUNNER_MCP_CONFIG"]))["mcpServers"]["runner"]
task = sys.stdin.read()

async def working(steps):
    async with httpx2.AsyncClient(headers=entry["headers"], timeout=60) as http:
        async with Client(streamable_http_client(entry["url"], http_client=http)) as client:
            await steps(client)

def text(result):
    return "".join(block.text for block in result.content if block.type == "text")
"""
MODEL = f"""\
{_TOOLS}
import anthropic

async def steps(client):
    tools = [
        {{"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}}
        for tool in (await client.list_tools()).tools
    ]
    model = anthropic.Anthropic(max_retries=2)
    messages = [{{"role": "user", "content": task}}]
    while True:
        asked = {{"model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 1000}}
        with model.messages.stream(messages=messages, tools=tools, **asked) as stream:
            reply = stream.get_final_message()
        messages.append({{"role": "assistant", "content": [b.to_dict() for b in reply.content]}})
        calls = [block for block in reply.content if block.type == "tool_use"]
        print("".join(b.text for b in reply.content if b.type == "text"), flush=True)
        if not calls:
            return
        results = [text(await client.call_tool(call.name, call.input)) for call in calls]
        messages.append({{"role": "user", "content": [
            {{"type": "tool_result", "tool_use_id": call.id, "content": result}}
            for call, result in zip(calls, results)
        ]}})

asyncio.run(working(steps))
"""
"""A small agent on the Messages API, streamed, with all tools."""


def own(steps: str) -> str:
    """One that asks no model: the body of a function, with `client`, `task` and `text`."""
    lines = "\n".join(f"    {line}" for line in steps.splitlines())
    return f"{_TOOLS}\nasync def steps(client):\n{lines}\n\nasyncio.run(working(steps))\n"


def toml(program: str, *, python: str = sys.executable, **agent: object) -> str:
    """Its `[agent]`; a string of JSON is one of TOML."""
    keys = {"command": [python, "-c", program], **agent}
    return "[agent]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
