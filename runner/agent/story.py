"""What happens to a run, a line each, for whoever reads the agent's log.

States, tools, tokens and numbers: what the model and its code said is in the record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runner.record import Record

MOST_FILES = 5
LONGEST = 500


class ToldRecord(Record):
    """A record that also prints what is said to it, in short."""

    def say(self, type: str, **fields: Any) -> None:  # noqa: A002
        """Write one transcript line, and print what it is about."""
        super().say(type, **fields)
        if words := tell(type, fields):
            line = f"{datetime.now(UTC):%H:%M:%SZ} {self._mask(words)}"
            with contextlib.suppress(OSError):  # a full disk is for the record to tell of
                print(line, flush=True)  # noqa: T201 - the agent's log


def tell(type: str, line: Mapping[str, Any]) -> str:  # noqa: A002
    """What a line of the transcript is about; empty where that is of no interest."""
    match type:
        case "attempt":
            words = f"attempt {line['attempt']} on {line.get('node') or line['host']}"
            return f"{words}: {_short(line['reason'])}"
        case "state":
            return f"state {line['state']}" + _because(line["reason"])
        case "sandbox":
            kernel = line["kernel"]
            return f"sandbox {line['boot']}, kernel {kernel['id'] if kernel else 'none'}"
        case "message":
            return _message(line)
        case "tool_result":
            how = "failed" if line["is_error"] else "ok"
            return f"turn {line['turn']}: {line['tool']} {how} ({line['op']})"
        case "retry":
            return f"the model's provider is asked again in {line['delay_s']:.1f} s" + _because(
                line["reason"]
            )
        case "request_failed":
            return f"the model's provider gave no reply to request {line['number']}" + _because(
                line["reason"]
            )
        case "outputs":
            files = [
                f"{file['path']} ({file['bytes']:,} bytes"
                + (", set aside: it holds a secret)" if file.get("withheld") else ")")
                for file in line["files"]
            ]
            more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
            return f"kept {', '.join(files[:MOST_FILES])}{more}"
        case "score":
            return "scored" + _because(line.get("error", ""))
        case "end":
            return f"end: {line['state']} (exit status {line['exit_status']})" + _because(
                line["reason"]
            )
    return ""


def _message(line: Mapping[str, Any]) -> str:
    if line["role"] != "assistant":
        return _notice(line) if line.get("notice") else ""
    calls = [block["name"] for block in line["content"] if block["type"] == "tool_use"]
    tokens = sum(count or 0 for count in line["usage"].values())
    cost = f", ${line['cost_usd']:.4f}" if line["cost_usd"] else ""
    return f"turn {line['turn']}: {', '.join(calls) or 'words'} ({tokens:,} tokens{cost})"


def _notice(line: Mapping[str, Any]) -> str:
    """What the agent was told besides: by people, of another sandbox, of a bound that is near."""
    about = line["notice"]
    if about.startswith("chat "):
        return f"{line['by']} told the agent something"
    return f"told the agent of {'' if about.startswith('sandbox ') else 'its bound, '}{about}"


def _because(reason: str) -> str:
    return f": {_short(reason)}" if reason else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
