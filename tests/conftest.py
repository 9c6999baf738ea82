"""What all tests share."""

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis times examples by the clock. A busy machine, or the Unicode tables that are made on
# the first run in a clone, would fail a test that is right.
settings.register_profile("clockless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clockless")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long tests/faults takes."""
    group = parser.getgroup("faults")
    group.addoption("--moments", type=int, default=8, help="at which a sweep of faults strikes")
    group.addoption("--seed", default="1", help="from which the moments follow")
    group.addoption("--stall", type=float, default=3.0, help="seconds for which things stand still")
