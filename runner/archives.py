"""What of a tar stays in the directory that it is unpacked into: as PEP 706's "data" filter.

Python has the filter from 3.11.4 on; the 3.11 of Debian 12 has not.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

_MODE = 0o755


def leads_out(member: tarfile.TarInfo, into: Path) -> str:
    """How a member would leave the directory, in words; empty where it does not.

    An absolute name is taken as a relative one.
    """
    name, top = Path(member.name.lstrip("/")), into.resolve()
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return f"{member.name}: is no file, directory or link"
    if not (top / name).resolve().is_relative_to(top):
        return f"{member.name}: leads out"
    if member.issym() or member.islnk():
        # A symlink's target is seen from where it is, a second name's from the top.
        target = (top / name.parent if member.issym() else top) / member.linkname
        if Path(member.linkname).is_absolute() or not target.resolve().is_relative_to(top):
            return f"{member.name}: is a link that leads out, to {member.linkname}"
    return ""


def extract(tar: tarfile.TarFile, into: Path, members: Iterable[tarfile.TarInfo]) -> None:
    """Unpack these members as files of this user; raises tarfile.TarError for one that leads out.

    That is seen as it is unpacked, as a link before it may have led it there.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(into, members, filter="data")
        return
    for member in members:
        if words := leads_out(member, into):
            raise tarfile.ExtractError(words)
        member.name = member.name.lstrip("/")
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode &= _MODE
        tar.extract(member, into)
