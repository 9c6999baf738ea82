"""Resolving beside an image's packages, for a Python that need not be here."""

from __future__ import annotations

import pytest
from test_packages import _uv, index  # noqa: F401 - fixtures

from runner import packages
from runner.errors import UsageError


def test_the_image_keeps_its_versions() -> None:
    there = ["helper==1.0", "torch==2.9.0+cu128", "x @ git+https://x.example/x"]
    assert packages.resolve_over(["old"], there, "3.13.1", 60) == ("helper==1.0", "old==1.0")
    assert packages.resolve_over(["ipykernel<8"], [], "3.13.1", 60) == (
        "helper==2.0",
        "ipykernel==7.2.0",
    )


def test_a_conflict_is_in_the_words_of_uv() -> None:
    with pytest.raises(UsageError, match="new depend on helper>=2 and helper==1.0"):
        packages.resolve_over(["new"], ["helper==1.0"], "3.13.1", 60)


def test_an_option_is_no_package() -> None:
    with pytest.raises(UsageError, match="is refused"):
        packages.resolve_over(["--pre"], [], "3.13.1", 60)
