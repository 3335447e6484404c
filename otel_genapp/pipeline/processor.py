"""The span processor: ids onto every span, and from every finished LLM span one record.

Upstream: any instrumentation's spans. Downstream: `folds` (records) and `events`. Runs on the
host's thread: it normalises, counts once and appends; metrics and sums happen elsewhere.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from otel_genapp import semconv
from otel_genapp.context import OWN_SPAN
from otel_genapp.hub import CallOutcome
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.counting import Tree
from otel_genapp.pipeline.dialects import Facts
from otel_genapp.pipeline.events import EventBus, LLMRequestStarted
from otel_genapp.pipeline.finished import amendment, call_record, clean, given_ns
from otel_genapp.pipeline.identity import add_ids
from otel_genapp.pipeline.nodes import Node
from otel_genapp.pipeline.redact import url_overrides
from otel_genapp.pipeline.strays import Strays
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMAmendment, UsageRecord
from otel_genapp.sdk_attributes import attributes_of

_guarded = quiet("pipeline")


Emit = Callable[[UsageRecord, Context], None]


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

    def tell(self, span_id: int, outcome: CallOutcome, *, status: str | None, error_type: str | None) -> None:
        """Take the word of a span's maker for what the span would be read for at its end."""
        with _guarded:
            node = self._tree.get(span_id)
            if node is not None:
                node.told = dialects.told(
                    outcome, node.start_attributes, status=status, error_type=error_type
                )

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
                    provider=clean(facts.provider) or "unknown",
                    model=clean(facts.model) or "unknown",
                    usage=found.usage,
                    attempts=facts.attempts,
                    session_id=node.ids[0],
                    user_id=node.ids[1],
                    correlation_id=node.ids[2],
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
            new_id=self.new_id(),
            scope=scope,
            lost=lost,
        )
        if scope != semconv.SCOPE and self._names_kind_late(span):
            self._strays.add(node)
        # The SDK drops the oldest attributes at its limit: those that say what the span is.
        node.start_attributes = attributes_of(span)
        if scope != semconv.SCOPE:
            # Some make their span when the answer is here, with the time it began.
            early_ns = node.started_wall_ns - (given_ns(span.start_time) or node.started_wall_ns)
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
                span_context.span_id, parent_id=parent_id, span_class=None, new_id=self.new_id()
            )
        if node.place is not None:
            self._strays.remove(node)
        facts = node.told
        if facts is None or node.call is None:
            span_class, facts = self._read(span, node)
        else:
            span_class = "llm"
        node.told, node.start_attributes, node.span = None, _NO_ATTRIBUTES, None
        node.ids = (facts.session_id, facts.user_id, facts.correlation_id)
        found = self._tree.end(node, span_class=span_class, facts=facts, new_id=self.new_id())
        scope = span.instrumentation_scope
        whose = Context({OWN_SPAN: scope is not None and scope.name == semconv.SCOPE})
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context), whose)
        if found.is_request and found.call is not None:
            call = call_record(span, node=node, facts=facts, found=found, logical=found.call)
            self._emit(call, context)
            self._events.publish_finished(call)
        elif found.has_tokens:
            call_id = found.call.call_id if found.call is not None else self.new_id()
            self._emit(amendment(span, facts=facts, found=found, call_id=call_id), context)

    def _read(self, span: ReadableSpan, node: Node) -> tuple[dialects.SpanClass | None, Facts]:
        """What kind of span it was, and what its attributes say."""
        merged = attributes_of(span)
        if span.dropped_attributes:
            merged = {**node.start_attributes, **merged}
        for key, value in node.filled.items():
            if merged.get(key) == value:
                del merged[key]  # counted where it comes from, not once more as this span's own word
        # What started as a call stays one.
        span_class = "llm" if node.call is not None else dialects.classify(merged)
        facts = dialects.read(merged)
        for _ in range(facts.invalid_numbers):
            self._count_drop("usage", "invalid_value")
        return span_class, _NOTHING if span_class is None and node.call is None else facts

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

    def _started(self, node: Node) -> LLMRequestStarted:
        said = dialects.read(node.start_attributes)
        return LLMRequestStarted(
            call_id=node.call.call_id if node.call is not None else "",
            at_ns=node.started_wall_ns,
            provider=clean(said.provider) or "unknown",
            model=clean(said.model) or "unknown",
            operation=clean(said.operation) or "chat",
            session_id=said.session_id,
            user_id=said.user_id,
            correlation_id=said.correlation_id,
        )

    def _abandon(self, span_id: int) -> None:
        if span_id in self._open:
            self._open.discard(span_id)
            self._count_drop("llm_call", "never_ended")

    def new_id(self) -> str:
        """An id no other process has; without a system call, which lets other threads in."""
        return f"{self._prefix}-{next(self._ids):x}"

    @staticmethod
    def _names_kind_late(span: Span) -> bool:
        scope = span.instrumentation_scope
        return scope is not None and dialects.is_dialect_scope(scope.name)


_NOTHING = dialects.read({})
_NO_ATTRIBUTES: Mapping[str, object] = MappingProxyType({})
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
