"""The sums of a set of records: one session's, one model's, one minute's. Pure arithmetic.

Sums of duration and tokens are kept apart for successful and failed calls, so that averages over
the successful ones are exact and both together equal the counters.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from otel_genapp import semconv
from otel_genapp.records import LLMAmendment, LLMCall, Usage, UsageRecord

_GAMMA = 1.04
_LOG_GAMMA = math.log(_GAMMA)
"""Buckets grow by 4 %, so a quantile read from them is at most 2 % off, in every store."""


def duration_bucket(duration_ms: float) -> int:
    """The number of the log bucket a duration falls into; microseconds are the finest."""
    return math.ceil(math.log(max(duration_ms, 0.001)) / _LOG_GAMMA)


def quantile_ms(buckets: dict[int, int], q: float) -> float | None:
    """The `q` quantile of the durations counted in `buckets`, in milliseconds; None for none."""
    total = sum(buckets.values())
    if not total:
        return None
    rank = max(math.ceil(q * total), 1)
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return 2 * _GAMMA**bucket / (_GAMMA + 1)
    return None


@dataclass(slots=True)
class Tokens:
    """Token sums; a call that reported nothing adds nothing here and counts as unknown."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def add(self, usage: Usage) -> None:
        """Add what was reported."""
        if usage.input:
            self.input += usage.input
        if usage.output:
            self.output += usage.output
        if usage.cache_read:
            self.cache_read += usage.cache_read
        if usage.cache_write:
            self.cache_write += usage.cache_write
        if usage.reasoning:
            self.reasoning += usage.reasoning


@dataclass(slots=True)
class Rollup:
    """Counts and sums of records, in constant memory but for the quantile buckets (≤ 500)."""

    calls: int = 0
    successful: int = 0
    failed: int = 0
    cancelled: int = 0
    with_tools: int = 0
    tool_calls: int = 0
    unknown_usage: int = 0
    unpriced: int = 0
    unpriced_amendments: int = 0
    """Amendments with tokens and no price: no requests, but they leave the cost open too."""
    cost_nano_usd: int = 0
    duration_ms: float = 0.0
    failed_duration_ms: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    failed_tokens: Tokens = field(default_factory=Tokens)
    buckets: dict[int, int] = field(default_factory=dict)
    first_at_ns: int | None = None
    last_at_ns: int | None = None

    def add(self, record: UsageRecord) -> None:
        """Fold one record in."""
        succeeded = record.status == semconv.SUCCESS
        (self.tokens if succeeded else self.failed_tokens).add(record.usage)
        if record.cost_nano_usd:
            self.cost_nano_usd += record.cost_nano_usd
        if isinstance(record, LLMAmendment):
            self.unpriced_amendments += record.unpriced
            self._see(record.at_ns)
            return
        self.calls += 1
        if succeeded:
            self.successful += 1
            self.duration_ms += record.duration_ms
        else:
            self.failed += 1
            self.cancelled += record.status == semconv.CANCELLED
            self.failed_duration_ms += record.duration_ms
        if record.tool_calls > 0:
            self.with_tools += 1
            self.tool_calls += record.tool_calls
        self.unknown_usage += record.usage_unknown
        self.unpriced += record.unpriced
        bucket = duration_bucket(record.duration_ms)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self._see(record.started_at_ns)
        self._see(record.ended_at_ns)

    def merge(self, other: Rollup) -> None:
        """Add the sums of `other`, which covers other records."""
        for name in (
            "calls", "successful", "failed", "cancelled", "with_tools", "tool_calls", "unknown_usage",
            "unpriced", "unpriced_amendments", "cost_nano_usd", "duration_ms", "failed_duration_ms",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.tokens, other.tokens), (self.failed_tokens, other.failed_tokens)):
            for name in ("input", "output", "cache_read", "cache_write", "reasoning"):
                setattr(mine, name, getattr(mine, name) + getattr(theirs, name))
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        for moment in (other.first_at_ns, other.last_at_ns):
            if moment is not None:
                self._see(moment)

    def _see(self, moment_ns: int) -> None:
        if self.first_at_ns is None or moment_ns < self.first_at_ns:
            self.first_at_ns = moment_ns
        if self.last_at_ns is None or moment_ns > self.last_at_ns:
            self.last_at_ns = moment_ns


MODELS_KEPT = 50
USERS_KEPT = 50
CALLS_KEPT = 20


@dataclass(slots=True)
class SessionRollup:
    """One session: its sums, models, users and its newest calls (bounded)."""

    session_id: str
    sums: Rollup = field(default_factory=Rollup)
    models: dict[str, None] = field(default_factory=dict)
    users: dict[str, None] = field(default_factory=dict)
    newest: deque[LLMCall] = field(default_factory=lambda: deque(maxlen=CALLS_KEPT))

    def add(self, record: UsageRecord) -> None:
        """Fold one record in."""
        self.sums.add(record)
        if len(self.models) < MODELS_KEPT:
            self.models[record.model] = None
        if record.user_id is not None and len(self.users) < USERS_KEPT:
            self.users[record.user_id] = None
        if isinstance(record, LLMCall):
            self.newest.append(record)
