"""The span processor: ids onto every span, and from every finished LLM span one record.

Upstream: any instrumentation's spans. Downstream: `folds` (records) and `events`. Runs on the
host's thread: it normalises, counts once and appends; metrics and sums happen elsewhere.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from otel_genapp import semconv
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.counting import Call, Contribution, Node, Tree
from otel_genapp.pipeline.dialects import Facts
from otel_genapp.pipeline.events import EventBus, LLMRequestStarted
from otel_genapp.pipeline.identity import add_ids
from otel_genapp.pipeline.redact import url_overrides
from otel_genapp.pipeline.strays import Strays
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMAmendment, LLMCall, Record
from otel_genapp.secrets import looks_secret, without_secrets

_guarded = quiet("pipeline")
_EXPLICIT_TIME_NS = 50_000_000
"""A span that started or ended this far from when we saw it do so was given its times by its maker."""
_LAST_NS = 1 << 63
_CANCELLATIONS = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")

_TEXTS_KEPT = 32
_PROVIDERS_ID = re.compile("(?:chatcmpl-|cmpl-|resp_|msg_|gen-)[A-Za-z0-9_-]{1,128}")
"""Ids of answers whose form no secret has."""

Emit = Callable[[Record, Context], None]


class GenappSpanProcessor(SpanProcessor):
    """Reads spans of every scope; `emit(record, context)` gets each record exactly once."""

    def __init__(
        self,
        tree: Tree,
        emit: Emit,
        *,
        events: EventBus,
        count_drop: Callable[[str, str], None],
    ) -> None:
        self._tree = tree
        self._emit = emit
        self._events = events
        self._count_drop = count_drop
        self._ids = itertools.count()
        self._prefix = os.urandom(6).hex()
        self._open: set[int] = set()
        self._strays = Strays()
        tree.on_abandon = self._abandon

    @property
    def in_flight(self) -> int:
        """LLM calls started and not finished in this process."""
        return len(self._open)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        with _guarded:
            self._start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        with _guarded:
            self._end(span)

    def holder_of(self, context: Context) -> int:
        """The id of the open LLM span that a call made in `context` belongs to; 0 for none."""
        span_id = trace.get_current_span(context).get_span_context().span_id
        node = self._tree.holder_of(span_id) if span_id else None
        return node.span_id if node is not None else 0

    def nest(self, span_id: int, attributes: Mapping[str, Any]) -> None:
        """Count what became known of a call inside that span, as far as the span does not say it."""
        with _guarded:
            node = self._tree.get(span_id)
            if node is None:
                return  # dropped, and counted as lost, when there were too many
            facts = dialects.read(attributes)
            found = self._tree.nest(node, facts=facts)
            if node.ended_s is None:
                self._fill(node, attributes)
            if found.call is None or not (found.has_tokens or facts.attempts) or not found.call.written:
                return
            self._emit(
                LLMAmendment(
                    call_id=found.call.call_id,
                    seq=found.seq if found.has_tokens else self._tree.take_seq(found.call),
                    at_ns=time.time_ns(),
                    provider=_clean(facts.provider) or "unknown",
                    model=_clean(facts.model) or "unknown",
                    usage=found.usage,
                    attempts=facts.attempts,
                    session_id=node.ids[0],
                    user_id=node.ids[1],
                ),
                Context(),
            )

    def shutdown(self) -> None:
        """Nothing to close: records are handed on as spans end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def abandon_all(self) -> None:
        """Count the calls still open as lost: nobody will hear how they ended."""
        for span_id in tuple(self._open):
            self._abandon(span_id)

    def reset(self) -> None:
        """Forget the parent's open spans; for the child of a fork."""
        self._tree.reset()
        self._strays.reset()
        self._open = set()
        self._prefix = os.urandom(6).hex()

    def _start(self, span: Span, parent_context: Context | None) -> None:
        span_context = span.get_span_context()
        attributes: Any = span.attributes or {}
        if semconv.CORRELATION_ID not in attributes:  # not one of our sampler's spans
            added = url_overrides(attributes) or {}
            if semconv.OPERATION in attributes:
                added[semconv.OPERATION] = attributes[semconv.OPERATION]
            add_ids(added, parent_context, trace_id=span_context.trace_id)
            span.set_attributes(added)
            attributes = span.attributes or {}
        if span.kind is SpanKind.SERVER:
            return
        span_class = dialects.classify(attributes)
        parent_id = span.parent.span_id if span.parent is not None else 0
        if span_class is None and parent_id not in self._tree and not self._names_kind_late(span):
            return
        scope = span.instrumentation_scope.name if span.instrumentation_scope is not None else ""
        lost = self._strays.parent_for(scope, self._tree.get(parent_id)) if span_class == "llm" else None
        node = self._tree.start(
            span_context.span_id,
            parent_id=parent_id,
            span_class=span_class,
            new_id=self._new_id(),
            scope=scope,
            lost=lost,
        )
        if scope != semconv.SCOPE and self._names_kind_late(span):
            self._strays.add(node)
        # The SDK drops the oldest attributes at its limit: those that say what the span is.
        node.start_attributes = _plain(span, attributes)
        if scope != semconv.SCOPE:
            # Some make their span when the answer is here, with the time it began.
            early_ns = node.started_wall_ns - (_given_ns(span.start_time) or node.started_wall_ns)
            node.began_s -= max(early_ns, 0) / 1e9
            if span_class == "llm":
                node.span = span
        if self._tree.is_outermost(node):
            self._open.add(span_context.span_id)
            self._events.publish_started(lambda: self._started(node))

    def _end(self, span: ReadableSpan) -> None:
        span_context = span.get_span_context()
        if span_context is None:
            return
        self._open.discard(span_context.span_id)
        node = self._tree.get(span_context.span_id)
        if node is None:
            attributes = span.attributes or {}
            if span.kind is SpanKind.SERVER or dialects.classify(attributes) is None:
                return
            parent_id = span.parent.span_id if span.parent is not None else 0
            node = self._tree.start(
                span_context.span_id, parent_id=parent_id, span_class=None, new_id=self._new_id()
            )
        self._strays.remove(node)
        merged = _plain(span, span.attributes or {})
        if span.dropped_attributes:
            merged = {**node.start_attributes, **merged}
        node.start_attributes, node.span = {}, None
        for key, value in node.filled.items():
            if merged.get(key) == value:
                del merged[key]  # counted where it comes from, not once more as this span's own word
        # What started as a call stays one.
        span_class = "llm" if node.call is not None else dialects.classify(merged)
        facts = dialects.read(merged)
        for _ in range(facts.invalid_numbers):
            self._count_drop("usage", "invalid_value")
        if span_class is None and node.call is None:
            facts = _NOTHING
        node.ids = (facts.session_id, facts.user_id)
        found = self._tree.end(node, span_class=span_class, facts=facts, new_id=self._new_id())
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context), Context())
        if found.is_request and found.call is not None:
            call = self._call(span, node=node, facts=facts, found=found, logical=found.call)
            self._emit(call, context)
            self._events.publish_finished(call)
        elif found.has_tokens:
            self._emit(self._amendment(span, facts=facts, found=found), context)

    @staticmethod
    def _fill(node: Node, attributes: Mapping[str, Any]) -> None:
        """Put on a span what a call inside it said and it does not (yet): tokens, the answer's id, attempts.

        Now and not at its end: an ending span takes no attributes. What its instrumentation still
        sets under the same names replaces these.
        """
        span = node.span
        if span is None or not span.is_recording():
            return
        there = span.attributes or {}
        said = dialects.read({**node.start_attributes, **there})
        own = dict(said.usage.by_type())
        for key, value in attributes.items():
            if key in node.filled:
                node.filled[key] = node.filled[key] + value if key in _ADDED_UP else value
            else:
                fact = _FACTS.get(key)
                known = own.get(fact, getattr(said, fact, None)) if fact is not None else None
                is_missing = known is None or known == () or (fact == "tool_calls" and not known)
                if not is_missing or key in there:
                    continue
                node.filled[key] = value
            span.set_attribute(key, node.filled[key])

    def _call(
        self, span: ReadableSpan, *, node: Node, facts: Facts, found: Contribution, logical: Call
    ) -> LLMCall:
        inner = logical.inner or _NOTHING
        span_context = span.get_span_context()
        status, error_type = _status(span, facts)
        started_at_ns, duration_ms = _times(span, node)
        return LLMCall(
            call_id=logical.call_id,
            started_at_ns=started_at_ns,
            duration_ms=duration_ms,
            status=status,
            error_type=_clean(error_type),
            provider=_clean(facts.provider or inner.provider) or "unknown",
            model=_clean(facts.model or inner.model) or "unknown",
            response_model=_clean(facts.response_model or inner.response_model),
            operation=_clean(facts.operation or inner.operation) or "chat",
            usage=found.usage,
            first_token_ms=_no_later(
                facts.first_token_ms if facts.first_token_ms is not None else inner.first_token_ms,
                duration_ms,
            ),
            tool_calls=facts.tool_calls or inner.tool_calls,
            tool_names=_clean_all(facts.tool_names or inner.tool_names),
            finish_reasons=_clean_all(facts.finish_reasons or inner.finish_reasons),
            response_id=_plain_id(facts.response_id or inner.response_id),
            cost_nano_usd=facts.cost_nano_usd if facts.cost_nano_usd is not None else inner.cost_nano_usd,
            service_tier=_clean(facts.service_tier or inner.service_tier),
            priced_parts=facts.priced_parts or inner.priced_parts,
            # Those of calls without a span were put on this one where the SDK lets us.
            attempts=_clean_all(
                facts.attempts if len(facts.attempts) >= len(inner.attempts) else inner.attempts
            ),
            session_id=facts.session_id or inner.session_id,
            user_id=facts.user_id or inner.user_id,
            correlation_id=facts.correlation_id,
            trace_id=f"{span_context.trace_id:032x}" if span_context else "",
            span_id=f"{span_context.span_id:016x}" if span_context else "",
        )

    def _amendment(self, span: ReadableSpan, *, facts: Facts, found: Contribution) -> LLMAmendment:
        status, _ = _status(span, facts)
        return LLMAmendment(
            call_id=found.call.call_id if found.call is not None else self._new_id(),
            seq=found.seq,
            at_ns=_given_ns(span.end_time) or time.time_ns(),
            status=status,
            provider=_clean(facts.provider) or "unknown",
            model=_clean(facts.model) or "unknown",
            usage=found.usage,
            session_id=facts.session_id,
            user_id=facts.user_id,
        )

    def _started(self, node: Node) -> LLMRequestStarted:
        said = dialects.read(node.start_attributes)
        return LLMRequestStarted(
            call_id=node.call.call_id if node.call is not None else "",
            at_ns=node.started_wall_ns,
            provider=_clean(said.provider) or "unknown",
            model=_clean(said.model) or "unknown",
            operation=_clean(said.operation) or "chat",
            session_id=said.session_id,
            user_id=said.user_id,
            correlation_id=said.correlation_id,
        )

    def _abandon(self, span_id: int) -> None:
        if span_id in self._open:
            self._open.discard(span_id)
            self._count_drop("llm_call", "never_ended")

    def _new_id(self) -> str:
        return f"{self._prefix}-{next(self._ids):x}"

    @staticmethod
    def _names_kind_late(span: Span) -> bool:
        scope = span.instrumentation_scope
        return scope is not None and dialects.is_dialect_scope(scope.name)


