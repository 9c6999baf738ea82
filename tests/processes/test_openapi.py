"""The written-down HTTP interface is the one that the server has."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from sandbox_process import SandboxProcess, sandbox

from runner.sandbox import call_handlers, file_handlers, handlers, page
from runner.sandbox.operations import REQUEST

DOCUMENT: dict[str, Any] = json.loads(handlers.OPENAPI.read_text())
METHODS = ("get", "head", "post", "put", "patch", "delete")


def routes() -> dict[str, set[str]]:
    """Every address and its methods, spelled as the document spells them."""
    found = {}
    for pattern, handler, *_ in (
        *handlers.handlers("/"),
        *file_handlers.handlers("/"),
        *call_handlers.handlers("/"),
        *page.handlers("/"),
    ):
        # An own method is one that tornado's and Jupyter's base classes do not have.
        own = {
            method
            for method in METHODS
            for owner in [next(c for c in handler.__mro__ if method in vars(c))]
            if not owner.__module__.startswith(("tornado.web", "jupyter_server"))
            or owner.__name__ == "StaticFileHandler"
        }
        found[re.sub(r"\((?:[^()]|\([^()]*\))*\)", "{}", pattern)] = own
    return found


def test_routes_and_methods_are_those_of_the_handlers() -> None:
    written = {
        re.sub(r"\{[a-z]+\}", "{}", path): {method for method in METHODS if method in item}
        for path, item in DOCUMENT["paths"].items()
    }
    assert written == routes()


def test_the_document_is_whole() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        place: Any = DOCUMENT
        for key in reference.split("/"):
            place = place[key]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert name


def test_requests_are_those_that_the_server_takes() -> None:
    schema = REQUEST.json_schema(ref_template="#/components/schemas/{model}")
    for name, model in schema["$defs"].items():
        written = DOCUMENT["components"]["schemas"][name]
        assert set(written["properties"]) == set(model["properties"])
        assert set(written["required"]) == {"kind", *model.get("required", [])}
        assert written["additionalProperties"] is False
        assert written["description"] == model["description"]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("openapi")) as made:
        yield made


class Caller:
    """Sends requests and holds the answers against the document."""

    def __init__(self, box: SandboxProcess) -> None:
        headers = {"Authorization": f"token {box.token}"}
        self.http = httpx.Client(base_url=box.url, headers=headers, timeout=30)
        self.box = box

    def __call__(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        answer = self.http.request(method, path, **kwargs)
        found = [
            item
            for pattern, item in DOCUMENT["paths"].items()
            if re.fullmatch(
                re.sub(r"\{path\}", ".+", re.sub(r"\{(?!path)\w+\}", "[^/]+", pattern)), path
            )
        ]
        response = found[0][method.lower()]["responses"][str(answer.status_code)]
        if "$ref" in response:
            response = DOCUMENT["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        kind = answer.headers.get("content-type", "").split(";")[0]
        if content := response.get("content"):
            assert kind in content, (kind, list(content))
            if schema := content[kind].get("schema"):
                whole = {**schema, "components": DOCUMENT["components"]}
                jsonschema.Draft202012Validator(whole).validate(answer.json())
        return answer


def test_answers_are_as_the_document_says(box: SandboxProcess) -> None:
    with box.session() as session:
        call, boot = Caller(box), {"boot": session.boot}
    v1 = "/runner/v1"

    def put(body: Any, **params: Any) -> httpx.Response:
        where = f"{v1}/operations/{uuid.uuid4().hex}"
        return call("PUT", where, params={**boot, "wait": 20, **params}, json=body)

    with call.http:
        cell = put({"kind": "execute", "source": "1 + 1\nprint(2)"}).json()
        put({"kind": "execute", "source": "1 / 0", "hidden": True})
        put({"kind": "shell", "command": "exit 3"}, after=0)
        markdown = put({"kind": "insert_cell", "source": "# x"}).json()
        put({"kind": "edit_cell", "cell": markdown["cell"], "old": "x", "new": "y"})
        put({"kind": "delete_cell", "cell": "none"})
        assert put({"kind": "nonsense"}).status_code == 400
        assert put({"kind": "restart"}, boot="another").status_code == 410
        op = f"{v1}/operations/{cell['id']}"
        call("GET", op)
        lines = call("GET", op, params={"after": 0}).json()["lines"]
        assert [line["type"] for line in lines][:3] == ["cell", "queued", "start"]
        assert call("PUT", op, params=boot, json={"kind": "restart"}).status_code == 409
        call("POST", f"{op}/interrupt")
        assert call("GET", f"{v1}/operations/none").status_code == 404
        assert call("POST", f"{v1}/operations/none/interrupt").status_code == 404
        assert call("GET", op, params={"wait": "nan"}).status_code == 400
        call("GET", f"{v1}/info")
        calls = f"{v1}/calls/functions"
        assert call("GET", calls).status_code == 404
        call("PUT", f"{v1}/channels/functions")
        assert call("GET", calls).status_code == 204
        assert call("PUT", f"{calls}/one", content=b"{}").status_code == 200
        assert call("GET", calls).headers["runner-call"] == "one"
        assert call("POST", f"{calls}/one", params={"part": 2}).status_code == 409
        call("POST", f"{calls}/one", params={"part": 1, "end": 1}, content=b"said")
        assert call("PUT", f"{v1}/channels/a.b").status_code == 400
        assert call("GET", f"{calls}/one").content == b"said"
        call("DELETE", f"{calls}/one")
        assert call("GET", f"{calls}/one").status_code == 404
        call("DELETE", f"{v1}/channels/functions", params={"reason": "all was said"})
        assert call("GET", calls).json() == {"message": "all was said"}
        journal = call("GET", f"{v1}/journal", params={"after": 0})
        schema = DOCUMENT["components"]["schemas"]["JournalLine"]
        for line in journal.content.splitlines():
            jsonschema.validate(json.loads(line), schema)
        assert int(journal.headers["runner-lines"]) == len(journal.content.splitlines())
        call("GET", f"{v1}/notebook")
        assert call("GET", f"{v1}/openapi.json").json() == DOCUMENT
        upload = {**boot, "operation": "up-1"}
        call("PUT", f"{v1}/files/a/b", params=upload, content=b"x")
        assert call("PUT", f"{v1}/files/a/b", params=upload, content=b"y").status_code == 409
        lost = {"boot": "another", "operation": "up-2"}
        assert call("PUT", f"{v1}/files/a/b", params=lost, content=b"y").status_code == 410
        call("GET", f"{v1}/files/a/b")
        assert call("GET", f"{v1}/files/none").status_code == 404
        assert call("GET", f"{v1}/files/a").status_code == 400
        tar = call("GET", f"{v1}/tar", params={"path": "a"}).content
        call("PUT", f"{v1}/tar", params={**boot, "operation": "up-3", "path": "c"}, content=tar)
        assert call("GET", f"{v1}/tar", params={"path": "/etc"}).status_code == 403
        call("GET", f"{v1}/tree", params={"recursive": 1})
        assert call("GET", f"{v1}/tree", params={"path": "none"}).status_code == 404
        ticket = call("POST", f"{v1}/ticket").json()["ticket"]
        call("GET", "/runner/", params={"ticket": ticket})
        call("GET", "/runner/static/page.js")
        call("GET", f"{v1}/cells")
        call("GET", f"{v1}/cells/{cell['cell']}")
        assert call("GET", f"{v1}/cells/none").status_code == 404
        assert call("GET", f"{v1}/cells/none/outputs/0").status_code == 404
        assert call("POST", f"{v1}/shutdown").status_code == 202
    assert box.wait() == 0
