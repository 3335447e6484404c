"""LLM spans, made with the plain OTel API after the GenAI conventions. The only place that does.

Names, kinds and attributes: OpenTelemetry GenAI semantic conventions, inference spans. What is
needed to decide on sampling is there at the start, the rest is set at the end in one call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from otel_genapp import semconv
from otel_genapp.hub import Calls
from otel_genapp.sdk_attributes import add_attributes

_ATTRIBUTES = (
    (semconv.INPUT_TOKENS, "input_tokens"),
    (semconv.OUTPUT_TOKENS, "output_tokens"),
    (semconv.CACHE_READ_TOKENS, "cache_read_tokens"),
    (semconv.CACHE_WRITE_TOKENS, "cache_write_tokens"),
    (semconv.REASONING_TOKENS, "reasoning_tokens"),
    (semconv.RESPONSE_MODEL, "response_model"),
    (semconv.RESPONSE_ID, "response_id"),
    (semconv.FIRST_CHUNK_S, "first_token_s"),
    (semconv.COST_USD, "cost_usd"),
    (semconv.SERVICE_TIER, "service_tier"),
    (semconv.CACHE_WRITE_1H_TOKENS, "cache_write_1h_tokens"),
    (semconv.AUDIO_INPUT_TOKENS, "audio_input_tokens"),
    (semconv.AUDIO_OUTPUT_TOKENS, "audio_output_tokens"),
)
"""Attribute -> field of `LLMOutcome`, for the fields that are one value or nothing."""


@dataclass(slots=True)
class LLMOutcome:
    """What becomes known of a call while it runs; None where nobody said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    tool_names: list[str] = field(default_factory=list)
    first_token_s: float | None = None
    cost_usd: float | None = None
    service_tier: str | None = None
    cache_write_1h_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    attempts: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Further attributes of the span, by their names."""

    def attributes(self) -> dict[str, Any]:
        """The span attributes that say it."""
        found: dict[str, Any] = {}
        for key, name in _ATTRIBUTES:
            value = getattr(self, name)
            if value is not None:
                found[key] = value
        if self.finish_reasons:
            found[semconv.FINISH_REASONS] = self.finish_reasons
        if self.tool_names:
            found[semconv.TOOL_NAMES] = tuple(self.tool_names)
            found[semconv.TOOL_CALL_COUNT] = len(self.tool_names)
        if self.attempts:
            found[semconv.ATTEMPTS] = tuple(self.attempts)
        if self.extra:
            found.update(self.extra)
        return found


class LLMSpan:
    """One LLM call as a CLIENT span; `finish` ends it once, however often it is called."""

    __slots__ = ("_finished", "_started_ns", "_started_s", "outcome", "span")

    def __init__(
        self,
        tracer: Tracer,
        model: str,
        *,
        provider: str,
        operation: str,
        extra: Mapping[str, Any] | None = None,
        context: Context | None = None,
    ) -> None:
        attributes: dict[str, Any] = {
            semconv.OPERATION: operation,
            semconv.PROVIDER: provider,
            semconv.REQUEST_MODEL: model,
        }
        if extra:
            attributes.update(extra)
        self.outcome = LLMOutcome()
        self._finished = False
        self._started_ns = time.time_ns()
        self.span: Span = tracer.start_span(
            f"{operation} {model}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._started_ns,
        )
        # After the span's own start, so that no first token comes later than the call is long.
        self._started_s = time.perf_counter()

    def first_token(self) -> None:
        """Mark that the first chunk of the answer is here; later calls change nothing."""
        if self.outcome.first_token_s is None:
            self.outcome.first_token_s = time.perf_counter() - self._started_s

    def finish(
        self,
        status: str = semconv.SUCCESS,
        error_type: str | None = None,
        *,
        ended_s: float | None = None,
        tell: Calls | None = None,
    ) -> bool:
        """End the span with `success`, `fail` or `cancelled`; False when it had ended before.

        `ended_s` is when the call ended by `time.perf_counter`, if that is not now. `tell` are the
        calls to be told at once what else would be read from the span; only for one that nobody
        but its maker can have put attributes on.
        """
        if self._finished:
            return False
        self._finished = True
        attributes = self.outcome.attributes()
        if status != semconv.SUCCESS:
            error_type = error_type or "unknown"
            attributes[semconv.LLM_STATUS] = status
            attributes[semconv.ERROR_TYPE] = error_type
            self.span.set_status(StatusCode.ERROR)
        if tell is None:
            self.span.set_attributes(attributes)
        elif self.span.is_recording():
            add_attributes(self.span, attributes)
            tell.tell(
                self.span.get_span_context().span_id,
                self.outcome,
                status=None if status == semconv.SUCCESS else status,
                error_type=error_type,
            )
        seconds = (time.perf_counter() if ended_s is None else ended_s) - self._started_s
        # By the monotonic clock: the wall clock may be set while a call runs.
        self.span.end(self._started_ns + int(max(seconds, 0.0) * 1e9))
        return True
