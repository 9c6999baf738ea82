"""Bytecode of packages, which one run leaves to the next one with the same packages.

uv's cache holds sources alone, so each run's kernel would compile anew what it imports: two thirds
of a second of one core for ipykernel, seconds for torch. Python takes a file of bytecode for the
very source that it was made from, by size and time, which uv's links keep; another one it ignores.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import platformdirs

KEPT = 10
"""How many sets of packages are remembered."""


def store_of(python: str, packages: Iterable[str]) -> Path:
    """Where the bytecode of these pins for this version of Python is kept, in the user's cache."""
    named = hashlib.sha256("\n".join([python, *sorted(packages)]).encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("runner") / "bytecode" / named


def borrow(store: Path, venv: Path) -> None:
    """Put what is kept into a new environment. Without it all goes on, slower."""
    with contextlib.suppress(OSError, shutil.Error):
        os.utime(store)
        for place in _site_packages(venv):
            shutil.copytree(store, place, copy_function=_link, dirs_exist_ok=True)


def leave(store: Path, venv: Path) -> None:
    """Keep what an environment has compiled, and forget the packages that were not used longest."""
    with contextlib.suppress(OSError):
        for place in _site_packages(venv):
            for file in place.rglob("__pycache__/*.pyc"):
                kept = store / file.relative_to(place)
                if not kept.exists() or not kept.samefile(file):
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    part = kept.with_name(secrets.token_hex(4))
                    _link(str(file), str(part))
                    part.replace(kept)
        stores = sorted(store.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in stores[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def _site_packages(venv: Path) -> Iterator[Path]:
    return venv.glob("lib/python3*/site-packages")


def _link(source: str, target: str) -> None:
    """A link, or on another file system a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
