"""A real git server over ssh, which lets one deploy key in."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

STARTS_S = 20.0


@dataclass(frozen=True)
class SshServer:
    """`private_key` is the deploy key, `known_hosts` what a client has to know of the host."""

    address: str
    port: int
    private_key: str
    known_hosts: str

    def url(self, name: str) -> str:
        return f"ssh://git@{self.address}:{self.port}/{name}"


@contextmanager
def ssh_server(root: Path, address: str) -> Iterator[SshServer]:
    """Serve the repositories below `root` while the context is open."""
    host_key, deploy_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    allowed = asyncssh.import_authorized_keys(deploy_key.export_public_key().decode())

    async def upload_pack(process: asyncssh.SSHServerProcess[bytes]) -> None:
        words = shlex.split(process.command or "")
        if words[:1] != ["git-upload-pack"]:
            process.exit(1)
            return
        git = await asyncio.create_subprocess_exec(
            "git-upload-pack",
            str(root / words[1].lstrip("/")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await process.redirect(git.stdin, git.stdout, git.stderr)
        process.exit(await git.wait())
        await process.wait_closed()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            address,
            0,
            server_host_keys=[host_key],
            authorized_client_keys=allowed,
            process_factory=upload_pack,
            encoding=None,
        )

    acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result(STARTS_S)
    port = acceptor.get_port()
    public = host_key.export_public_key().decode().strip()
    try:
        yield SshServer(
            address,
            port,
            deploy_key.export_private_key().decode(),
            f"[{address}]:{port} {public}\n",
        )
    finally:

        async def close() -> None:
            acceptor.close()
            await acceptor.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), loop).result(STARTS_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STARTS_S)
        loop.close()
