"""A process that runs the loop and, asked to, is killed right after writing a line.

python dying_loop.py RECORD URL TOKEN_FILE STEPS [assistant | tool_result]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from runner.agent.conversation import Conversation
from runner.agent.loop import Loop
from runner.agent.providers.scripted import Scripted
from runner.agent.stop import Stop
from runner.agent.tools import Toolbox
from runner.config.sandbox import ExecutionMode
from runner.plan import RunPlan
from runner.record import Record, read_lines
from runner.session import Endpoint, Session

path, url, token_file, steps, *deaths = sys.argv[1:]


class Mortal(Record):
    def say(self, type: str, **fields: Any) -> None:
        super().say(type, **fields)
        if {type, fields.get("role")} & set(deaths):
            os.kill(os.getpid(), signal.SIGKILL)


record = Mortal.open(Path(path), write=True)
conversation = Conversation()
for line, _ in read_lines(Path(path, "transcript.jsonl")):
    conversation.apply(line)
session = Session(Endpoint(url, Path(token_file).read_text()))
record.say("sandbox", boot=session.connect(30)["boot"])
plan = RunPlan.model_validate(record.state().plan)
tools = Toolbox(session, ExecutionMode.NOTEBOOK)
Loop(plan, record, conversation, Scripted(json.loads(steps)), tools, Stop(), 600, "").run()
