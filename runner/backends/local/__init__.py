"""The `local` backend: two processes on this machine, nothing to set up, no isolation.

backend.py      LocalBackend, the protocol
paths.py        where everything of a run lies
handle.py       what is known of its processes
directory.py    that directory: filled, put right, removed
commands.py     the two commands of a run
environment.py  what their processes get of the user's environment
launch.py       starting them
init.py         the sandbox's first process: prepares, serves, cleans up
view.py         how a run stands, in words
ending.py       ending it, with all that it made
processes.py    starting, finding and ending processes that outlive the terminal
leftovers.py    what is in the state directory, for `doctor`
"""

from runner.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