_NOTHING = dialects.read({})
_FACTS = {
    semconv.INPUT_TOKENS: "input", semconv.OUTPUT_TOKENS: "output", semconv.CACHE_READ_TOKENS: "cache_read",
    semconv.CACHE_WRITE_TOKENS: "cache_write", semconv.REASONING_TOKENS: "reasoning",
    semconv.RESPONSE_MODEL: "response_model", semconv.RESPONSE_ID: "response_id",
    semconv.FINISH_REASONS: "finish_reasons", semconv.FIRST_CHUNK_S: "first_token_ms",
    semconv.PROVIDER: "provider", semconv.REQUEST_MODEL: "model", semconv.OPERATION: "operation",
    semconv.TOOL_NAMES: "tool_names", semconv.TOOL_CALL_COUNT: "tool_calls",
    semconv.SERVICE_TIER: "service_tier", semconv.ATTEMPTS: "attempts",
}  # fmt: skip
"""Attribute -> the token kind, or the field of `Facts`, that says the same in any dialect."""
_ADDED_UP = frozenset({
    semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS, semconv.CACHE_READ_TOKENS, semconv.CACHE_WRITE_TOKENS,
    semconv.REASONING_TOKENS, semconv.TOOL_CALL_COUNT, semconv.TOOL_NAMES, semconv.ATTEMPTS,
    semconv.CACHE_WRITE_1H_TOKENS, semconv.AUDIO_INPUT_TOKENS, semconv.AUDIO_OUTPUT_TOKENS,
})  # fmt: skip


