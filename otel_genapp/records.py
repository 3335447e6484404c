"""The facts that travel to the ledger. Frozen; usage records are identified by (call_id, seq), others by their id.

Times are UTC nanoseconds since the epoch, durations milliseconds from a monotonic clock, money
whole nano-dollars. `None` means that nobody reported the number; it never stands for 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

from otel_genapp import semconv

TOKEN_LIMIT = 1_000_000_000


def whole_number(value: object) -> int | None:
    """`value` as a whole number of at least 0, or None: never a guess, never an exception."""
    if type(value) is int:
        return value if value >= 0 else None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value >= 0 and value.is_integer() else None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None
    if isinstance(value, SupportsIndex):  # numpy's integers too
        with suppress(TypeError, ValueError):
            number = operator.index(value)
            return number if number >= 0 else None
    return None


def whole_tokens(value: object) -> int | None:
    """`value` as a count of tokens from 0 to 1e9, or None."""
    number = whole_number(value)
    return number if number is not None and number <= TOKEN_LIMIT else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call. `input` includes the cached and cache-written, `output` the reasoning."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None

    @property
    def known(self) -> bool:
        """Whether anybody reported tokens for the call."""
        return self.input is not None or self.output is not None

    @property
    def has_tokens(self) -> bool:
        """Whether anybody reported more than 0 tokens of any kind."""
        return any(tokens for _, tokens in self.by_type())

    def by_type(self) -> tuple[tuple[str, int | None], ...]:
        """(`type` label, tokens) in the order of `semconv.TOKEN_TYPES`."""
        return (
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCall:
    """One finished logical LLM call, whoever made its span."""

    call_id: str
    seq: int = field(default=0, init=False)
    started_at_ns: int
    duration_ms: float
    status: str = semconv.SUCCESS
    error_type: str | None = None
    provider: str = "unknown"
    model: str = "unknown"
    response_model: str | None = None
    operation: str = "chat"
    usage: Usage = Usage()
    first_token_ms: float | None = None
    tool_calls: int = 0
    tool_names: tuple[str, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    response_id: str | None = None
    cost_nano_usd: int | None = None
    price_version: str | None = None
    """The price table the cost was computed with; None where the application or nobody said a cost."""
    service_tier: str | None = None
    """What the provider says it served the call as (`default`, `flex`, `priority`, …)."""
    priced_parts: tuple[tuple[str, int], ...] = ()
    """Tokens with a price of their own: `cache_write_1h`, `audio_input`, `audio_output`; parts of `usage`."""
    attempts: tuple[str, ...] = ()
    """Status of each HTTP attempt, in order; empty where no attempt was seen."""
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None
    trace_id: str = ""
    span_id: str = ""

    @property
    def usage_unknown(self) -> bool:
        """Whether the call was answered and nobody said how many tokens it took."""
        return self.status != semconv.FAIL and not self.usage.known

    @property
    def unpriced(self) -> bool:
        """Whether the call has no price although it may have cost something."""
        return self.cost_nano_usd is None and (self.status != semconv.FAIL or self.usage.has_tokens)

    @property
    def ended_at_ns(self) -> int:
        """When the call finished, UTC nanoseconds."""
        return self.started_at_ns + round(self.duration_ms * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMAmendment:
    """What became known outside a call's own record: an agent span's residual, a late child.

    It is no request: an amendment only adds `usage`, its cost and `attempts` to the totals of the
    session and model it names, among the successful or the failed ones as `status` says.
    """

    call_id: str
    seq: int
    at_ns: int
    status: str = semconv.SUCCESS
    provider: str = "unknown"
    model: str = "unknown"
    usage: Usage = Usage()
    cost_nano_usd: int | None = None
    price_version: str | None = None
    attempts: tuple[str, ...] = ()
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None

    @property
    def unpriced(self) -> bool:
        """Whether it adds tokens that have no price."""
        return self.cost_nano_usd is None and self.usage.has_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a user that the application has handled.

    What it took is that of the LLM calls with its correlation id; `response_time_ms` is what the
    application says itself.
    """

    id: str
    at_ns: int
    platform: str = "unknown"
    intent: str = "unknown"
    confidence: float | None = None
    """0 to 1."""
    response_time_ms: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    correlation_id: str | None = None
    trace_id: str = ""
    span_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a user thought of an answer: that of `correlation_id`, else the last one of the session."""

    id: str
    at_ns: int
    platform: str | None = None
    csat: float | None = None
    """1 to 5."""
    nps: float | None = None
    """0 to 10."""
    quality: float | None = None
    """0 to 1."""
    critical: bool = False
    words: tuple[str, ...] = ()
    """The critical words found in the comment."""
    comment: str | None = None
    """The text itself, where the application wants comments to be kept."""
    user_id: str | None = None
    session_id: str | None = None
    correlation_id: str | None = None

    def scores(self) -> tuple[tuple[str, float | None], ...]:
        """(`kind` label, score) in the order of `semconv.FEEDBACK_KINDS`."""
        return ("csat", self.csat), ("nps", self.nps), ("quality", self.quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a conversation, or of an intent that was recognised in it. None: nothing said of it."""

    id: str
    at_ns: int
    platform: str | None = None
    resolved: bool | None = None
    escalated: bool | None = None
    converted: bool | None = None
    abandoned: bool | None = None
    intent_correct: bool | None = None
    intent: str | None = None
    """The right intent, where somebody said it."""
    user_id: str | None = None
    session_id: str | None = None
    correlation_id: str | None = None

    @property
    def ends(self) -> bool:
        """Whether the conversation is over with it: it was resolved, was not, or was abandoned."""
        return self.resolved is not None or bool(self.abandoned)

    def held(self) -> tuple[str, ...]:
        """The `outcome` labels that hold."""
        said = (self.resolved, self.escalated, self.converted, self.abandoned)
        return tuple(name for name, holds in zip(semconv.OUTCOMES, said, strict=True) if holds)


UsageRecord = LLMCall | LLMAmendment
ConversationRecord = Message | Feedback | Outcome
Record = UsageRecord | ConversationRecord
"""What a journal holds."""


def parted(records: Iterable[Record]) -> tuple[list[UsageRecord], list[ConversationRecord]]:
    """The records of LLM usage, and those of conversations, each in their order."""
    usage: list[UsageRecord] = []
    facts: list[ConversationRecord] = []
    for record in records:
        if isinstance(record, UsageRecord):
            usage.append(record)
        else:
            facts.append(record)
    return usage, facts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent:
    """Something that happened within a kept span: an exception."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSpan:
    """A finished span as it is kept for whoever asks what happened: cleaned, bounded, of plain values.

    `cut` says how many attributes and events are missing here or shorter than they were.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    correlation_id: str
    name: str
    kind: str = "internal"
    scope: str = ""
    service: str = ""
    started_at_ns: int
    duration_ms: float
    status: str = "unset"
    """unset, ok or error."""
    status_message: str = ""
    error_type: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[KeptEvent, ...] = ()
    links: int = 0
    cut: int = 0

    @property
    def ended_at_ns(self) -> int:
        """When it ended, UTC nanoseconds."""
        return self.started_at_ns + round(self.duration_ms * 1e6)

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return self.status == "error" or self.error_type is not None
