"""openapi.json is what the handlers do: their routes, their requests, their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from sandbox_process import SandboxProcess, sandbox

import runner.sandbox
from runner.sandbox import file_handlers, handlers, page
from runner.sandbox.operations import REQUEST

DOCUMENT: dict[str, Any] = json.loads(
    (Path(runner.sandbox.__file__).parent / "openapi.json").read_text()
)
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]
METHODS = ("get", "put", "post", "delete", "patch", "head")
EXAMPLES = {"op": "op-1", "cell": "ab12", "number": "0", "path": "a/b.txt", "file": "page.js"}


def routes() -> list[tuple[str, Any]]:
    made = [*handlers.handlers("/"), *file_handlers.handlers("/"), *page.handlers("/")]
    return [(route[0], route[1]) for route in made]


def methods_of(handler: Any) -> set[str]:
    """The methods that the handler's classes of ours define, as far as it supports them."""
    ours = [c for c in handler.__mro__ if c.__module__.startswith("runner.")]
    defined = {m for c in ours for m in METHODS if m in vars(c)}
    if "static" in handler.__name__.lower():
        defined = {"get"}
    return {m for m in defined if m.upper() in handler.SUPPORTED_METHODS}


def test_every_path_is_one_route_and_every_route_one_path() -> None:
    documented = {}
    for path, item in PATHS.items():
        example = path.format(**EXAMPLES)
        found = [handler for pattern, handler in routes() if re.fullmatch(pattern, example)]
        assert len(found) == 1, path
        documented[found[0]] = {method for method in item if method in METHODS}
    assert documented == {handler: methods_of(handler) for _, handler in routes()}


def test_the_requests_are_those_of_the_code() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    made = REQUEST.json_schema(ref_template="#/components/schemas/{model}")
    for name, schema in made.pop("$defs").items():
        assert schemas[name] == schema
    assert schemas["Request"] == made


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("openapi")) as made:
        made.session().close()
        yield made


@pytest.fixture(scope="module")
def http(box: SandboxProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"token {box.token}"}
    with httpx.Client(base_url=box.url, headers=headers, timeout=60) as client:
        yield client


def check(path: str, method: str, response: httpx.Response) -> httpx.Response:
    """The answer is one that the document has for this path, and of its schema."""
    answers = PATHS[path][method]["responses"]
    assert str(response.status_code) in answers, response.text
    answer = answers[str(response.status_code)]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    kind = response.headers["Content-Type"].partition(";")[0]
    content = answer["content"]
    assert kind in content or "*/*" in content, (kind, list(content))
    if kind in ("application/json", "application/x-ndjson") and kind in content:
        schema = {**content[kind]["schema"], "components": DOCUMENT["components"]}
        parts = response.text.splitlines() if "nd" in kind else [response.text]
        for part in parts:
            Draft202012Validator(schema).validate(json.loads(part))
    return response


OPERATION = "/runner/v1/operations/{op}"


def test_real_answers_are_as_documented(http: httpx.Client, box: SandboxProcess) -> None:
    info = check("/runner/v1/info", "get", http.get("/runner/v1/info")).json()
    boot = {"boot": info["boot"]}

    def put(op: str, body: Any, **params: Any) -> httpx.Response:
        url = f"/runner/v1/operations/{op}"
        return check(OPERATION, "put", http.put(url, params=boot | params, json=body))

    ran = put("o1", {"kind": "execute", "source": "print(1); 2"}, wait=20).json()
    assert (ran["state"], len(ran["outputs"])) == ("ok", 2)
    lines = put("o1", {"kind": "execute", "source": "print(1); 2"}, after=0).json()
    assert lines["lines"]
    assert put("o1", {"kind": "restart"}).status_code == 409
    assert put("o2", {"kind": "nothing"}).status_code == 400
    assert put("o2", {"kind": "restart"}, boot="another").status_code == 410
    assert put("o1", {"kind": "restart"}, boot="another").status_code == 410
    edit = {"kind": "edit_cell", "cell": ran["cell"], "old": "print", "new": "repr"}
    assert put("o3", edit).json()["result"]["diff"]
    assert put("o4", {"kind": "shell", "command": "exit 3"}, wait=20).json()["exit"] == 3
    check(OPERATION, "get", http.get("/runner/v1/operations/o1"))
    check(OPERATION, "get", http.get("/runner/v1/operations/none"))
    check(f"{OPERATION}/interrupt", "post", http.post("/runner/v1/operations/o1/interrupt"))

    journal = http.get("/runner/v1/journal", params={"after": 0})
    assert check("/runner/v1/journal", "get", journal).headers["Runner-Boot"] == info["boot"]
    check("/runner/v1/notebook", "get", http.get("/runner/v1/notebook"))

    files, file = "/runner/v1/files/{path}", "/runner/v1/files/a/b.txt"
    upload = {"operation": "f1", **boot}
    check(files, "put", http.put(file, params=upload, content=b"hello"))
    assert check(files, "put", http.put(file, params=upload, content=b"x")).status_code == 409
    lost = upload | {"boot": "another"}
    assert check(files, "put", http.put(file, params=lost, content=b"hello")).status_code == 410
    assert check(files, "get", http.get(file)).content == b"hello"
    assert check(files, "get", http.get("/runner/v1/files/none")).status_code == 404
    assert check(files, "get", http.get("/runner/v1/files/a")).status_code == 400
    (box.workspace / "out").symlink_to("/etc")
    assert check(files, "get", http.get("/runner/v1/files/out/passwd")).status_code == 403
    tree = http.get("/runner/v1/tree", params={"recursive": "1"})
    assert check("/runner/v1/tree", "get", tree).json()["complete"]
    tar = check("/runner/v1/tar", "get", http.get("/runner/v1/tar", params={"path": "a"}))
    to = {"path": "c", "operation": "t1", **boot}
    check("/runner/v1/tar", "put", http.put("/runner/v1/tar", params=to, content=tar.content))
    assert (box.workspace / "c" / "b.txt").read_bytes() == b"hello"

    check("/runner/v1/cells", "get", http.get("/runner/v1/cells"))
    check("/runner/v1/cells/{cell}", "get", http.get(f"/runner/v1/cells/{ran['cell']}"))
    check("/runner/static/{file}", "get", http.get("/runner/static/page.js"))
    ticket = check("/runner/v1/ticket", "post", http.post("/runner/v1/ticket")).json()["ticket"]
    assert check("/runner/", "get", http.get("/runner/", params={"ticket": ticket})).is_success


@pytest.mark.parametrize(
    ("path", "method"),
    [(p, m) for p, item in PATHS.items() for m in item if m in METHODS and p != "/runner/"],
)
def test_nobody_without_the_token_gets_in(box: SandboxProcess, path: str, method: str) -> None:
    for headers in ({}, {"Authorization": "token wrong"}):
        url = box.url + path.format(**EXAMPLES)
        answer = httpx.request(method, url, headers=headers, params={"token": box.token})
        assert answer.status_code == 403, (path, headers)
        assert "hello" not in answer.text


def test_shutdown(http: httpx.Client, box: SandboxProcess) -> None:
    check("/runner/v1/shutdown", "post", http.post("/runner/v1/shutdown"))
    assert box.wait() == 0