def _status(span: ReadableSpan, facts: Facts) -> tuple[str, str | None]:
    if facts.status in {semconv.SUCCESS, semconv.FAIL, semconv.CANCELLED}:
        return facts.status, facts.error_type
    failed = facts.error_type is not None or span.status.status_code is StatusCode.ERROR
    if not failed:
        return semconv.SUCCESS, None
    error_type = facts.error_type or _raised(span) or "unknown"
    if error_type.rpartition(".")[2] in _CANCELLATIONS:
        return semconv.CANCELLED, error_type
    return semconv.FAIL, error_type


def _raised(span: ReadableSpan) -> str | None:
    """The type of the last exception the span recorded."""
    for event in reversed(span.events):
        found = (event.attributes or {}).get("exception.type")
        if isinstance(found, str):
            return found
    return None


def _times(span: ReadableSpan, node: Node) -> tuple[int, float]:
    """Start in UTC nanoseconds, and milliseconds by the monotonic clock unless times were given."""
    started = _given_ns(span.start_time) or node.started_wall_ns
    ended = _given_ns(span.end_time) or started
    if node.scope == semconv.SCOPE:  # its maker has measured by the monotonic clock, see `capture.llm_span`
        return started, max(ended - started, 0) / 1e6
    measured_ms = ((node.ended_s or time.perf_counter()) - node.started_s) * 1e3
    if (
        abs(started - node.started_wall_ns) > _EXPLICIT_TIME_NS
        or abs(ended - time.time_ns()) > _EXPLICIT_TIME_NS
    ):
        return started, max(ended - started, 0) / 1e6
    return started, max(measured_ms, 0.0)


