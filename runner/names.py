"""Safe names: what an experiment may be called, and what its runs are called.

Names end up in directories, Kubernetes objects and labels, so all of them are DNS-1123
labels: lower case letters, digits and `-`, at both ends a letter or a digit.
"""

from __future__ import annotations

import random
import re
import unicodedata
from datetime import UTC, datetime

NAME_LENGTH = 40
"""Longest name of an experiment."""

RUN_ID_LENGTH = 50
"""Longest run id; leaves 13 of a label's 63 characters for `-<n>` and a suffix."""

_NUMBER = len("-1000")

NAME_RULE = f"1 to {NAME_LENGTH} lower case letters, digits and `-`, a letter or digit at both ends"

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_LETTERS = "bcdfghjkmnpqrstvwxz23456789"  # no vowels, so no words; nothing that looks alike


def is_name(text: str) -> bool:
    """Whether `text` may be the name of an experiment."""
    return len(text) <= NAME_LENGTH and _LABEL.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a run id; tells nothing about such a run being there."""
    return len(text) <= RUN_ID_LENGTH and _LABEL.fullmatch(text) is not None


def slug(text: str) -> str:
    """The valid name nearest to `text`."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    dashed = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower())
    return dashed.strip("-")[:NAME_LENGTH].strip("-") or "experiment"


def new_run_id(
    name: str, when: datetime, source: random.Random | None = None, length: int = RUN_ID_LENGTH
) -> str:
    """An id such as `checkpoint-diffing-261123-0907-x7k2`.

    The ids of one name sort by time (UTC, to the minute). `when` has to be aware of its
    time zone; `source` makes the last four letters repeatable in a test.
    """
    letters = "".join((source or random.SystemRandom()).choices(_LETTERS, k=4))
    tail = f"-{when.astimezone(UTC):%y%m%d-%H%M}-{letters}"
    return slug(name)[: length - len(tail)].rstrip("-") + tail


def new_sweep_id(name: str, when: datetime) -> str:
    """An id of the same form, which leaves room for the numbers of the sweep's runs."""
    return new_run_id(name, when, length=RUN_ID_LENGTH - _NUMBER)


def numbered(sweep_id: str, number: int, of: int) -> str:
    """The id of a sweep's run, such as `checkpoint-diffing-261123-0907-x7k2-07`."""
    return f"{sweep_id}-{number:0{len(str(of))}}"
