"""`python worker.py CONFIG.json`: imports an interface, and answers calls of its functions.

What the interface prints is this process's output. If it cannot be imported, the traceback is
printed and the status is 1.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import os
import signal
import sys
import time
import traceback
import types
import typing
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wire  # type: ignore[import-not-found]

AT_ONCE = 16
"""Calls that run at a time; others wait."""
PART = 1 << 20
"""Bytes of an answer that are sent at once."""
WAIT_S = 20
UNATTENDED_S = 120.0
"""For how long nobody may use the sandbox before this process leaves it to idle out."""
RETRY_S = 1.0
LOST_S = 60.0
"""How long the sandbox's server may stay away."""
DESCRIBE = "$describe"


class Exposed(dict):  # type: ignore[type-arg]
    """The functions of an interface, by name; `expose` is the decorator."""

    def expose(self, function: Any = None, **options: Any) -> Any:
        """Let callers call a function."""
        if options or function is None:
            raise TypeError("@expose takes no arguments: write it without brackets")
        if not inspect.isfunction(function):
            raise TypeError(f"@expose is for functions, found {function!r}")
        if function.__name__ in self:
            raise TypeError(f"@expose: there are two functions {function.__name__}")
        if not function.__name__.isidentifier() or function.__name__.startswith("_"):
            raise TypeError(f"@expose: {function.__name__} is no name that can be called")
        self[function.__name__] = function
        return function


def load(path: str, source: str, models: dict[str, str]) -> Exposed:
    """Run an interface; `expose` and `get_model_path` are there without an import.

    `models` are their places in the cache of the hub's library, by name and by `name@revision`,
    and those of hidden ones by their variable.
    """

    def get_model_path(name: str, revision: str | None = None) -> str:
        """The directory with a model's files."""
        place = models.get(f"{name}@{revision}" if revision else name)
        if place is None:
            there = ", ".join(sorted(key for key in models if "@" not in key)) or "none"
            raise LookupError(
                f"no model {name}{f' at {revision}' if revision else ''} is here; there are: "
                f"{there}. SandboxConfig(models=[ModelConfig(name=...)]) names those there are; a "
                "hidden one is asked for by its variable"
            )
        home = os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface"
        return str(Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub") / place)

    exposed = Exposed()
    module = types.ModuleType(Path(path).stem)
    module.__file__ = path
    module.expose, module.get_model_path = exposed.expose, get_model_path  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - that is what it is for
    if not exposed:
        raise SystemExit(f"{Path(path).name} exposes nothing: put @expose before a function")
    return exposed


def describe(function: Any) -> dict[str, Any]:
    """A function as a caller has to know it."""
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only a type checker knows
        hints = {}
    return {
        "name": function.__name__,
        "doc": inspect.cleandoc(function.__doc__ or ""),
        "returns": _spelled(signature.return_annotation),
        "streams": inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function),
        "parameters": [
            {
                "name": parameter.name,
                "kind": parameter.kind.name,
                "annotation": _spelled(parameter.annotation),
                "default": _default(parameter),
                "schema": _schema(hints.get(parameter.name, parameter.annotation)),
            }
            for parameter in signature.parameters.values()
        ],
    }


def _spelled(annotation: Any) -> str | None:
    if annotation is inspect.Parameter.empty:
        return None
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(parameter: inspect.Parameter) -> str | None:
    """How a default is written; `...` for one that is no literal, and stays here."""
    if parameter.default is inspect.Parameter.empty:
        return None
    return repr(parameter.default) if _literal(parameter.default) else "..."


def _literal(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_literal, value))
    if type(value) is dict:
        return all(_literal(item) for pair in value.items() for item in pair)
    if type(value) is float:
        return value == value and abs(value) != float("inf")
    return value is None or type(value) in (bool, int, str, bytes)


_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


def _schema(hint: Any) -> dict[str, Any]:
    """JSON schema of an annotation; of one that is not understood, anything."""
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if hint in (list, tuple, set) or origin in (list, tuple, set):
        items = _schema(given[0]) if given and origin is not tuple else {}
        return {"type": "array", **({"items": items} if items else {})}
    if origin is dict:
        return {"type": "object"}
    if origin is typing.Literal:
        return {"enum": list(given)}
    if origin is typing.Union or origin is getattr(types, "UnionType", None):
        found = [_schema(item) if item is not type(None) else {"type": "null"} for item in given]
        return {"anyOf": found} if all(found) else {}
    return {}


