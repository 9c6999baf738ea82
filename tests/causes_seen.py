"""What `status` said of each cause that tests produced: docs/causes.json, and its table in the docs.

A test that sees other words fails. `SEEN=write` in the environment takes them for the new ones;
`make docs` then writes the table anew. With `SEEN_TIMES=FILE` the seconds from a cause's
appearing in the API to its words go there, which bench/causes.py shows.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_line import CommandLine

from runner.backends.kubernetes.client import Client

TOP = Path(__file__).resolve().parent.parent
FILE = TOP / "docs" / "causes.json"
PAGE = TOP / "docs" / "debugging.md"
BEGIN, END = "<!-- what tests saw -->\n", "<!-- until here -->"
LONGEST_S = 200.0

Seen = dict[str, dict[str, str]]


class Causes:
    """Looks at runs of a namespace: as its admin at the API, as a researcher with `status`."""

    def __init__(self, client: Client, line: CommandLine) -> None:
        self._client, self._line = client, line

    def seen(self, run_id: str, cause: str, *, shows: str, says: str) -> dict[str, Any]:
        """Wait until `status` says this of a run, and hold it against docs/causes.json.

        `shows` is what the API has of the cause as soon as it is there.
        """
        appeared: list[float] = []
        over = threading.Event()

        def look() -> None:
            while not over.is_set() and not appeared:
                if shows in self._told(run_id):
                    appeared.append(time.monotonic())

        looker = threading.Thread(target=look)
        looker.start()
        try:
            status = self._until(run_id, says)
            took_s = time.monotonic() - appeared[0] if appeared else 0.0
        finally:
            over.set()
            looker.join()
        assert appeared, f"{says!r} was said before the API showed {shows!r}"
        self._note(cause, took_s)
        self._hold(cause, run_id, status)
        return status

    def told(self, cause: str, status: int, words: str) -> None:
        """Hold the words of a command that was refused against docs/causes.json."""
        said = {"state": f"exit status {status}", "reason": words, "mend": ""}
        self._hold(cause, "no run", said)

    def _until(self, run_id: str, says: str) -> dict[str, Any]:
        end = time.monotonic() + LONGEST_S
        while True:
            told = self._line("status", run_id, "--json")
            assert told.status == 0, told
            if says in f"{told.data['reason']} {told.data['mend']}":
                return told.data
            assert time.monotonic() < end, f"{run_id} never says {says!r}: {told}"

    def _told(self, run_id: str) -> str:
        """All that the API has about a run: its objects, their events, its node."""
        found: list[Any] = [
            item
            for kind in ("jobs", "pods")
            for item in self._client.list(kind, labels=f"runner/run={run_id}")
        ]
        about = [item["metadata"]["name"] for item in found]
        on = {item["spec"].get("nodeName") for item in found}
        found += [
            event
            for event in self._client.list("events")
            if event["involvedObject"].get("name") in about
        ]
        found += [node for node in self._client.list("nodes") if node["metadata"]["name"] in on]
        found += [
            item
            for item in self._client.list("workloads")
            if item["metadata"]["ownerReferences"][0]["name"].startswith(run_id)
        ]
        return json.dumps(found)

    def _note(self, cause: str, took_s: float) -> None:
        if file := os.environ.get("SEEN_TIMES"):
            with Path(file).open("a") as times:
                times.write(json.dumps({"cause": cause, "seconds": took_s}) + "\n")

    def _hold(self, cause: str, run_id: str, status: dict[str, Any]) -> None:
        said = {
            key: plain(status[key] or "", run_id, self._client.namespace)
            for key in ("state", "reason", "mend")
        }
        known = read()
        if os.environ.get("SEEN") == "write":
            FILE.write_text(json.dumps({**known, cause: said}, indent=2, ensure_ascii=False) + "\n")
            return
        assert said == known.get(cause), f"{cause}: not as in {FILE}; SEEN=write takes it over"


def read() -> Seen:
    """What was seen so far, by the cause."""
    found: Seen = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def plain(words: str, run_id: str, namespace: str) -> str:
    """Without what differs from one time to the next, and from one lab to another."""
    for pattern, same in (
        (rf"{run_id}-\d+-\w{{5}}", "POD"),
        (rf"{run_id}-\d+", "JOB"),
        (run_id, "RUN"),
        (rf"\b{namespace}\b", "TEAM"),
        (r"(ErrImagePull|ImagePullBackOff)", "ImagePullBackOff"),
        (r"sha256:[0-9a-f]{64}", "sha256:…"),
        (r"localhost:\d+", "registry.lab.example"),
        (r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b", "10.0.0.7"),
        (r"\d\d\d\d-\d\d-\d\dT[\d:.]+Z?|\d\d:\d\d:\d\dZ", "TIME"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
        (r"after \d+ ms", "after 1 ms"),
        (r"more than [\d.]+[KMGT]i", "more than 512Gi"),
        (r"job-JOB-\w+", "WORKLOAD"),
        (r"\d+h\d+m\d+(\.\d+)?s", "SOME TIME"),
    ):
        words = re.sub(pattern, same, words)
    return words


def table() -> str:
    """The table of docs/debugging.md."""
    lines = ["| what happened | `runner status` says | and what mends it |", "| --- | --- | --- |"]
    for cause, said in read().items():
        words = f"{said['state']}: {said['reason']}"
        cells = (_escaped(text) for text in (cause, words, said["mend"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/debugging.md with the table as it has to be."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", " ".join(text.split()))


def times(file: Path) -> Iterator[tuple[str, float]]:
    """What SEEN_TIMES has."""
    for line in file.read_text().splitlines():
        known = json.loads(line)
        yield known["cause"], known["seconds"]


if __name__ == "__main__":
    PAGE.write_text(page())
