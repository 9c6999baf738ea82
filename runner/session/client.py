"""The sync client of a sandbox: cells, shell commands, files; reconnects by itself."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

import httpx

from runner import archives
from runner.errors import OperationConflict, OperationError, SandboxUnreachable
from runner.session.again import until_answered
from runner.session.results import Endpoint, LostOperation, Result, result_of, words_of

SCHEMA = 1
"""Version of the sandbox server's interface that this client speaks."""
POLL_S = 20.0
"""How long one request waits at the server for news."""
LATE_S = 40.0
"""How much later than that its answer may come."""
UPLOAD_S = 600.0
"""How long an upload that has arrived may take to be in its place."""
RECONNECT_S = 60.0
"""How long a server that stops answering is asked again."""
T = TypeVar("T")


class Session:
    """One client's handle on a sandbox.

    Every call that changes something carries an operation id, so a call that
    was repeated after a broken connection is done once. Calls raise
    SandboxUnreachable when the server stays away for `reconnect_s` seconds,
    LostOperation when another boot of the sandbox answers, OperationError
    with the server's own words when it refuses. With `alert` no call goes on
    waiting for a cell or a command when the sandbox has a new warning.
    """

    def __init__(
        self, endpoint: Endpoint, *, reconnect_s: float = RECONNECT_S, alert: bool = False
    ) -> None:
        self.endpoint, self.reconnect_s, self.alert = endpoint, reconnect_s, alert
        self.boot = ""
        self._warnings = 0
        self._http = httpx.Client(
            base_url=endpoint.url.rstrip("/") + "/runner/v1",
            headers={"Authorization": f"token {endpoint.token}"},
            timeout=httpx.Timeout(10.0, read=POLL_S + LATE_S, write=60.0),
            trust_env=False,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; the sandbox goes on."""
        self._http.close()

    # -- the sandbox -----------------------------------------------------------------------

    def connect(
        self, deadline_s: float, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Wait until the server answers and its kernel is ready; returns `info`.

        `check` is called while it waits and may raise, if it knows that the
        wait is in vain. Raises SandboxUnreachable after `deadline_s` seconds.
        """
        end = time.monotonic() + deadline_s
        why = "no answer"
        while True:
            check()
            try:
                response = self._http.get("/info", timeout=2.0)
                if response.status_code == 200:
                    info: dict[str, Any] = response.json()
                    if info["schema"] != SCHEMA:
                        raise OperationError(
                            f"the sandbox server speaks version {info['schema']} of its interface, "
                            f"this client version {SCHEMA}",
                            hint="use a client and an image of the same release",
                        )
                    if info["ready"]:
                        self.boot, self._warnings = info["boot"], len(info["warnings"])
                        return info
                    if info["kernel"]["state"] == "dead":
                        raise SandboxUnreachable(f"no kernel: {info['kernel']['reason']}")
                    why = "the kernel is not ready"
                elif response.status_code in (401, 403):
                    raise OperationError(f"the sandbox refused: {words_of(response)}")
                else:
                    why = f"HTTP status {response.status_code}: {words_of(response)}"
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise SandboxUnreachable(
                    f"the sandbox at {self.endpoint.url} was not ready after {deadline_s:g} s: "
                    f"{why}",
                    hint="logs/sandbox.log of the run has the server's own words",
                )
            time.sleep(0.05)

    def info(self) -> dict[str, Any]:
        """Who answers, and how it stands."""
        return self._json("GET", "/info")

    def shutdown(self) -> None:
        """End the sandbox."""
        self.request("POST", "/shutdown")

    def ticket(self) -> str:
        """The address of the live page, with a code that lets one browser in, for a minute."""
        ticket = self._json("POST", "/ticket")["ticket"]
        return f"{self.endpoint.url.rstrip('/')}/runner/?ticket={ticket}"

    def journal(self, after: int, wait_s: float = 0.0) -> list[dict[str, Any]]:
        """Journal lines after number `after`, waiting for the first of them."""
        response = self.request("GET", "/journal", params={"after": after, "wait": wait_s})
        return [json.loads(line) for line in response.content.splitlines()]

    def notebook(self) -> str:
        """The .ipynb as it stands."""
        return self.request("GET", "/notebook").text

    def masked(self, value: Any) -> Any:
        """A JSON value, with the sandbox's secret values masked in all its strings."""
        # As ASCII: half a surrogate, which a model may write, is no UTF-8.
        return self.request("POST", "/mask", content=lambda: json.dumps(value).encode()).json()

    # -- cells and commands ----------------------------------------------------------------

    def run(
        self,
        source: str,
        *,
        timeout_s: float = 120.0,
        op: str | None = None,
        hidden: bool = False,
        boot: str | None = None,
    ) -> Result:
        """Run code in a new cell at the end of the notebook, or hidden.

        Returns after `timeout_s` seconds at the latest; the cell then goes on
        (`final` is false), and `wait` looks at it again.
        """
        body = {"kind": "execute", "source": source, "hidden": hidden}
        return self.submit(body, op=op, timeout_s=timeout_s, boot=boot)

    def run_cell(self, cell: str, *, timeout_s: float = 120.0, op: str | None = None) -> Result:
        """Run an existing cell again."""
        return self.submit({"kind": "execute", "cell": cell}, op=op, timeout_s=timeout_s)

    def shell(self, command: str, *, timeout_s: float = 120.0, op: str | None = None) -> Result:
        """Run a shell command in the workspace."""
        return self.submit({"kind": "shell", "command": command}, op=op, timeout_s=timeout_s)

    def restart(self, *, op: str | None = None, timeout_s: float = 120.0) -> Result:
        """Kill the kernel and start another one."""
        return self.submit({"kind": "restart"}, op=op, timeout_s=timeout_s)

    def add_markdown(self, source: str, *, op: str | None = None) -> Result:
        """Add a markdown cell at the end."""
        return self.submit({"kind": "insert_cell", "source": source}, op=op)

    def edit_cell(self, cell: str, old: str, new: str, *, op: str | None = None) -> Result:
        """Replace text that occurs exactly once in a cell; `diff` tells what changed."""
        return self.submit({"kind": "edit_cell", "cell": cell, "old": old, "new": new}, op=op)

    def replace_cell(self, cell: str, source: str, *, op: str | None = None) -> Result:
        """Give a cell another source; `diff` tells what changed."""
        return self.submit({"kind": "replace_cell", "cell": cell, "source": source}, op=op)

    def delete_cell(self, cell: str, *, op: str | None = None) -> Result:
        """Take a cell out of the notebook."""
        return self.submit({"kind": "delete_cell", "cell": cell}, op=op)

    def submit(
        self,
        body: dict[str, Any],
        *,
        op: str | None = None,
        timeout_s: float = 60.0,
        boot: str | None = None,
    ) -> Result:
        """Ask for an operation, and wait up to `timeout_s` seconds for its end."""
        op = op or uuid.uuid4().hex
        end = time.monotonic() + timeout_s
        answer = self._json(
            "PUT",
            f"/operations/{op}",
            params={"boot": boot or self.boot, "wait": min(POLL_S, timeout_s)},
            # ASCII, by our own hand: a model's text may hold what UTF-8 cannot spell.
            content=lambda: json.dumps(body).encode(),
        )
        return self._await(op, answer, end, alert=self.alert)

    def wait(self, op: str, *, timeout_s: float = 120.0) -> Result:
        """Wait up to `timeout_s` seconds for an operation's end, and look at it."""
        end = time.monotonic() + timeout_s
        wait = min(POLL_S, timeout_s)
        answer = self._json("GET", f"/operations/{op}", params={"wait": wait})
        return self._await(op, answer, end, alert=self.alert)

    def stream(self, op: str, *, timeout_s: float) -> Iterator[dict[str, Any]]:
        """The journal lines of an operation as they come, until its end."""
        end, after = time.monotonic() + timeout_s, 0
        while True:
            left = max(0.0, min(POLL_S, end - time.monotonic()))
            answer = self._json("GET", f"/operations/{op}", params={"wait": left, "after": after})
            yield from answer["lines"]
            after = answer["next"]
            if (answer["final"] and not answer["more"]) or time.monotonic() > end:
                return

    def interrupt(self, op: str, *, timeout_s: float = 10.0) -> Result:
        """Stop an operation, and wait for its end."""
        answer = self._json("POST", f"/operations/{op}/interrupt", params={"wait": timeout_s})
        return result_of(answer)

    # -- files -----------------------------------------------------------------------------

    def tree(self, path: str = ".", *, recursive: bool = False) -> list[dict[str, Any]]:
        """What is in a directory: path (relative to it), type, bytes, mtime_ns."""
        params = {"path": path, "recursive": int(recursive)}
        entries: list[dict[str, Any]] = self._json("GET", "/tree", params=params)["entries"]
        return entries

    def read_file(self, path: str) -> bytes:
        """A file of the workspace."""
        return self.request("GET", _file(path)).content

    def fetch(self, path: str, take: Callable[[Iterator[bytes]], T]) -> T:
        """Give a file of the workspace to `take`, in pieces; again from its start if cut off."""
        return self._fetch(_file(path), {}, path, lambda response: take(response.iter_bytes()))

    def fetch_whole(self, path: str, take: Callable[[Iterator[bytes], bool], T]) -> T:
        """The same for a file as it is, and whether it holds a secret value."""
        return self._fetch(
            _file(path),
            {"whole": 1},
            path,
            lambda got: take(got.iter_bytes(), got.headers.get("Runner-Secret") == "1"),
        )

    def write_file(self, path: str, data: bytes | IO[bytes], *, op: str | None = None) -> Result:
        """Write a file of the workspace, making its directories."""
        return self._upload(_file(path), data, {}, op)

    def download(self, path: str, into: Path) -> None:
        """Get a directory of the workspace, whole."""
        with tempfile.TemporaryFile() as spool:
            self.pack(spool, path)
            with tarfile.open(fileobj=spool) as tar:
                archives.extract(tar, into, _inside(tar, into))

    def pack(self, into: IO[bytes], path: str = ".", exclude: Sequence[str] = ()) -> None:
        """Get a directory as a tar, without what is at these paths below it."""

        def fill(response: httpx.Response) -> None:
            into.seek(0)
            into.truncate()
            into.writelines(response.iter_bytes())

        self._fetch("/tar", {"path": path, "exclude": list(exclude)}, path, fill)
        into.seek(0)

    def unpack(self, archive: IO[bytes], path: str = ".", *, op: str | None = None) -> Result:
        """Put the content of a tar into a directory of the workspace."""
        return self._upload("/tar", archive, {"path": path}, op)

    def upload(self, source: Path, path: str = ".", *, op: str | None = None) -> Result:
        """Put a directory's content into a directory of the workspace."""
        with tempfile.TemporaryFile() as spool:
            with tarfile.open(fileobj=spool, mode="w") as tar:
                tar.add(source, arcname=".")
            spool.seek(0)
            return self.unpack(spool, path, op=op)

    # -- requests --------------------------------------------------------------------------

    def _fetch(
        self, url: str, params: dict[str, Any], path: str, take: Callable[[httpx.Response], T]
    ) -> T:
        def attempt() -> T:
            with self._http.stream("GET", url, params=params) as response:
                if response.status_code != 200:
                    response.read()
                    raise OperationError(f"{path}: {words_of(response)}")
                return take(response)

        return until_answered(attempt, self.endpoint.url, self.reconnect_s)

    def _upload(
        self, url: str, data: bytes | IO[bytes], params: dict[str, Any], op: str | None
    ) -> Result:
        op = op or uuid.uuid4().hex
        params |= {"operation": op, "boot": self.boot}

        def content() -> Any:
            if isinstance(data, bytes):
                return data
            data.seek(0, os.SEEK_SET)
            return iter(lambda: data.read(1 << 20), b"")

        answer = self._json("PUT", url, params=params, content=content)
        return self._await(op, answer, time.monotonic() + UPLOAD_S)

    def _await(self, op: str, answer: dict[str, Any], end: float, *, alert: bool = False) -> Result:
        while not answer["final"] and (left := end - time.monotonic()) > 0:
            if self._warned(answer) and alert:
                break
            params = {"wait": min(POLL_S, left)}
            answer = self._json("GET", f"/operations/{op}", params=params)
        self._warned(answer)
        return result_of(answer)

    def _warned(self, answer: Mapping[str, Any]) -> bool:
        """Whether there are other warnings than when this was last asked."""
        before, self._warnings = self._warnings, len(answer.get("warnings", ())) or self._warnings
        return self._warnings != before

    def _json(self, method: str, url: str, **kwargs: Any) -> dict[str, Any]:
        value: dict[str, Any] = self.request(method, url, **kwargs).json()
        return value

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        """Ask the server for `url` below its address; `content` is called for each attempt."""
        content = kwargs.pop("content", None)

        def attempt() -> httpx.Response:
            if content is not None:
                kwargs["content"] = content()
            return self._http.request(method, url, **kwargs)

        response = until_answered(attempt, self.endpoint.url, self.reconnect_s)
        if response.status_code == 409:
            raise OperationConflict(words_of(response))
        if response.status_code == 410:
            body = response.json()
            known = result_of(body["operation"]) if body["operation"] else None
            raise LostOperation(body["message"], body["boot"], known)
        if response.status_code >= 400:
            raise OperationError(f"the sandbox refused: {words_of(response)}")
        return response


def _file(path: str) -> str:
    # The dots too: `..` is for the server to refuse, not for the HTTP client to resolve.
    return f"/files/{quote(path, errors='surrogateescape').replace('.', '%2E')}"


def _inside(tar: tarfile.TarFile, into: Path) -> Iterator[tarfile.TarInfo]:
    """All but links that lead out of the directory; refuses all else that does."""
    for member in tar:
        words = archives.leads_out(member, into)
        if words and not (member.issym() or member.islnk()):
            raise OperationError(f"the sandbox sent what does not stay in {into}: {words}")
        if not words:
            yield member