class Server:
    """Answers the calls of a channel until it is closed."""

    def __init__(self, url: str, token: str, exposed: Exposed) -> None:
        self._url, self._token, self._exposed = url, token, exposed
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def run(self) -> None:
        """Take calls, and have each answered by a thread."""
        number = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while True:
                status, headers, body = self._ask("GET", f"?after={number}&wait={WAIT_S}")
                if status == 404 or float(headers["Runner-Unattended"] or 0) > UNATTENDED_S:
                    pool.shutdown(wait=False, cancel_futures=True)
                    os._exit(0)  # threads that still answer have nobody to answer
                if status == 200:
                    number = int(headers["Runner-Number"])
                    pool.submit(self._answer, headers["Runner-Call"], body)

    def _answer(self, call: str, body: bytes) -> None:
        answer = Answer(self, call)
        try:
            asked = json.loads(body)
            if asked["function"] == DESCRIBE:
                answer.end("return", list(map(describe, self._exposed.values())), "it")
                return
            name = asked["function"]
            if name not in self._exposed:
                raise NameError(f"the interface has no function {name}")
            args, given = wire.decode(asked["args"]), wire.decode(asked["kwargs"])
            result = self._exposed[name](*args, **given)
            if inspect.iscoroutine(result):
                result = asyncio.run(_awaited(result))
            if inspect.isasyncgen(result):
                result = _iterated(result)
            if inspect.isgenerator(result):
                for number, item in enumerate(result):
                    answer.add("item", item, f"item {number} of {name}()")
                result = None
            answer.end("return", result, f"the result of {name}()")
        except Gone:
            return
        except BaseException as error:
            # SystemExit too: a function is not to end the process that others call.
            self._raised(answer, error)

    def _raised(self, answer: Answer, error: BaseException) -> None:
        # For the record of this sandbox. Whoever calls is to see nothing of it but functions.
        traceback.print_exception(type(error), error, error.__traceback__)
        builtin = getattr(builtins, type(error).__name__, None) is type(error)
        try:
            arguments = wire.encode(list(error.args), "it") if builtin else None
        except TypeError:
            arguments = None
        said = {
            "type": type(error).__name__,
            "module": type(error).__module__,
            "arguments": arguments,
            "message": str(error),
        }
        try:
            answer.end("raise", said, "it")
        except Gone:
            return

    def send(self, call: str, part: int, data: bytes, *, end: bool) -> None:
        """Send a part of an answer, when there is room for it."""
        while True:
            path = f"/{call}?part={part}&end={int(end)}&wait={WAIT_S}"
            status, _, _ = self._ask("POST", path, data)
            if status == 200:
                return
            if status != 202:
                raise Gone

    def _ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, Any, bytes]:
        headers = {"Authorization": f"token {self._token}"}
        failed_at = time.monotonic()
        while True:
            request = urllib.request.Request(  # noqa: S310 - it is the sandbox's own server
                self._url + path, data, headers, method=method
            )
            try:
                with self._opener.open(request, timeout=WAIT_S + 60) as answer:
                    return answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers, error.read()
            except OSError:
                if time.monotonic() - failed_at > LOST_S:
                    os._exit(1)
                time.sleep(RETRY_S)


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Answer:
    """What is sent of a call: a line for each item, and one at the end."""

    def __init__(self, server: Server, call: str) -> None:
        self._server, self._call, self._part = server, call, 0

    def add(self, kind: str, value: Any, what: str, *, end: bool = False) -> None:
        """Send a line."""
        line = json.dumps([kind, wire.encode(value, what)], separators=(",", ":")).encode() + b"\n"
        for start in range(0, len(line), PART):
            self._part += 1
            piece, last = line[start : start + PART], start + PART >= len(line)
            self._server.send(self._call, self._part, piece, end=end and last)

    def end(self, kind: str, value: Any, what: str) -> None:
        """Send the last line."""
        self.add(kind, value, what, end=True)


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _iterated(items: Any) -> Any:
    """An async generator's items, on an event loop of its own."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(items.__anext__())
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(items.aclose())
        loop.close()


def main() -> None:
    """Import the interface, then serve it."""
    file = Path(sys.argv[1])
    config = json.loads(file.read_text())
    file.unlink()  # it has the token
    # The workspace, as in the notebook; not the directory of this file.
    sys.path[0] = str(Path.cwd())
    source = Path(config["interface"]).read_text()
    try:
        exposed = load(config["interface"], source, config["models"])
    except SystemExit:
        raise
    except BaseException as error:
        own = error.__traceback__ and error.__traceback__.tb_next  # without the frame of `load`
        traceback.print_exception(type(error), error, own and own.tb_next)
        raise SystemExit(1) from None
    # An interrupt ends it at once, whatever its threads do.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stdout.write(f"serving {', '.join(exposed)}\n")
    Server(config["url"], config["token"], exposed).run()


if __name__ == "__main__":
    main()
