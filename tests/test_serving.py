"""Values on their way between sandboxes, and the library that stands for an interface."""

from __future__ import annotations

import datetime
import enum
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import runner.serving
from runner.api.stubs import input_schema, stub
from runner.serving import wire

NUMBERS = ["?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"]


def sent(value: Any) -> Any:
    """The value after its way as JSON."""
    return wire.decode(json.loads(wire.dumps(value, "it")))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, "ä", True, {"a": [None]}],
        (1, (2, [3])),
        {1: "a", (2, 3): {"b"}, "$": 4},
        frozenset({1, 2}),
        b"\0\xff",
        2 - 3j,
        datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC),
        datetime.date(2026, 11, 28),
        {"$": "tuple", "items": [1]},
        float("inf"),
    ],
)
def test_values_arrive_as_they_are(value: Any) -> None:
    assert sent(value) == value
    assert type(sent(value)) is type(value)


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2), (2, 0)])
def test_arrays_arrive_as_they_are(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    came = sent(array)
    assert came.dtype == array.dtype
    assert came.shape == shape
    assert (came == array).all()
    came[...] = 0  # it can be written to
    assert wire.plain(json.loads(wire.dumps(array, "it"))) == array.tolist()


def test_what_numpy_and_pandas_have_besides() -> None:
    assert sent(np.float32(0.5)) == 0.5
    assert type(sent(np.int64(3))) is int
    assert sent(np.array(["a", None], dtype=object)).tolist() == ["a", None]
    assert (sent(np.array([1, 2]).astype(">i4")) == [1, 2]).all()
    assert (sent(np.array([[1, 2], [3, 4]]).T) == [[1, 3], [2, 4]]).all()
    assert sent(np.array([1j])).tolist() == [1j]
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, np.nan],
            "word": ["a", None],
            3: pd.to_datetime(["2026-01-01"] * 2),
        },
        index=["p", "q"],
    )
    pd.testing.assert_frame_equal(sent(frame), frame, check_dtype=False)
    assert list(sent(pd.DataFrame()).columns) == []
    pd.testing.assert_series_equal(sent(frame["n"]), frame["n"])
    shown = wire.plain(json.loads(wire.dumps(frame[["n", "word"]].fillna("b"), "it")))
    assert shown == [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}]


