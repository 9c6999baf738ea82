"""Runs to be broken, in a temporary directory of their own."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import Lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a `moment` is run at as many as `--moments` says, numbered from 0."""
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("--moments")))


@pytest.fixture
def chance(request: pytest.FixtureRequest, moment: int) -> random.Random:
    """What a moment's choices follow from."""
    seed = f"{request.config.getoption('--seed')}/{moment}"
    print(f"--seed and moment: {seed}")  # noqa: T201 - shown where the test fails
    return random.Random(seed)


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
