"""ScopedSandbox: a sandbox of which others get the functions that it serves, and nothing else."""

from __future__ import annotations

import json
import shlex
import threading
import time
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, overload

from runner import hidden, models
from runner.api.files import text_of
from runner.api.mcp_config import mcp_config
from runner.api.sandbox import Failed, Sandbox
from runner.api.served import PLACE, SERVED, Served, watch
from runner.api.workspace import Library, check_name
from runner.errors import OperationError, UsageError
from runner.plan import RunPlan
from runner.pod import layout
from runner.session import Channel

START_S = 1800.0
"""How long an interface may take to be imported, if nobody says: models are loaded there."""


class ScopedSandbox(Sandbox):
    """A sandbox that serves functions.

    An interface is a Python file whose functions have `@expose` before them; `expose` and
    `get_model_path(name)` are there without an import.
    """

    @overload
    def serve(
        self,
        path: Path | str,
        expose_as: Literal["library"] = "library",
        name: str | None = None,
        *,
        timeout: float = START_S,
    ) -> Library: ...

    @overload
    def serve(
        self,
        path: Path | str,
        expose_as: Literal["mcp"],
        name: str | None = None,
        *,
        timeout: float = START_S,
    ) -> Mapping[str, Any]: ...

    def serve(
        self,
        path: Path | str,
        expose_as: str = "library",
        name: str | None = None,
        *,
        timeout: float = START_S,
    ) -> Library | Mapping[str, Any]:
        """Import an interface here, and have its functions called from elsewhere.

        As a "library" for `Workspace(libraries=…)`, or as "mcp": tools for `run_agent`'s
        `mcp_config`. Calls run at once, 16 of them; what a function yields comes as it is made.
        Raises UsageError for what can be seen to be wrong, and Failed with the traceback as soon
        as the interface does not import, or where it is not there after `timeout` seconds.
        """
        path = Path(path)
        if expose_as not in ("library", "mcp"):
            raise UsageError(f"expose_as: expected library or mcp, found {expose_as!r}")
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(f"{path}: expected a .py file")
        name = name or path.stem
        check_name(name, "an interface")
        if name in {served.name for served in SERVED if served.driven is self.driven}:
            raise UsageError(f"{name}: this sandbox serves another interface of that name")
        served = self._start(path, name, timeout)
        SERVED.append(served)
        if expose_as == "mcp":
            served.entry = mcp_config(self.run_id, self.driven.settings, served=name)
            return served.entry
        return Library.of(served)

    def _start(self, path: Path, name: str, timeout: float) -> Served:
        source, place = text_of(path), f"{PLACE}/{name}"
        self.write_file(f"{place}/{path.name}", source)
        for module in ("worker.py", "wire.py"):
            self.write_file(f"{place}/{module}", _source(module))
        channel = Channel(self.driven.beside(), name)
        tokens = channel.open()
        config = {
            "url": tokens.url,
            "token": tokens.server,
            "interface": f"{place}/{path.name}",
            "models": places(self.driven.plan),
        }
        self.write_file(f"{place}/config.json", json.dumps(config))
        words = f"python {shlex.quote(place)}/worker.py {shlex.quote(place)}/config.json"
        op = f"serve-{name}-{uuid.uuid4().hex[:8]}"
        self.session.shell(words, op=op, timeout_s=0)
        watching = threading.Thread(
            target=watch, args=(self.driven.beside(), channel, op), name="serving", daemon=True
        )
        watching.start()
        served = Served(name, self.driven.beside(), channel, self.driven)
        try:
            served.describe(time.monotonic() + timeout)
        except OperationError:
            result = self.session.wait(op, timeout_s=0)
            if not result.final:
                raise
            raise Failed(f"serving {path.name}", result) from None
        except TimeoutError:
            result = self.session.interrupt(op)
            watching.join()  # it closes the channel, which the next try opens again
            raise Failed(f"{path.name} was not imported within {timeout:g} s", result) from None
        return served


def places(plan: RunPlan) -> dict[str, str]:
    """Where the models are, by name and by `name@revision`; hidden ones by their variable."""
    there = hidden.visible(plan)
    named = {model.name: models.snapshot(model) for model in reversed(there)}
    named |= {
        f"{model.name}@{revision}": models.snapshot(model)
        for model in there
        for revision in (model.revision or "main", model.commit)
    }
    return named | {
        model.var_name: hidden.place(model, plan, layout.HIDDEN)
        for model in plan.models
        if model.hidden and model.var_name
    }


def _source(module: str) -> bytes:
    return files("runner.serving").joinpath(module).read_bytes()
