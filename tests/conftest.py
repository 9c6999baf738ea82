"""What all tests share."""

from hypothesis import HealthCheck, settings

# Hypothesis times examples by the clock. A busy machine, or the Unicode tables that are made on
# the first run in a clone, would fail a test that is right.
settings.register_profile("clockless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clockless")
