"""The span processor: ids onto every span, and from every finished LLM span one record.

Upstream: any instrumentation's spans. Downstream: `folds` (records) and `events`. Runs on the
host's thread: it normalises, counts once and appends; metrics and sums happen elsewhere.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from otel_genapp import semconv
from otel_genapp.context import bound_in
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.counting import Call, Contribution, Node, Tree
from otel_genapp.pipeline.dialects import Facts
from otel_genapp.pipeline.events import EventBus, LLMRequestStarted
from otel_genapp.pipeline.redact import clean_attributes
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMAmendment, LLMCall, Record
from otel_genapp.secrets import without_secrets

_guarded = quiet("pipeline")
_EXPLICIT_TIME_NS = 50_000_000
"""A span whose start is this far from when we saw it start was given its times by its maker."""
_CANCELLATIONS = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")

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
        self.cleans_urls = False
        """Set on providers whose sampler cannot clean the start attributes for us."""
        self._ids = itertools.count()
        self._prefix = os.urandom(6).hex()
        self._open: set[int] = set()

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

    def shutdown(self) -> None:
        """Nothing to close: records are handed on as spans end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def reset(self) -> None:
        """Forget the parent's open spans; for the child of a fork."""
        self._tree.reset()
        self._open = set()
        self._prefix = os.urandom(6).hex()

    def _start(self, span: Span, parent_context: Context | None) -> None:
        span_context = span.get_span_context()
        bound = bound_in(parent_context)
        ids: dict[str, Any] = {
            semconv.CORRELATION_ID: bound.correlation_id or f"{span_context.trace_id:032x}"
        }
        if bound.session_id is not None:
            ids[semconv.SESSION_ID] = bound.session_id
        if bound.user_id is not None:
            ids[semconv.USER_ID] = bound.user_id
        attributes: Any = span.attributes or {}
        if self.cleans_urls:
            ids.update(clean_attributes(attributes) or {})
        span_class = dialects.classify(attributes)
        parent_id = span.parent.span_id if span.parent is not None else 0
        if span_class is not None or parent_id in self._tree or self._names_kind_late(span):
            if span_class == "llm" and bound.session_id is not None:
                ids[semconv.CONVERSATION_ID] = bound.session_id
            node = self._tree.start(
                span_context.span_id, parent_id=parent_id, span_class=span_class, new_id=self._new_id()
            )
            # The SDK drops the oldest attributes at its limit: those that say what the span is.
            node.start_attributes = {**attributes, **ids}
            if self._tree.is_outermost(node):
                self._open.add(span_context.span_id)
                self._events.publish(self._started(node, bound.session_id))
        span.set_attributes(ids)

    def _end(self, span: ReadableSpan) -> None:
        span_context = span.get_span_context()
        if span_context is None:
            return
        node = self._tree.get(span_context.span_id)
        if node is None:
            attributes = span.attributes or {}
            if dialects.classify(attributes) is None:
                return
            parent_id = span.parent.span_id if span.parent is not None else 0
            node = self._tree.start(
                span_context.span_id, parent_id=parent_id, span_class=None, new_id=self._new_id()
            )
        merged = {**node.start_attributes, **(span.attributes or {})}
        span_class = dialects.classify(merged)
        facts = dialects.read(merged)
        for _ in range(facts.invalid_numbers):
            self._count_drop("usage", "invalid_value")
        self._open.discard(span_context.span_id)
        if span_class is None:
            facts = _NOTHING
        found = self._tree.end(node, span_class=span_class, facts=facts, new_id=self._new_id())
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context), Context())
        if found.is_request and found.call is not None:
            call = self._call(span, node=node, facts=facts, found=found, logical=found.call)
            self._emit(call, context)
            self._events.publish_finished(call)
        elif found.has_tokens:
            self._emit(self._amendment(span, facts=facts, found=found), context)

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
            first_token_ms=facts.first_token_ms if facts.first_token_ms is not None else inner.first_token_ms,
            tool_calls=facts.tool_calls or inner.tool_calls,
            tool_names=facts.tool_names or inner.tool_names,
            finish_reasons=facts.finish_reasons or inner.finish_reasons,
            response_id=facts.response_id or inner.response_id,
            cost_nano_usd=facts.cost_nano_usd if facts.cost_nano_usd is not None else inner.cost_nano_usd,
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
            at_ns=span.end_time or time.time_ns(),
            status=status,
            provider=_clean(facts.provider) or "unknown",
            model=_clean(facts.model) or "unknown",
            usage=found.usage,
            session_id=facts.session_id,
            user_id=facts.user_id,
        )

    def _started(self, node: Node, session_id: str | None) -> LLMRequestStarted:
        said = dialects.read(node.start_attributes)
        return LLMRequestStarted(
            call_id=node.call.call_id if node.call is not None else "",
            at_ns=node.started_wall_ns,
            provider=_clean(said.provider) or "unknown",
            model=_clean(said.model) or "unknown",
            operation=_clean(said.operation) or "chat",
            session_id=session_id or said.session_id,
            user_id=said.user_id,
            correlation_id=said.correlation_id,
        )

    def _new_id(self) -> str:
        return f"{self._prefix}-{next(self._ids):x}"

    @staticmethod
    def _names_kind_late(span: Span) -> bool:
        scope = span.instrumentation_scope
        return scope is not None and dialects.is_dialect_scope(scope.name)


_NOTHING = dialects.read({})


def _status(span: ReadableSpan, facts: Facts) -> tuple[str, str | None]:
    if facts.status in {semconv.SUCCESS, semconv.FAIL, semconv.CANCELLED}:
        return facts.status, facts.error_type
    failed = facts.error_type is not None or span.status.status_code is StatusCode.ERROR
    if not failed:
        return semconv.SUCCESS, None
    error_type = facts.error_type or "unknown"
    if error_type.rpartition(".")[2] in _CANCELLATIONS:
        return semconv.CANCELLED, error_type
    return semconv.FAIL, error_type


def _times(span: ReadableSpan, node: Node) -> tuple[int, float]:
    """Start in UTC nanoseconds, and milliseconds by the monotonic clock unless times were given."""
    started = span.start_time or node.started_wall_ns
    ended = span.end_time or started
    measured_ms = ((node.ended_s or time.perf_counter()) - node.started_s) * 1e3
    if abs(started - node.started_wall_ns) > _EXPLICIT_TIME_NS:
        return started, max(ended - started, 0) / 1e6
    return started, max(measured_ms, 0.0)


def _clean(text: str | None) -> str | None:
    return without_secrets(text[:256]) if text else None
