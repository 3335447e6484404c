"""Sums of records as columns: written once here for every table that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Double, Text

from otel_genapp.ledger.rollup import Rollup, Tokens

LIMIT = 2**63 - 1
"""The largest number a database holds; sums that would be larger stay there."""
_COUNTS: Final = (
    "calls", "successful", "failed", "cancelled", "with_tools", "tool_calls", "unknown_usage", "unpriced",
    "unpriced_amendments", "cost_nano_usd",
)  # fmt: skip
_TOKENS: Final = ("input", "output", "cache_read", "cache_write", "reasoning")
_TIMES: Final = ("first_at_ns", "last_at_ns")
_DURATIONS: Final = ("duration_ms", "failed_duration_ms")
_whole_of = attrgetter(
    *_COUNTS,
    *(f"tokens.{name}" for name in _TOKENS),
    *(f"failed_tokens.{name}" for name in _TOKENS),
    *_TIMES,
)
_durations_of = attrgetter(*_DURATIONS)
_rollup: Callable[..., Rollup] = Rollup
"""Unchecked: nobody can tell how many values a slice has."""
_FIRST_TOKEN, _FIRST_FAILED_TOKEN, _FIRST_TIME = 10, 15, 20
_WHOLE = 22


def sum_columns() -> list[Column[Any]]:
    """The columns of a `Rollup`; `buckets` is `bucket:calls` of each, with blanks between."""
    return [
        *(Column(name, BigInteger, nullable=False) for name in _COUNTS),
        *(Column(f"{name}_tokens", BigInteger, nullable=False) for name in _TOKENS),
        *(Column(f"failed_{name}_tokens", BigInteger, nullable=False) for name in _TOKENS),
        *(Column(name, BigInteger, nullable=False) for name in _TIMES),
        *(Column(name, Double, nullable=False) for name in _DURATIONS),
        Column("buckets", Text, nullable=False),
    ]


def to_row(sums: Rollup) -> tuple[Any, ...]:
    """The values of the columns, in their order; of sums that at least one record was added to."""
    whole = _whole_of(sums)
    if max(whole) > LIMIT or min(whole) < -LIMIT:
        whole = tuple(within(value) for value in whole)
    buckets = " ".join([f"{bucket}:{calls}" for bucket, calls in sums.buckets.items()])
    return (*whole, *_durations_of(sums), buckets)


def from_row(row: Sequence[Any]) -> Rollup:
    """The sums in the last columns of a row."""
    row = row[-_WHOLE - 3 :]
    return _rollup(
        *row[:_FIRST_TOKEN],
        *row[_WHOLE : _WHOLE + 2],
        tokens=Tokens(*row[_FIRST_TOKEN:_FIRST_FAILED_TOKEN]),
        failed_tokens=Tokens(*row[_FIRST_FAILED_TOKEN:_FIRST_TIME]),
        buckets={int(bucket): int(calls) for bucket, calls in [part.split(":") for part in row[-1].split()]},
        first_at_ns=row[_FIRST_TIME],
        last_at_ns=row[_FIRST_TIME + 1],
    )


def within(number: int) -> int:
    """The nearest number that a database holds."""
    return number if -LIMIT <= number <= LIMIT else max(-LIMIT, min(number, LIMIT))
