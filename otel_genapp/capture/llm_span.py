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

    def attributes(self) -> dict[str, Any]:
        """The span attributes that say it."""
        found: dict[str, Any] = {
            semconv.INPUT_TOKENS: self.input_tokens,
            semconv.OUTPUT_TOKENS: self.output_tokens,
            semconv.CACHE_READ_TOKENS: self.cache_read_tokens,
            semconv.CACHE_WRITE_TOKENS: self.cache_write_tokens,
            semconv.REASONING_TOKENS: self.reasoning_tokens,
            semconv.RESPONSE_MODEL: self.response_model,
            semconv.RESPONSE_ID: self.response_id,
            semconv.FINISH_REASONS: self.finish_reasons or None,
            semconv.FIRST_CHUNK_S: self.first_token_s,
            semconv.COST_USD: self.cost_usd,
        }
        if self.tool_names:
            found[semconv.TOOL_NAMES] = tuple(self.tool_names)
            found[semconv.TOOL_CALL_COUNT] = len(self.tool_names)
        return {key: value for key, value in found.items() if value is not None}


class LLMSpan:
    """One LLM call as a CLIENT span; `finish` ends it once, however often it is called."""

    __slots__ = ("_finished", "_started_s", "outcome", "span")

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
        self.span: Span = tracer.start_span(
            f"{operation} {model}", context=context, kind=SpanKind.CLIENT, attributes=attributes
        )
        # After the span's own start, so that no first token comes later than the call is long.
        self._started_s = time.perf_counter()

    def first_token(self) -> None:
        """Mark that the first chunk of the answer is here; later calls change nothing."""
        if self.outcome.first_token_s is None:
            self.outcome.first_token_s = time.perf_counter() - self._started_s

    def finish(self, status: str = semconv.SUCCESS, error_type: str | None = None) -> bool:
        """End the span with `success`, `fail` or `cancelled`; False when it had ended before."""
        if self._finished:
            return False
        self._finished = True
        attributes = self.outcome.attributes()
        if status != semconv.SUCCESS:
            attributes[semconv.LLM_STATUS] = status
            attributes[semconv.ERROR_TYPE] = error_type or "unknown"
            self.span.set_status(StatusCode.ERROR)
        self.span.set_attributes(attributes)
        self.span.end()
        return True
