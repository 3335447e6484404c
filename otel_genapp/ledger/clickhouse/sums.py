"""Sums as ClickHouse makes them, and as `Rollup`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from otel_genapp import semconv
from otel_genapp.ledger.clickhouse.schema import RECORDS
from otel_genapp.ledger.rollup import Rollup, Tokens

_ADDED = {
    "calls": "count()",
    "calls_with_tools": "countIf(tool_calls > 0)",
    "all_tool_calls": "sum(tool_calls)",
    "unknown": "sum(is_unknown)",
    "unpriced": "sum(is_unpriced)",
    "cost": "sum(cost_nano_usd)",
    "duration": "sum(duration_ns)",
    "input": "sum(input_tokens)",
    "output": "sum(output_tokens)",
    "cache_read": "sum(cache_read_tokens)",
    "cache_write": "sum(cache_write_tokens)",
    "reasoning": "sum(reasoning_tokens)",
}
_EDGES = {
    "first_at": "min(least(started_at_ns, at_ns))",
    "last_at": "max(greatest(started_at_ns, at_ns))",
    "first_number": "min(number)",
}
_OF_RECORDS = ", ".join(f"{sql} AS {name}" for name, sql in {**_ADDED, **_EDGES}.items())
_OF_BUCKETS = ", ".join(
    [
        *(f"sum({name})" for name in _ADDED),
        *("min(first_at)", "max(last_at)", "min(first_number)", "groupArray(bucket)", "groupArray(calls)"),
    ]
)


def sums_query(*, where: str, by: Mapping[str, str] = MappingProxyType({})) -> str:
    """The query for the sums of the records for which `where` holds, for each value of `by`: name -> SQL."""
    keys = ", ".join((*by, "is_call", "status"))
    values = ", ".join((*(f"{sql} AS {name}" for name, sql in by.items()), "is_call", "status"))
    # In two steps: what falls into each bucket, and of these few rows the sums.
    inner = (
        f"SELECT {values}, bucket, {_OF_RECORDS} FROM {RECORDS.name} FINAL "  # noqa: S608 - our own names
        f"WHERE {where} GROUP BY {keys}, bucket"
    )
    return f"SELECT {keys}, {_OF_BUCKETS} FROM ({inner}) GROUP BY {keys} ORDER BY min(first_number), {keys}"  # noqa: S608 - as above


def sums_of(row: Sequence[Any]) -> Rollup:
    """The sums in the last columns of a row."""
    is_call, status, calls, with_tools, tool_calls, unknown, unpriced, cost, duration_ns = row[-19:-10]
    first_at, last_at, _, buckets, counts = row[-5:]
    succeeded = status == semconv.SUCCESS
    sums = Rollup(cost_nano_usd=cost, first_at_ns=first_at, last_at_ns=last_at)
    if succeeded:
        sums.tokens = Tokens(*row[-10:-5])
    else:
        sums.failed_tokens = Tokens(*row[-10:-5])
    if not is_call:
        sums.unpriced_amendments = unpriced
        return sums
    sums.calls, sums.with_tools, sums.tool_calls = calls, with_tools, tool_calls
    sums.unknown_usage, sums.unpriced = unknown, unpriced
    sums.buckets = dict(zip(buckets, counts, strict=True))
    if succeeded:
        sums.successful, sums.duration_ms = calls, duration_ns / 1e6
    else:
        sums.failed, sums.failed_duration_ms = calls, duration_ns / 1e6
        sums.cancelled = calls if status == semconv.CANCELLED else 0
    return sums
