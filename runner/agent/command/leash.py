"""`python leash.py FD PROGRAM …`: runs a program that ends with its starter.

The starter holds the other end of the pipe FD, which closes with it however it ends; the process
group goes then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

NOT_STARTED = 127


def main() -> int:
    """Run the program; its exit status, 128 more than the number of a signal that killed it."""
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is the program's, in whose group this is
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - who started it reads it
        return NOT_STARTED
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
