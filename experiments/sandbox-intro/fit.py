"""Fits straight lines, with nothing but the standard library."""

from statistics import linear_regression


def slope(pairs: list[tuple[float, float]]) -> float:
    """The slope of the line through pairs of x and y that is nearest to them (least squares)."""
    x, y = zip(*pairs, strict=True)
    return linear_regression(x, y).slope
