"""Sums of records as columns: written once here for every table that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Double, Text

from otel_genapp.ledger.rollup import Rollup, Tokens

_COUNTS = (
    "calls", "successful", "failed", "cancelled", "with_tools", "tool_calls", "unknown_usage", "unpriced",
    "unpriced_amendments", "cost_nano_usd",
)  # fmt: skip
_DURATIONS = ("duration_ms", "failed_duration_ms")
_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
_TIMES = ("first_at_ns", "last_at_ns")


def sum_columns() -> list[Column[Any]]:
    """The columns of a `Rollup`; `buckets` is JSON of log bucket -> calls."""
    return [
        *(Column(name, BigInteger, nullable=False) for name in _COUNTS),
        *(Column(name, Double, nullable=False) for name in _DURATIONS),
        *(Column(f"{name}_tokens", BigInteger, nullable=False) for name in _TOKENS),
        *(Column(f"failed_{name}_tokens", BigInteger, nullable=False) for name in _TOKENS),
        *(Column(name, BigInteger) for name in _TIMES),
        Column("buckets", Text, nullable=False),
    ]


def to_row(sums: Rollup) -> dict[str, Any]:
    """The values of the columns."""
    row: dict[str, Any] = {name: getattr(sums, name) for name in (*_COUNTS, *_DURATIONS, *_TIMES)}
    for name in _TOKENS:
        row[f"{name}_tokens"] = getattr(sums.tokens, name)
        row[f"failed_{name}_tokens"] = getattr(sums.failed_tokens, name)
    row["buckets"] = json.dumps(sums.buckets, separators=(",", ":"))
    return row


def from_row(row: Mapping[Any, Any]) -> Rollup:
    """The sums in a row."""
    return Rollup(
        **{name: row[name] for name in (*_COUNTS, *_DURATIONS, *_TIMES)},
        tokens=Tokens(**{name: row[f"{name}_tokens"] for name in _TOKENS}),
        failed_tokens=Tokens(**{name: row[f"failed_{name}_tokens"] for name in _TOKENS}),
        buckets={int(bucket): count for bucket, count in json.loads(row["buckets"]).items()},
    )
