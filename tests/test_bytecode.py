"""Bytecode that one environment leaves to the next one with the same packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.backends.local import bytecode

SOURCE = "print('imported')\n"
ENV = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def environment(place: Path, source: str = SOURCE, time: int = 1_700_000_000) -> Path:
    """A virtual environment with one package, as uv links it: with the time of the cache's file."""
    package = place / "lib" / "python3.11" / "site-packages" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    os.utime(package / "__init__.py", (time, time))
    return place


def imported(venv: Path) -> str:
    """What the package prints, and whether it was compiled for that."""
    (site,) = venv.glob("lib/python3*/site-packages")
    command = [sys.executable, "-v", "-c", "import pack"]
    done = subprocess.run(
        command, env={**ENV, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    compiled = f"code object from {site}/pack/__init__.py" in done.stderr.replace("'", "")
    return done.stdout.strip() + (", compiled" if compiled else "")


def test_what_one_has_compiled_the_next_one_need_not(tmp_path: Path) -> None:
    store = bytecode.store_of("3.11.7", ["pack==1"])
    first, second = environment(tmp_path / "1"), environment(tmp_path / "2")
    bytecode.borrow(store, first)
    assert imported(first) == "imported, compiled"
    bytecode.leave(store, first)
    bytecode.borrow(store, second)
    assert imported(second) == "imported"


def test_bytecode_of_another_source_is_not_used(tmp_path: Path) -> None:
    store = bytecode.store_of("3.11.7", ["pack==1"])
    first = environment(tmp_path / "1")
    imported(first)
    bytecode.leave(store, first)
    altered = environment(tmp_path / "2", "print('altered!')\n")
    os.utime(next(altered.rglob("__init__.py")))
    bytecode.borrow(store, altered)
    assert imported(altered) == "altered!, compiled"
    bytecode.leave(store, altered)
    third = environment(tmp_path / "3")
    bytecode.borrow(store, third)
    assert imported(third) == "imported, compiled"


def test_other_packages_and_pythons_have_stores_of_their_own() -> None:
    stores = {
        bytecode.store_of(python, packages)
        for python in ("3.11.7", "3.12.1")
        for packages in (["a==1", "b==1"], ["a==1", "b==2"])
    }
    assert len(stores) == 4
    assert bytecode.store_of("3.11.7", ["b==1", "a==1"]) in stores


def test_what_was_not_used_longest_is_forgotten(tmp_path: Path) -> None:
    venv = environment(tmp_path / "venv")
    imported(venv)
    stores = [bytecode.store_of("3.11.7", [f"pack=={n}"]) for n in range(bytecode.KEPT + 1)]
    for age, store in enumerate(stores):
        bytecode.leave(store, venv)
        os.utime(store, (1_700_000_000 + age, 1_700_000_000 + age))
    bytecode.borrow(stores[0], environment(tmp_path / "next"))
    bytecode.leave(stores[0], venv)
    kept = [store.is_dir() for store in stores]
    assert kept == [True, False] + [True] * (bytecode.KEPT - 1)


def test_without_a_cache_all_goes_on(tmp_path: Path, cache: Path) -> None:
    cache.write_text("no directory")
    venv = environment(tmp_path / "venv")
    store = bytecode.store_of("3.11.7", ["pack==1"])
    bytecode.borrow(store, venv)
    assert imported(venv) == "imported, compiled"
    bytecode.leave(store, venv)
