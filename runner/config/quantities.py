"""Durations and Kubernetes quantities, as an experiment or the settings give them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

from runner.config.refuse import refuse

_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?\s*(?:(?P<h>\d+(?:\.\d+)?)h)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)m)?\s*(?:(?P<s>\d+(?:\.\d+)?)s)?",
    re.ASCII,
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 366 * 86400

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(n|u|m|k|[KMGTPE]i?|[eE][+-]?\d{1,2})?", re.ASCII)
_UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** n for n, unit in enumerate("kMGTPE", start=1)},
    **{unit + "i": Decimal(1024) ** n for n, unit in enumerate("KMGTPE", start=1)},
}
_MEBIBYTE = 1024**2


def seconds(value: Any) -> float:
    """Seconds out of a number of seconds, or of text such as `"2h"`, `"90m"`, `"1h30m"`."""
    total: float = 0
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = value
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        total = sum(float(n) * _SECONDS[unit] for unit, n in match.groupdict().items() if n)
    if 0 < total <= _LONGEST:
        return float(total)
    raise refuse(
        'a duration above 0 and up to a year: seconds (7200), or text like "2h", "1h30m", "2d"'
    )


def amount(text: str) -> Decimal:
    """The number that a Kubernetes quantity means: bytes or cores.

    Raises ValueError where the text is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    number, unit = match[1], match[2] or ""
    return Decimal(number) * (_UNITS[unit] if unit in _UNITS else Decimal("1" + unit))


def _cpu(value: Any) -> str:
    """A quantity of CPU cores, kept as it was written."""
    return _quantity(value, 'CPU cores above 0, as Kubernetes writes them: 4 or "500m"')


def _bytes(value: Any) -> str:
    """A quantity of bytes, kept as it was written; a mebibyte at least."""
    expected = 'a size, as Kubernetes writes it: "16Gi" or "500M"'
    text = _quantity(value, expected)
    if amount(text) < _MEBIBYTE:
        unit = "`m` means thousandths: write M or Mi" if text.endswith("m") else "Write Mi or Gi"
        raise refuse(expected, hint=f"{text!r} is less than 1 MiB. {unit}.")
    return text


def _quantity(value: Any, expected: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    try:
        if isinstance(value, str) and amount(value.strip()) > 0:
            return value.strip()
    except ValueError:
        pass
    raise refuse(expected)


Duration = Annotated[float, BeforeValidator(seconds)]
"""Seconds; in the file also text such as `"2h"`."""

Cpu = Annotated[str, BeforeValidator(_cpu)]
"""Cores, as a Kubernetes quantity."""

Size = Annotated[str, BeforeValidator(_bytes)]
"""Bytes, as a Kubernetes quantity."""
