"""A real git server over https on the loopback interface, with a CA made for the test."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", "1700000000 +0000"))
}


@dataclass
class GitServer:
    """Repositories below `root`, served while the context is open."""

    root: Path
    ca: Path
    port: int
    smart: bool
    address: str = "127.0.0.1"
    credentials: str = ""
    """`user:password`, if the server wants that."""
    requests: list[str] = field(default_factory=list)
    stall_after: int | None = None
    """So many requests are answered; whoever asks then waits for ever."""

    @property
    def env(self) -> dict[str, str]:
        """What a git has to have in its environment to trust this server."""
        return {"GIT_SSL_CAINFO": str(self.ca)}

    def url(self, name: str) -> str:
        return f"https://{self.address}:{self.port}/{name}"

    def add_repo(self, name: str, files: Mapping[str, str]) -> str:
        """Make the repository, or add a commit to its branch main; the new commit."""
        bare, work = self.root / name, self.root.parent / f"{self.root.name}-work" / name
        if not bare.exists():
            self.git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
            self.git(self.root, "clone", "--quiet", str(bare), str(work))
            self.git(work, "checkout", "--quiet", "-b", "main")
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        self.git(work, "add", "--all")
        self.git(work, "commit", "--quiet", "--allow-empty", "-m", "A commit")
        self.git(work, "push", "--quiet", "origin", "main")
        self.git(bare, "update-server-info")
        return self.git(work, "rev-parse", "HEAD")

    def add_submodule(self, name: str, path: str, url: str, commit: str, *more: str) -> str:
        """Add a commit that has a submodule; the new commit. `more` are lines for .gitmodules."""
        work = self.root.parent / f"{self.root.name}-work" / name
        lines = [f'[submodule "{path}"]', f"path = {path}", f"url = {url}", *more]
        with (work / ".gitmodules").open("a") as file:
            file.write("\n".join(lines) + "\n")
        self.git(work, "add", ".gitmodules")
        self.git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        self.git(work, "commit", "--quiet", "-m", "A submodule")
        self.git(work, "push", "--quiet", "origin", "main")
        return self.git(work, "rev-parse", "HEAD")

    def tag(self, name: str, tag: str) -> None:
        """Give the last commit an annotated tag."""
        self.git(self.root / name, "tag", "-a", "-m", tag, tag, "main")
        self.git(self.root / name, "update-server-info")

    def branch(self, name: str, branch: str) -> None:
        self.git(self.root / name, "branch", branch, "main")
        self.git(self.root / name, "update-server-info")

    @staticmethod
    def git(folder: Path, *arguments: str) -> str:
        env = {**os.environ, **_AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


@contextmanager
def git_server(
    folder: Path, *, smart: bool = True, address: str = "127.0.0.1"
) -> Iterator[GitServer]:
    """Serve `folder`/repos; not `smart`: as plain files, which gives out no single commits."""
    root = folder / "repos"
    root.mkdir(parents=True)
    ca, certificate, key = make_ca(folder, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer((address, 0), _Handler)
    server.daemon_threads = True
    # The handshake is done in the connection's own thread: a client that waits blocks no other.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    served = GitServer(root, ca, server.server_address[1], smart, address)
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def make_ca(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """A CA and a certificate for the address that it signed: CA, certificate, key."""
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    certificate, key, request = folder / "server.pem", folder / "server.key", folder / "server.csr"
    extensions = folder / "server.ext"
    extensions.write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    sign = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "1", "-extfile", extensions)
    for command in (
        ("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=Test CA"),
        ("req", *new_key, "-keyout", key, "-out", request, "-subj", f"/CN={address}"),
        ("x509", "-req", "-in", request, "-out", certificate, *sign),
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return ca, certificate, key


class _Handler(BaseHTTPRequestHandler):
    """Hands requests to `git http-backend`, or serves the repository's files."""

    def do_GET(self) -> None:
        served: GitServer = self.server.served  # type: ignore[attr-defined]
        served.requests.append(self.path)
        if served.stall_after is not None and len(served.requests) > served.stall_after:
            threading.Event().wait()
        if self._refused(served):
            return
        if served.smart:
            self._backend(served, b"")
            return
        file = served.root / urlsplit(self.path).path.lstrip("/")
        body = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if file.is_file() else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        served: GitServer = self.server.served  # type: ignore[attr-defined]
        if self._refused(served):
            return
        self._backend(served, self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _refused(self, served: GitServer) -> bool:
        wanted = f"Basic {base64.b64encode(served.credentials.encode()).decode()}"
        if not served.credentials or self.headers.get("Authorization") == wanted:
            return False
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _backend(self, served: GitServer, body: bytes) -> None:
        url = urlsplit(self.path)
        env = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(served.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=env, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if line]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name not in ("Status", "Content-Length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""
