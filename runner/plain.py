"""Opening a file that somebody who is not trusted may have put in another's place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading. Raises OSError, also for a link, a FIFO or a device.

    A sandbox shares volumes with the agent: a link there could name the agent's own
    environment, and a FIFO would keep whoever opens it waiting for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(fd, "rb")
