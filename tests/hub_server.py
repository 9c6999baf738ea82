"""A hub of models over https, with a CA made for the test: as much of Hugging Face's as is used."""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from git_server import make_ca

LARGE = (".safetensors", ".bin")
"""What a hub has in LFS."""


@dataclass
class HubServer:
    """Models by name and revision, served while the context is open."""

    url: str
    ca: Path
    models: dict[str, dict[str, Mapping[str, bytes]]] = field(default_factory=dict)
    """By name, then commit, then file."""
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """What a model's readers have to send."""
    gated: set[str] = field(default_factory=set)
    """Models that everybody may look up, and only the bearer of the token may have."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often somebody was about to fetch each file."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of each file that went out."""
    altered: set[str] = field(default_factory=set)
    """Files that are sent with a bit that is another one: `org/name/path`."""
    stall_after: int | None = None
    """So many bytes of a file are sent; then whoever asked waits, and `stalled` is set."""
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def env(self) -> dict[str, str]:
        """What the hub's library has to have in its environment to come here."""
        return {"HF_ENDPOINT": self.url, "SSL_CERT_FILE": str(self.ca)}

    def add(self, name: str, files: Mapping[str, bytes], *revisions: str) -> str:
        """Add a commit, which `main` and these other revisions are now."""
        commit = sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        self.models.setdefault(name, {})[commit] = dict(files)
        self.refs.setdefault(name, {}).update(dict.fromkeys(("main", *revisions), commit))
        return commit


@contextmanager
def hub_server(folder: Path, *, address: str = "127.0.0.1") -> Iterator[HubServer]:
    """Serve models until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, certificate, key = make_ca(folder, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer((address, 0), _Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    served = HubServer(f"https://{address}:{server.server_address[1]}", ca)
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def used_here(hub: HubServer) -> Iterator[None]:
    """Let this process, and those that it starts, take it for the hub."""
    from huggingface_hub import close_session, constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        for name, value in hub.env.items():
            patch.setenv(name, value)
        close_session()  # which has its CAs already
        try:
            yield
        finally:
            close_session()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        parts = path.removeprefix("api/models/").split("/")
        what = {"revision", "tree", "resolve", "auth-check"}.intersection(parts)
        if not what:
            self._refuse(404, "EntryNotFound")
            return
        at = parts.index(what.pop())
        name = "/".join(parts[:at])
        revision, file = (parts[at + 1 :] or ["main"])[0], "/".join(parts[at + 2 :])
        if (files := self._found(name, revision, parts[at])) is None:
            return
        commit = self._hub.refs[name].get(revision, revision)
        if parts[at] == "revision":
            listed = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
            about = {"id": name, "modelId": name, "gated": name in self._hub.gated and "auto"}
            self._json({**about, "sha": commit, "siblings": listed})
        elif parts[at] == "auth-check":
            self._json({})
        elif parts[at] == "tree":
            self._json(
                [
                    {"type": "file", "path": path, "size": len(data), **_digests(path, data)}
                    for path, data in files.items()
                ]
            )
        elif file in files:
            self._file(f"{name}/{file}", files[file], commit)
        else:
            self._refuse(404, "EntryNotFound")

    @property
    def _hub(self) -> HubServer:
        hub: HubServer = self.server.served  # type: ignore[attr-defined]
        return hub

    def _found(self, name: str, revision: str, what: str) -> Mapping[str, bytes] | None:
        wanted, given = self._hub.tokens.get(name), self.headers.get("Authorization")
        gated = name in self._hub.gated
        if name not in self._hub.models or (
            wanted and given != f"Bearer {wanted}" and not (gated and what == "revision")
        ):
            self._refuse(403 if gated else 401, "GatedRepo" if gated else "RepoNotFound")
            return None
        commit = self._hub.refs[name].get(revision, revision)
        files = self._hub.models[name].get(commit)
        if files is None:
            self._refuse(404, "RevisionNotFound")
        return files

    def _file(self, name: str, data: bytes, commit: str) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_etag(name, data)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            self._hub.asked[name] += 1
            return
        if name in self._hub.altered:
            data = bytes([data[0] ^ 1]) + data[1:]
        stall = self._hub.stall_after
        if stall is not None and start + stall < len(data):
            self._send(name, data[start : start + stall])
            start += stall
            self._hub.stalled.set()
            self._hub.go_on.wait()
        self._send(name, data[start:])

    def _send(self, name: str, data: bytes) -> None:
        with suppress(OSError):  # whoever asked was killed
            self.wfile.write(data)
            self._hub.sent[name] += len(data)

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


def _digests(path: str, data: bytes) -> dict[str, object]:
    """As the hub tells them of a file: git's, and LFS's where it is in that."""
    told: dict[str, object] = {"oid": sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    if path.endswith(LARGE):
        told["lfs"] = {"oid": sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return told


def _etag(path: str, data: bytes) -> str:
    told: Any = _digests(path, data)
    return str(told["lfs"]["oid"] if "lfs" in told else told["oid"])
