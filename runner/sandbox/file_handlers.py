"""Files over HTTP: read, write, list, and whole directories as tar."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tornado import web
from tornado.http1connection import HTTP1Connection

from runner.errors import OperationConflict, SandboxLost
from runner.sandbox import files
from runner.sandbox.handlers import LONGEST_WAIT_S, Api
from runner.sandbox.operations import Operation

MOST_ENTRIES = 10_000
LARGEST_UPLOAD = 16 * 2**30
LONGEST_UPLOAD_S = 24 * 3600.0


class FileApi(Api):
    """Paths of the workspace."""

    def place(self, path: str, *, writing: bool = False) -> Path:
        """The real place of a path; 403 for one that leads out."""
        options = self.sandbox.options
        try:
            return files.within(options.workspace, path, () if writing else options.readable)
        except files.PathRefused as error:
            raise web.HTTPError(403, str(error)) from None

    async def send(self, pieces: Iterator[bytes]) -> None:
        """Send a body as fast as the client takes it, the next piece at hand.

        In chunks that are framed here, as tornado copies each piece to frame it, which takes half
        of a file's time. A body that breaks off has no last chunk: nobody takes it for whole.
        """
        if self.request.version != "HTTP/1.1":
            raise web.HTTPError(505, "files are sent over HTTP/1.1")
        self.set_header("Cache-Control", "no-store")
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)  # noqa: S101 - there is no other

        def ahead() -> asyncio.Task[bytes | None]:
            return asyncio.create_task(asyncio.to_thread(next, pieces, None))

        coming = ahead()
        piece = await coming  # what cannot be read at all is answered with an error
        await self.flush()
        try:
            while piece is not None:
                coming = ahead()
                self.sandbox.touch()
                # An empty chunk would be the last one.
                for part in (b"%x\r\n" % len(piece), piece, b"\r\n") if piece else ():
                    await connection.stream.write(part)
                piece = await coming
        except BaseException:
            coming.cancel()
            connection.close()
            raise


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
            self.sandbox.mask,
            recursive=recursive,
            limit=MOST_ENTRIES,
        )
        self.finish_json({"entries": entries, "complete": len(entries) < MOST_ENTRIES})


@web.stream_request_body
class Upload(FileApi):
    """A body that is written to a temporary file as it comes."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Take the body only from whoever has the token."""
        self.upload: Any = None
        self.failure = ""
        await super().prepare()
        if self.request.method != "PUT":
            return
        self.request.connection.set_max_body_size(LARGEST_UPLOAD)  # type: ignore[union-attr]
        self.request.connection.set_body_timeout(LONGEST_UPLOAD_S)  # type: ignore[union-attr]
        self.sha = hashlib.sha256()
        self.size = 0
        where = self.sandbox.options.state / "uploads"
        try:
            where.mkdir(exist_ok=True)
            self.upload = tempfile.NamedTemporaryFile(dir=where, delete=False)  # noqa: SIM115
        except OSError as error:
            self.failure = str(error)

    def data_received(self, chunk: bytes) -> None:
        """One piece."""
        self.sandbox.touch()
        if self.upload is None or self.failure:
            return
        try:
            self.upload.write(chunk)
        except OSError as error:
            self.failure = str(error)
        self.sha.update(chunk)
        self.size += len(chunk)

    def on_finish(self) -> None:
        """Nothing of the upload stays behind."""
        if self.upload is not None:
            with contextlib.suppress(OSError):  # a full disk, of which the client was told
                self.upload.close()
            Path(self.upload.name).unlink(missing_ok=True)

    def on_connection_close(self) -> None:
        """Nor when the client went away half-way."""
        super().on_connection_close()
        self.on_finish()

    async def receive(
        self,
        kind: str,
        path: str,
        check: Callable[[Path, Path], None],
        put: Callable[[Path, Path], None],
    ) -> None:
        """Put the upload into its place, once per operation, and answer.

        Refuses with 403 a path, or an archive, that leads out of the
        workspace; nothing is written then.
        """
        target = self.place(path, writing=True)
        try:
            if self.failure:
                raise web.HTTPError(507, self.failure)
            self.upload.flush()
            await asyncio.to_thread(check, Path(self.upload.name), target)
        except files.PathRefused as refused:
            raise web.HTTPError(403, str(refused)) from None
        except tarfile.TarError as error:
            raise web.HTTPError(400, f"the body is no tar: {error}") from None
        except OSError as error:
            raise web.HTTPError(507, str(error)) from None
        operation = await self._begin(kind, path)
        if operation is None:
            return
        book = self.sandbox.book
        try:
            await asyncio.to_thread(put, Path(self.upload.name), target)
        except (OSError, tarfile.TarError) as error:
            book.end(operation, "error", f"{path}: {error}")
        else:
            fields = {"path": path, "bytes": self.size, "sha256": self.sha.hexdigest()}
            book.log(operation, "file", **fields)
            book.end(operation, "ok")
        self.sandbox.journal.write()
        self.finish_json(operation.view())

    async def _begin(self, kind: str, path: str) -> Operation | None:
        """The operation of this upload; None when it was answered already."""
        op, boot = self.get_query_argument("operation"), self.get_query_argument("boot")
        self.check_id(op)
        book = self.sandbox.book
        digest = f"{kind} {path} {self.sha.hexdigest()}"
        try:
            known = book.find(op, boot, digest)
        except SandboxLost as error:
            await self.lost(op, error)
            return None
        except OperationConflict as error:
            self.conflict(error)
            return None
        if known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_WAIT_S):
                    await known.done.wait()
            self.finish_json(known.view())
            return None
        if self.sandbox.full:
            raise web.HTTPError(507, self.sandbox.full)
        operation = book.open(op, kind, digest)
        book.start(operation)
        return operation


