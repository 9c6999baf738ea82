"""Calls of functions that another sandbox serves, for the library that stands for them."""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import wire

CHANNEL = Path(__file__).with_name("_channel.json")
WAIT_S = 20
UNSERVED_S = 120.0
"""For how long nobody may look for calls before the one who should is taken for gone."""
RETRY_S = 1.0
LOST_S = 60.0
"""How long the sandbox's server may stay away."""
LARGEST = 64 << 20
"""Bytes of a call's arguments."""


class RemoteError(RuntimeError):
    """An exception of the interface that is none of Python's own; `type` is its name."""

    type = ""


def call(function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the function returns there; what it raises there is raised here."""
    result = None
    for kind, value in _lines(function, args, kwargs):
        result = value
        if kind == "raise":
            raise _error(value)
    return result


def stream(function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """What the function yields there, as it comes."""
    for kind, value in _lines(function, args, kwargs):
        if kind == "raise":
            raise _error(value)
        if kind == "item":
            yield value


def _lines(
    function: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    # What was not given, and has a default that only the interface knows.
    args = tuple(itertools.takewhile(lambda arg: arg is not ..., args))
    kwargs = {name: value for name, value in kwargs.items() if value is not ...}
    asked = {
        "function": function,
        "args": [wire.encode(arg, f"argument {at} of {function}()") for at, arg in enumerate(args)],
        "kwargs": {
            name: wire.encode(value, f"{name} of {function}()") for name, value in kwargs.items()
        },
    }
    body = json.dumps(asked).encode()
    if len(body) > LARGEST:
        raise ValueError(
            f"the arguments of {function}() are {len(body) / 1e6:,.0f} MB; {LARGEST / 1e6:,.0f} MB "
            "can be sent: call it with less at a time"
        )
    path = f"/{uuid.uuid4().hex}"
    _ask("PUT", f"{path}?wait={WAIT_S}", body)
    try:
        number, rest, ended, kind = 0, b"", False, ""
        while not ended:
            headers, data = _ask("GET", f"{path}?after={number}&wait={WAIT_S}")
            number, ended = int(headers["Runner-Number"]), headers["Runner-Ended"] == "1"
            if not data and float(headers["Runner-Unserved"]) > UNSERVED_S:
                raise ConnectionError(f"{function}(): nobody serves it any more")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    kind, value = json.loads(line)
                except ValueError:  # it broke off; the next one says why
                    continue
                yield kind, wire.decode(value)
        if kind not in ("return", "raise"):
            raise ConnectionError(f"{function}(): the answer was cut off")
    finally:
        # All was taken, or whoever called does not want the rest.
        with contextlib.suppress(ConnectionError):
            _ask("DELETE", path)


def _ask(method: str, path: str, data: bytes | None = None) -> tuple[Any, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    failed_at = time.monotonic()
    while True:
        channel = json.loads(CHANNEL.read_text())
        headers = {"Authorization": f"token {channel['token']}"}
        request = urllib.request.Request(  # noqa: S310 - it is the sandbox's own server
            channel["url"] + path, data, headers, method=method
        )
        try:
            with opener.open(request, timeout=WAIT_S + 60) as answer:
                if answer.status != 202:  # else there is no room yet
                    return answer.headers, answer.read()
            continue
        except urllib.error.HTTPError as error:
            with error:
                try:
                    words = json.loads(error.read())["message"]
                except (ValueError, KeyError):
                    words = str(error)
            raise ConnectionError(words) from None
        except OSError as error:
            if time.monotonic() - failed_at > LOST_S:
                raise ConnectionError(
                    f"the sandbox's own server does not answer: {error}"
                ) from None
        time.sleep(RETRY_S)


def _error(said: dict[str, Any]) -> BaseException:
    kind = getattr(builtins, said["type"], None)
    error: BaseException
    if (
        said["module"] == "builtins"
        and said["arguments"] is not None
        and isinstance(kind, type)
        and issubclass(kind, Exception)
    ):
        error = kind(*wire.decode(said["arguments"]))
    else:
        error = RemoteError(f"{said['module']}.{said['type']}: {said['message']}")
        error.type = said["type"]
    return error
