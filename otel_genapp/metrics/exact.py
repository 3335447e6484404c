"""Numbers that add up exactly, whatever the order: else a sum over workers would step back by a hair.

Floats rounded at every addition give another last digit in another order, and Prometheus takes any
decrease of a counter for a restart. So a sum of floats stays a list of them until it is shown.
"""

from __future__ import annotations

import math
import operator

Number = int | list[float]
"""A whole number, or the floats whose exact sum it is."""
Histogram = tuple[list[int], Number]
"""The counts of its buckets, and the sum of what was observed."""
Value = Number | Histogram

_WHOLE_FLOAT = 2**53
"""Whole numbers up to here are floats as well."""


def number(value: float) -> Number:
    """A measured value as a number that adds up."""
    return int(value) if isinstance(value, int) else [float(value)]


def plus(one: Number, other: Number) -> Number:
    """Their sum; neither is changed."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return [*_floats(one), *_floats(other)]


def total(value: Number) -> float:
    """The number as it is shown: rounded once, so that it never falls when a part has grown."""
    return value if isinstance(value, int) else math.fsum(value)


def compact(value: Number) -> Number:
    """The same number in as few floats as it takes (Shewchuk's expansion): what is kept stays small."""
    if isinstance(value, int) or len(value) < 2:
        return value
    parts: list[float] = []
    for added in value:
        rest, kept = added, 0
        for part in parts:
            larger, smaller = (rest, part) if abs(rest) >= abs(part) else (part, rest)
            rest = larger + smaller
            lost = smaller - (rest - larger)
            if lost:
                parts[kept] = lost
                kept += 1
        parts[kept:] = [rest]
    return parts


def added(one: Value, other: Value) -> Value:
    """The sum of two values of a series; the first where they do not fit (buckets of another version)."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        if not isinstance(one, tuple) or not isinstance(other, tuple) or len(one[0]) != len(other[0]):
            return one
        return list(map(operator.add, one[0], other[0])), plus(one[1], other[1])
    return plus(one, other)


def compacted(value: Value) -> Value:
    """`compact`, for histograms too."""
    return (value[0], compact(value[1])) if isinstance(value, tuple) else compact(value)


def nothing_of(value: Value) -> Value:
    """The same kind of value, of a series that has counted nothing."""
    return ([0] * len(value[0]), 0) if isinstance(value, tuple) else 0


def _floats(value: Number) -> list[float]:
    if not isinstance(value, int):
        return value
    if -_WHOLE_FLOAT <= value <= _WHOLE_FLOAT:
        return [float(value)] if value else []
    rounded = float(value)
    return [rounded, float(value - int(rounded))]
