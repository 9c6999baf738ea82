"""A lock on a file says that a process lives: it is let go of whatever way the process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


def hold(path: Path, deadline_s: float = 1.0, *, read_only: bool = False) -> int | None:
    """Lock a file; returns a descriptor that children may inherit, and then hold too.

    None if somebody else still holds it after `deadline_s` seconds: whoever
    merely looks (`is_held`) holds it for a moment. `read_only`: the file is there, where
    nothing can be written; not on NFS, which wants to write what it locks.
    """
    fd = os.open(path, os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + deadline_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(fd)
                return None
            time.sleep(0.01)
        else:
            os.set_inheritable(fd, True)
            return fd


def is_held(path: Path) -> bool:
    """Whether some process holds the lock; False where there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
