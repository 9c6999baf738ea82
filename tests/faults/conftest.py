"""Runs to be broken, in a temporary directory of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from moments import chance, pytest_generate_tests  # noqa: F401
from tiny_runs import Lab


@pytest.fixture
def stall_s(request: pytest.FixtureRequest) -> float:
    """For how long something stands still."""
    return float(request.config.getoption("--stall"))


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory of this test and of all that it starts: what is left there is seen."""
    # Unix sockets have short paths; pytest's are long.
    made = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def lab(tmp_path: Path, temporary: Path) -> Iterator[Lab]:
    """A place for runs; all that was started there is ended, and nothing of it is left."""
    made = Lab(tmp_path)
    yield made
    made.close()
