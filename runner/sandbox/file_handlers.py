"""Files over HTTP: read, write, list, and whole directories as tar."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tornado import web

from runner.errors import OperationConflict, SandboxLost
from runner.sandbox import files
from runner.sandbox.handlers import Api
from runner.sandbox.journal import now
from runner.sandbox.operations import Operation

MOST_ENTRIES = 10_000
LARGEST_UPLOAD = 16 * 2**30


class FileApi(Api):
    """Paths of the workspace."""

    def place(self, path: str, *, writing: bool = False) -> Path:
        """The real place of a path; 403 for one that leads out."""
        options = self.sandbox.options
        try:
            return files.within(options.workspace, path, () if writing else options.readable)
        except files.PathRefused as error:
            raise web.HTTPError(403, str(error)) from None


class TreeHandler(FileApi):
    """Listings."""

    async def get(self) -> None:
        """What is under `path`."""
        top = self.place(self.get_query_argument("path", "."))
        if not top.is_dir():
            raise web.HTTPError(404, f"there is no directory {self.get_query_argument('path')}")
        recursive = self.get_query_argument("recursive", "0") == "1"
        entries = await asyncio.to_thread(
            files.listing,
            top,
            top,
            recursive=recursive,
            limit=MOST_ENTRIES,
        )
        self.finish_json({"entries": entries, "complete": len(entries) < MOST_ENTRIES})


@web.stream_request_body
class Upload(FileApi):
    """A body that is written to a temporary file as it comes."""

    async def prepare(self) -> None:
        """Take the body only from whoever has the token."""
        self.upload: Any = None
        await super().prepare()
        if self.request.method != "PUT":
            return
        self.request.connection.set_max_body_size(LARGEST_UPLOAD)  # type: ignore[attr-defined]
        self.sha = hashlib.sha256()
        self.size = 0
        where = self.sandbox.options.state / "uploads"
        where.mkdir(exist_ok=True)
        self.upload = tempfile.NamedTemporaryFile(dir=where, delete=False)  # noqa: SIM115

    def data_received(self, chunk: bytes) -> None:
        """One piece."""
        if self.upload is not None:
            self.upload.write(chunk)
            self.sha.update(chunk)
            self.size += len(chunk)

    def on_finish(self) -> None:
        """Nothing of the upload stays behind."""
        if self.upload is not None:
            self.upload.close()
            Path(self.upload.name).unlink(missing_ok=True)

    def on_connection_close(self) -> None:
        """Nor when the client went away half-way."""
        super().on_connection_close()
        self.on_finish()

    def begin(self, kind: str, path: str) -> Operation | None:
        """The operation of this upload; None when it was answered already."""
        op, boot = self.get_query_argument("operation"), self.get_query_argument("boot")
        box = self.sandbox
        digest = f"{kind} {path} {self.sha.hexdigest()}"
        try:
            known = box.find(op, boot, digest)
        except SandboxLost as error:
            self.lost(op, error)
            return None
        except OperationConflict as error:
            self.conflict(error)
            return None
        if known:
            self.finish_json(known.view())
            return None
        if box.full:
            raise web.HTTPError(507, box.full)
        operation = Operation(op, kind, box.boot, digest, "running", queued=now(), started=now())
        box.operations[op] = operation
        return operation

    def complete(self, operation: Operation, path: str, error: Exception | None) -> None:
        """Write down what was written, or why not."""
        if error is None:
            self.sandbox.journal.append(
                "file",
                op=operation.id,
                path=path,
                bytes=self.size,
                sha256=self.sha.hexdigest(),
            )
            self.sandbox.finish(operation, "ok")
        else:
            self.sandbox.finish(operation, "error", f"{path}: {error}")
        self.finish_json(operation.view())


class FileHandler(Upload):
    """One file."""

    async def get(self, path: str) -> None:
        """Its bytes, known secret values masked."""
        place = self.place(path)
        if place.is_dir():
            raise web.HTTPError(400, f"{path} is a directory")
        if not place.is_file():
            raise web.HTTPError(404, f"there is no file {path}")
        self.set_header("Content-Type", "application/octet-stream")
        pieces = files.read(place, self.sandbox.mask)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            self.write(piece)
            await self.flush()

    async def put(self, path: str) -> None:
        """Write it, once per operation."""
        operation = self.begin("file", path)
        if operation is None:
            return
        error: Exception | None = None
        try:
            target = self.place(path, writing=True)
            self.upload.flush()
            await asyncio.to_thread(files.place, Path(self.upload.name), target)
            target.chmod(0o644)
        except web.HTTPError as refused:
            error = files.PathRefused(refused.log_message)
        except OSError as refused:
            error = refused
        self.complete(operation, path, error)


class TarHandler(Upload):
    """A directory, whole."""

    async def get(self) -> None:
        """A tar of `path`; known secret values are masked in a directory's files one by one."""
        place = self.place(self.get_query_argument("path", "."))
        if not place.exists():
            raise web.HTTPError(404, f"there is no {self.get_query_argument('path', '.')}")
        self.set_header("Content-Type", "application/x-tar")
        with tempfile.TemporaryFile(dir=self.sandbox.options.state) as spool:
            await asyncio.to_thread(files.pack, place, spool)
            spool.seek(0)
            while piece := await asyncio.to_thread(spool.read, files.CHUNK):
                self.write(piece)
                await self.flush()

    async def put(self) -> None:
        """Extract a tar into `path`, once per operation."""
        path = self.get_query_argument("path", ".")
        operation = self.begin("tar", path)
        if operation is None:
            return
        error: Exception | None = None
        try:
            target = self.place(path, writing=True)
            self.upload.flush()
            await asyncio.to_thread(files.unpack, Path(self.upload.name), target)
        except web.HTTPError as refused:
            error = files.PathRefused(refused.log_message)
        except (OSError, tarfile.TarError) as refused:
            error = refused
        self.complete(operation, path, error)


def handlers(base: str) -> list[tuple[str, type[Api]]]:
    """Routes under the server's base URL."""
    return [
        (f"{base}runner/v1/tree", TreeHandler),
        (f"{base}runner/v1/files/(.+)", FileHandler),
        (f"{base}runner/v1/tar", TarHandler),
    ]
