"""The `local` backend: two processes on this machine, nothing to set up, no isolation.

paths.py      where everything of a run lies
backend.py    LocalBackend, the protocol
init.py       the sandbox's first process: prepares, serves, cleans up
processes.py  starting and ending processes that outlive the terminal
"""

from runner.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