def test_without_the_packages_arrays_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [wire.dumps(value, "it") for value in (np.eye(2), pd.DataFrame({"a": [1, 2]}))]
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert [wire.decode(json.loads(line)) for line in lines] == [
        [[1.0, 0.0], [0.0, 1.0]],
        [{"a": 1}, {"a": 2}],
    ]


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [0, lambda: 1]}, r"it\['a'\]\[1\] is a builtins.function \(.*<lambda>\), which"),
        ([object()], r"it\[0\] is a builtins.object, which cannot be sent: numbers, text"),
        (np.array([[object()]]), "it is an array of object, which cannot be sent"),
        ({object(): 1}, "a key of it is a builtins.object"),
        ((x for x in "ab"), "it is a builtins.generator"),
    ],
)
def test_what_cannot_be_sent_is_named(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        wire.dumps(value, "it")


def test_an_enum_is_its_value() -> None:
    assert sent(Colour.RED) == 1


# -- the library ---------------------------------------------------------------------------


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Describes the functions of a source, as the process that serves it does."""
    monkeypatch.syspath_prepend(str(Path(runner.serving.__file__).parent))
    from runner.serving import worker

    def functions(source: str) -> list[dict[str, Any]]:
        exposed = worker.load("interface.py", source, {"org/m": "m/c0", "org/m@v1": "m/c1"})
        return [worker.describe(function) for function in exposed.values()]

    return functions


INTERFACE = '''
from __future__ import annotations
import typing
OWN = object()

@expose
def rate(text: str, scale: int | None = None, *, own=OWN, by: float = 0.5) -> dict[str, float]:
    """Rate it.

        As it is.
    """

@expose
def many(first, second=2, *rest: list[int], third=(1, "a"), **more): ...

@expose
def placed(a: Unknown, b=OWN, /, c: typing.Literal["x", "y"] = "x"): ...

@expose
def items(n: int):
    yield n

@expose
async def later(): ...
'''


def test_a_library_calls_what_was_asked_for(described: Any) -> None:
    asked: list[Any] = []
    code = stub(described(INTERFACE))
    there = code.replace("from .remote", "from remote_stand_in")
    stand_in = type(sys)("remote_stand_in")
    stand_in.__dict__.update(
        RemoteError=RuntimeError,
        call=lambda *given: asked.append(given),
        stream=lambda *given: asked.append(("stream", *given)),
    )
    module: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "remote_stand_in", stand_in)
        exec(there, module)
    assert module["rate"].__doc__ == "Rate it.\n\nAs it is."
    assert module["rate"].__annotations__["return"] == "dict[str, float]"
    module["rate"]("t")
    module["rate"]("t", 3, by=1.0)
    module["many"](1)
    module["many"](1, 5, 6, 7, third=8, extra=9)
    module["placed"](1)
    module["placed"](1, 2, c="y")
    module["items"](n=3)
    module["later"]()
    assert asked == [
        ("rate", (), {"text": "t", "scale": None, "own": ..., "by": 0.5}),
        ("rate", (), {"text": "t", "scale": 3, "own": ..., "by": 1.0}),
        ("many", (), {"first": 1, "second": 2, "third": (1, "a")}),
        ("many", (1, 5, 6, 7), {"third": 8, "extra": 9}),
        ("placed", (1, ...), {"c": "x"}),
        ("placed", (1, 2), {"c": "y"}),
        ("stream", "items", (), {"n": 3}),
        ("later", (), {}),
    ]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'text'"):
        module["rate"]()
    with pytest.raises(TypeError, match="unexpected keyword argument 'to'"):
        module["rate"]("t", to=1)


def test_a_model_is_told_what_it_may_give(described: Any) -> None:
    by_name = {one["name"]: input_schema(one) for one in described(INTERFACE)}
    assert by_name["rate"] == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "str"},
            "scale": {
                "anyOf": [{"type": "integer"}, {"type": "null"}],
                "description": "int | None = None",
            },
            "own": {"description": "= ..."},
            "by": {"type": "number", "description": "float = 0.5"},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert by_name["many"]["additionalProperties"] is True
    assert by_name["items"]["properties"]["n"] == {"type": "integer", "description": "int"}
    # With one annotation that only a type checker knows, none of the function's is resolved.
    assert by_name["placed"]["properties"]["a"] == {"description": "Unknown"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "interface.py exposes nothing: put @expose before a function"),
        ("expose(3)", "@expose is for functions, found 3"),
        ("@expose()\ndef f(): ...", "@expose takes no arguments"),
        ("@expose\ndef f(): ...\n@expose\ndef f(): ...", "there are two functions f"),
        ("expose(lambda: 1)", "<lambda> is no name that can be called"),
        ("get_model_path('org/x')", "no model org/x is here; there are: org/m. SandboxConfig"),
        ("get_model_path('org/hidden')", "a hidden one is asked for by its variable"),
        ("get_model_path('org/m', 'v2')", "no model org/m at v2 is here"),
    ],
)
def test_an_interface_that_cannot_be_served(described: Any, source: str, words: str) -> None:
    with pytest.raises((SystemExit, TypeError, LookupError), match=words):
        described(source)


def test_where_a_model_is(described: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", "/hf")
    source = "PATHS = [get_model_path('org/m'), get_model_path('org/m', revision='v1')]\n"
    described(
        f"{source}assert PATHS == ['/hf/hub/m/c0', '/hf/hub/m/c1'], PATHS\n@expose\ndef f(): ..."
    )


@pytest.mark.parametrize("answer", [(204, "500"), (404, "0")])
def test_who_serves_leaves_when_nobody_uses_the_sandbox(
    tmp_path: Path, answer: tuple[int, str]
) -> None:
    """Else a sandbox whose script was killed would not idle out."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer[0])
            self.send_header("Runner-Unattended", answer[1])
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    (tmp_path / "interface.py").write_text("@expose\ndef f(): ...")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        config = {"url": url, "token": "t", "interface": "interface.py", "models": {}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        worker = Path(runner.serving.__file__).with_name("worker.py")
        told = subprocess.run(
            [sys.executable, worker, "config.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        server.shutdown()
    assert (told.returncode, told.stdout, told.stderr) == (0, "serving f\n", "")
    assert not (tmp_path / "config.json").exists(), "the token is still there"
