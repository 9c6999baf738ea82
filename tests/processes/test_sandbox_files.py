"""Files of a sandbox: up, down, whole directories, and no way out of the workspace."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import httpx
import psutil
import pytest
from sandbox_process import SandboxProcess, sandbox
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from runner.errors import OperationConflict, OperationError
from runner.sandbox import files
from runner.sandbox.file_handlers import FileApi
from runner.session import LostOperation, Session


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    top = tmp_path_factory.mktemp("files")
    (top / "outside").mkdir()
    (top / "outside" / "file").write_text("not ours")
    (top / "volume").mkdir()
    (top / "volume" / "weights").write_text("a volume's")
    with sandbox(top, readable=[str(top / "volume")]) as made:
        (made.workspace / "link").symlink_to(top / "outside")
        (made.workspace / "file-link").symlink_to(top / "outside" / "file")
        (made.workspace / "data").symlink_to(top / "volume")
        yield made


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


def tar(*members: tarfile.TarInfo) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return data.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, size
    return info


def put_tar(box: SandboxProcess, session: Session, data: bytes, path: str = "in") -> httpx.Response:
    return httpx.put(
        f"{box.url}/runner/v1/tar",
        params={"path": path, "operation": uuid.uuid4().hex, "boot": session.boot},
        content=data,
        headers={"Authorization": f"token {box.token}"},
    )


@pytest.mark.parametrize("name", ["a/b c/d?e#f%41&g=h.txt", "ünï.txt", "a+b", ".hidden"])
def test_what_is_written_is_read(session: Session, name: str) -> None:
    data = bytes(range(256)) * 10
    written = session.write_file(name, data)
    assert (written.kind, written.state) == ("file", "ok")
    assert session.read_file(name) == data
    assert name in [entry["path"] for entry in session.tree(recursive=True)]
    line = next(line for line in session.journal(0) if line.get("op") == written.op)
    assert (line["type"], line["path"], line["bytes"]) == ("file", name, 2560)
    assert line["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_write_is_done_once(session: Session) -> None:
    op = uuid.uuid4().hex
    session.write_file("once", b"first", op=op)
    session.write_file("once", b"second")
    assert session.write_file("once", b"first", op=op).state == "ok"
    assert session.read_file("once") == b"second"
    with pytest.raises(OperationConflict):
        session.write_file("once", b"third", op=op)
    with pytest.raises(OperationConflict):
        session.run("1", op=op)
    boot, session.boot = session.boot, "another"
    try:
        with pytest.raises(LostOperation):
            session.write_file("once", b"third")
    finally:
        session.boot = boot
    assert session.read_file("once") == b"second"


def test_large_files_are_streamed(session: Session, box: SandboxProcess, tmp_path: Path) -> None:
    size = 300 << 20
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(size)
    assert box.process is not None
    server = psutil.Process(box.process.pid)
    before = server.memory_info().rss
    with large.open("rb") as file:
        session.write_file("large", file)
    assert (box.workspace / "large").stat().st_size == size
    assert session.fetch("large", lambda pieces: sum(map(len, pieces))) == size
    assert server.memory_info().rss - before < 64 << 20
    assert not list((box.state / "uploads").iterdir())
    (box.workspace / "large").unlink()


@pytest.mark.parametrize(
    "path",
    ["../outside/file", "a/../../outside/file", "/etc/passwd", "link/file", "file-link", ".."],
)
def test_no_path_leads_out(
    session: Session, box: SandboxProcess, path: str, tmp_path: Path
) -> None:
    outside = box.workspace.parent / "outside" / "file"
    headers = {"Authorization": f"token {box.token}"}
    for do in (
        lambda: session.read_file(path),
        lambda: session.write_file(path, b"overwritten"),
        lambda: session.tree(path),
        lambda: session.download(path, tmp_path),
    ):
        with pytest.raises(OperationError, match="leads out of the workspace"):
            do()
    assert put_tar(box, session, tar(member("x")), path).status_code == 403
    answer = httpx.get(f"{box.url}/runner/v1/tar", params={"path": path}, headers=headers)
    assert answer.status_code == 403
    assert outside.read_text() == "not ours"
    assert [entry.name for entry in outside.parent.iterdir()] == ["file"]


def test_a_volume_may_be_read_and_not_written(session: Session) -> None:
    assert session.read_file("data/weights") == b"a volume's"
    with pytest.raises(OperationError, match="leads out"):
        session.write_file("data/weights", b"overwritten")


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"),
        member("../link/evil"),
        member("evil", tarfile.SYMTYPE, "/etc"),
        member("evil", tarfile.SYMTYPE, "../../outside"),
        member("evil", tarfile.LNKTYPE, "../../outside/file"),
        member("evil", tarfile.CHRTYPE),
        member("evil", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name}-{bad.linkname or bad.type!r}",
)
def test_a_tar_that_leads_out_is_refused_whole(
    session: Session, box: SandboxProcess, bad: tarfile.TarInfo
) -> None:
    answer = put_tar(box, session, tar(member("good"), bad))
    assert answer.status_code == 403
    assert bad.name in answer.json()["message"]
    assert not (box.workspace / "in").exists()


def test_absolute_names_in_a_tar_are_taken_as_relative(
    session: Session, box: SandboxProcess
) -> None:
    assert put_tar(box, session, tar(member("/etc/fine")), "absolute").status_code == 200
    assert (box.workspace / "absolute" / "etc" / "fine").exists()


def test_a_tar_cannot_go_through_a_link_that_is_there(
    session: Session, box: SandboxProcess
) -> None:
    answer = put_tar(box, session, tar(member("link/evil", size=3)), ".")
    assert answer.status_code == 403
    assert not (box.workspace.parent / "outside" / "evil").exists()


def test_a_body_that_is_no_tar(session: Session, box: SandboxProcess) -> None:
    answer = put_tar(box, session, b"no tar" * 1000)
    assert (answer.status_code, "no tar" in answer.json()["message"]) == (400, True)


def test_directories_go_up_and_down(session: Session, box: SandboxProcess, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "file").write_bytes(b"x" * 1000)
    (source / "deep" / "empty").write_bytes(b"")
    (source / "near").symlink_to("deep/er")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "second name").hardlink_to(source / "run.sh")
    assert session.upload(source, "up").state == "ok"
    (box.workspace / "up" / "away").symlink_to("/etc")
    back.mkdir()
    session.download("up", back)
    assert (back / "deep" / "er" / "file").read_bytes() == b"x" * 1000
    assert (back / "deep" / "empty").read_bytes() == b""
    assert (back / "near").readlink() == Path("deep/er")
    assert (back / "run.sh").stat().st_mode & 0o111
    assert (back / "second name").read_text() == "#!/bin/sh\n"
    assert not (back / "away").is_symlink(), "a link that leads out stays behind"
    session.download("up/run.sh", back / "one")
    assert (back / "one" / "run.sh").exists()


def test_what_is_not_there(session: Session, tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="there is no file nowhere"):
        session.read_file("nowhere")
    with pytest.raises(OperationError, match="is a directory"):
        session.read_file(".")
    with pytest.raises(OperationError, match="there is no directory nowhere"):
        session.tree("nowhere")
    with pytest.raises(OperationError, match="there is no nowhere"):
        session.download("nowhere", tmp_path)


def test_a_write_that_cannot_be_done_is_told(session: Session) -> None:
    session.write_file("a-directory/file", b"x")
    over = session.write_file("a-directory", b"x")
    assert (over.state, "irectory" in over.reason) == ("error", True)
    below = session.write_file("a-directory/file/below", b"x")
    assert below.state == "error"


def test_listings(session: Session, box: SandboxProcess) -> None:
    session.write_file("listed/b/c", b"123")
    session.write_file("listed/a", b"")
    (box.workspace / "listed" / "l").symlink_to("a")
    flat = [(entry["path"], entry["type"]) for entry in session.tree("listed")]
    assert flat == [("a", "file"), ("b", "directory"), ("l", "link")]
    deep = {entry["path"]: entry["bytes"] for entry in session.tree("listed", recursive=True)}
    assert (set(deep), deep["b/c"]) == ({"a", "l", "b/c"}, 3)


def test_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(files.PathRefused):
        files.within(tmp_path, "a\0b")


class Torn(FileApi):
    """A file whose disk fails after the first piece, or at once."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Let everybody in."""

    async def get(self, after: str) -> None:
        def pieces() -> Iterator[bytes]:
            yield from [b"the first piece"] * int(after)
            raise OSError("the disk fails")

        await self.send(pieces())


@pytest.fixture
def torn_url() -> Iterator[str]:
    """A server of one route, on an event loop of its own."""
    box = SimpleNamespace(touch=lambda: None)
    app = web.Application([("/([01])", Torn)], runner=box, headers={}, serve_traceback=False)
    app.settings["log_function"] = lambda _: None
    loop = asyncio.new_event_loop()
    bound = bind_sockets(0, "127.0.0.1")

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(lambda: HTTPServer(app).add_sockets(bound))
        loop.run_forever()

    thread = Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{bound[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    for each in bound:
        each.close()


def test_a_file_that_breaks_off_is_not_taken_for_whole(torn_url: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        httpx.get(f"{torn_url}/1")
    assert httpx.get(f"{torn_url}/0").status_code == 500


def test_files_are_not_sent_over_http_1_0(box: SandboxProcess, session: Session) -> None:
    session.write_file("old", b"x")
    head = f"GET /runner/v1/files/old HTTP/1.0\r\nAuthorization: token {box.token}\r\n\r\n"
    at = httpx.URL(box.url)
    with socket.create_connection((at.host, at.port or 80)) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.split(b"\r\n")[0].split()[1] == b"505"
    assert b"HTTP/1.1" in answer