def _given_ns(moment_ns: object) -> int | None:
    """A span's time, or None for one no calendar knows: makers of spans hand in what they like."""
    if isinstance(moment_ns, int | float) and 0 < moment_ns < _LAST_NS:
        return int(moment_ns)
    return None


def _plain(span: ReadableSpan, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a span's attributes; of the SDK's own container by its dictionary, at a tenth of the cost."""
    inside = getattr(getattr(span, "_attributes", None), "_dict", None)
    return inside.copy() if type(inside) is dict else dict(attributes)


@lru_cache(maxsize=4096)
def _without_secrets(text: str) -> str:
    """Models, providers and reasons come again and again."""
    return without_secrets(text)


def _clean(text: str | None) -> str | None:
    return _without_secrets(text[:256]) if text else None


def _clean_all(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_without_secrets(text[:256]) for text in texts[:_TEXTS_KEPT]) if texts else ()


def _plain_id(text: str | None) -> str | None:
    if text is None or _PROVIDERS_ID.fullmatch(text) is not None:
        return text
    return None if looks_secret(text) else text[:256]


def _no_later(moment_ms: float | None, end_ms: float) -> float | None:
    """Two clocks read one after the other: the first token cannot come after the end."""
    return None if moment_ms is None else min(moment_ms, end_ms)
