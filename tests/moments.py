"""At which moments a sweep of faults strikes: a test that takes a `moment` is run at each.

A conftest.py imports both names for the tests beside it.
"""

from __future__ import annotations

import random

import pytest

SHARE = 4
"""One in so many is enough where a test is marked `few`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many as `--moments` says, numbered from 0."""
    if "moment" in metafunc.fixturenames:
        moments = metafunc.config.getoption("--moments")
        if metafunc.definition.get_closest_marker("few"):
            moments = -(-moments // SHARE)
        metafunc.parametrize("moment", range(moments))


@pytest.fixture
def chance(request: pytest.FixtureRequest, moment: int) -> random.Random:
    """What a moment's choices follow from."""
    seed = f"{request.config.getoption('--seed')}/{moment}"
    print(f"--seed and moment: {seed}")  # noqa: T201 - shown where the test fails
    return random.Random(seed)
