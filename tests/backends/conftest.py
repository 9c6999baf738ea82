"""The backends that the contract is tried on. A new one adds its name and how its lab is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Lab

BACKENDS = ["local"]


def lab_on(backend: str, top: Path, **settings: Any) -> Lab:
    """A place for runs on this backend."""
    return Lab(top, backend=backend, **settings)


@pytest.fixture(params=BACKENDS, scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def lab(backend: str, tmp_path: Path) -> Iterator[Lab]:
    made = lab_on(backend, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_lab(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One that the tests of a module share."""
    made = lab_on(backend, tmp_path_factory.mktemp(backend))
    yield made
    made.close()


@pytest.fixture
def make_lab(backend: str) -> Callable[..., Lab]:
    return lambda top, **settings: lab_on(backend, top, **settings)
