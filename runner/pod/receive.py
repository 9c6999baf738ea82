"""`runner.pod receive`: a record from stdin, a tar archive, into the store.

Its transcript takes its place last. A record that is there is only ever
continued; one that somebody writes is left alone.
"""

from __future__ import annotations

import sys

from runner.pod import layout
from runner.record.travel import unpack


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Receive one record."""
    unpack(sys.stdin.buffer, layout.RECORD)
    return 0
