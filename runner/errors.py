"""Every error the runner raises on purpose, and the exit status each one means.

RunnerError                      3  something outside the user's file went wrong
├── UsageError                   2  the command or what it names is wrong; nothing was started
│   ├── ConfigError              2  a key of an experiment or settings file
│   └── RunNotFound              2  no run of that name is known here
├── InfrastructureError          3  a machine, network, disk or engine refused
│   └── SandboxUnreachable       3  the sandbox server did not answer within its deadline
├── OperationError               3  the sandbox server refused an operation
│   ├── OperationConflict        3  another request already has this operation id (HTTP 409)
│   └── SandboxLost              3  the sandbox that was asked is gone (HTTP 410)
└── RecordError                  3  a record cannot be read, or was altered
"""

from __future__ import annotations


class RunnerError(Exception):
    """What went wrong, and in `hint` what to do about it."""

    exit_status = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the next step apart, so that each can be shown."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message, then the next step on a line of its own."""
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class UsageError(RunnerError):
    """The command, or what it names, is wrong; nothing was started."""

    exit_status = 2


class ConfigError(UsageError):
    """A key of a file is wrong: file, key, what was expected, what was found."""

    def __init__(
        self, *, file: str, key: str, expected: str, found: str = "", hint: str = ""
    ) -> None:
        """Say it in one line that names the file and the key."""
        message = f"{file}: {key}: expected {expected}"
        super().__init__(message + (f", found {found}" if found else ""), hint=hint)
        self.file, self.key, self.expected, self.found = file, key, expected, found


class RunNotFound(UsageError):
    """No run of that name is known here."""


class InfrastructureError(RunnerError):
    """A machine, network, disk or engine refused."""


class SandboxUnreachable(InfrastructureError):
    """The sandbox server did not answer within its deadline."""


class OperationError(RunnerError):
    """The sandbox server refused an operation."""


class OperationConflict(OperationError):
    """Another request already has this operation id."""


class SandboxLost(OperationError):
    """The sandbox that was asked is gone; another boot answers in its place."""


class RecordError(RunnerError):
    """A record cannot be read, or was altered."""