class FileHandler(Upload):
    """One file."""

    async def get(self, path: str) -> None:
        """Its bytes, known secret values masked; with `whole`, as they are if it holds one.

        The header `Runner-Secret` says then whether it does: what is collected is never
        rewritten, but set aside. A value that comes into the file meanwhile is masked.
        """
        place = self.place(path)
        if place.is_dir():
            raise web.HTTPError(400, f"{path} is a directory")
        if not place.is_file():
            raise web.HTTPError(404, f"there is no file {path}")
        self.set_header("Content-Type", "application/octet-stream")
        pieces = files.read(place, self.sandbox.mask)
        if self.get_query_argument("whole", "0") == "1":
            secret = await asyncio.to_thread(files.holds_secret, place, self.sandbox.mask)
            self.set_header("Runner-Secret", int(secret))
            pieces = files.whole(place) if secret else pieces
        await self.send(pieces)

    async def put(self, path: str) -> None:
        """Write it, once per operation."""
        await self.receive("file", path, lambda *_: None, files.place)


class TarHandler(Upload):
    """A directory, whole."""

    async def get(self) -> None:
        """A tar of `path`, known secret values masked in each file, without any `exclude`."""
        place = self.place(self.get_query_argument("path", "."))
        if not place.exists():
            raise web.HTTPError(404, f"there is no {self.get_query_argument('path', '.')}")
        self.set_header("Content-Type", "application/x-tar")
        apart = frozenset(place / path for path in self.get_query_arguments("exclude"))
        options = self.sandbox.options
        await self.send(files.pack(place, self.sandbox.mask, options.state, apart))

    async def put(self) -> None:
        """Extract a tar into `path`, once per operation."""
        path = self.get_query_argument("path", ".")
        await self.receive("tar", path, files.check, files.unpack)


def handlers(base: str) -> list[tuple[str, type[Api]]]:
    """Routes under the server's base URL."""
    return [
        (f"{base}runner/v1/tree", TreeHandler),
        (f"{base}runner/v1/files/(.+)", FileHandler),
        (f"{base}runner/v1/tar", TarHandler),
    ]
