"""`python stdio.py CONFIG.json`: starts a server of MCP, and passes its lines on over a channel.

What the server prints on stderr is this process's output, and its exit status this one's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import worker  # type: ignore[import-not-found]

LINES = b"$lines"
"""What is called to be told of the server's lines; any other call is a line for it."""
NOT_FOUND = 127


class Lines(worker.Server):  # type: ignore[misc]
    """Answers with what a process says on stdout, and tells it what it is called with."""

    def __init__(self, url: str, token: str, process: subprocess.Popen[bytes]) -> None:
        super().__init__(url, token, worker.Exposed())
        self._process = process

    def _answer(self, call: str, body: bytes) -> None:
        try:
            if body == LINES:
                self._tell(call)
                return
            try:
                self._process.stdin.write(body + b"\n")  # type: ignore[union-attr]
                self._process.stdin.flush()  # type: ignore[union-attr]
            except OSError:  # it has ended, which the other call tells of
                pass
            self.send(call, 1, b"", end=True)
        except worker.Gone:
            return

    def _tell(self, call: str) -> None:
        part = 0
        while data := self._process.stdout.read1(worker.PART):  # type: ignore[union-attr]
            part += 1
            self.send(call, part, data, end=False)
        status = self._process.wait()
        self.send(call, part + 1, b"", end=True)
        os._exit(status if status >= 0 else 128 - status)


def main() -> None:
    """Start it, then pass its lines on."""
    file = Path(sys.argv[1])
    config = json.loads(file.read_text())
    file.unlink()  # it has the token, and perhaps more
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            config["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **config["env"]},
        )
    except OSError as error:
        sys.stderr.write(f"{config['command'][0]}: {error.strerror}\n")
        raise SystemExit(NOT_FOUND) from None
    Lines(config["url"], config["token"], process).run()


if __name__ == "__main__":
    main()
