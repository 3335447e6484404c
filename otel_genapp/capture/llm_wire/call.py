"""The logical call behind one or more HTTP attempts, and who holds it.

Where an instrumentation around the SDK holds the call already, no span is made here: what the wire
knows is handed over and fills only what that one does not say itself. Holders are found by the
context data of opentelemetry-util-genai (`llm_call` leaves the same), and as open LLM spans.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY as SUPPRESS_HTTP
from opentelemetry.context import Context, get_value, set_value

from otel_genapp import semconv
from otel_genapp.capture.llm_nesting import EMBEDDING_CONTEXT_KEY, INFERENCE_CONTEXT_KEY, publish
from otel_genapp.capture.llm_span import LLMOutcome, LLMSpan
from otel_genapp.capture.llm_wire.asked import Asked
from otel_genapp.hub import Hub


class WireCall:
    """One logical call: begun with its first attempt, finished once."""

    __slots__ = ("_data", "_finished", "_holder_id", "_running", "_span", "asked", "outcome", "started_s")

    def __init__(self, running: Hub, asked: Asked, *, context: Context) -> None:
        self.asked = asked
        self._running = running
        self._finished = False
        self._span: LLMSpan | None = None
        self._holder_id = 0
        key = EMBEDDING_CONTEXT_KEY if asked.operation == "embeddings" else INFERENCE_CONTEXT_KEY
        self._data: Any = get_value(key, context) or get_value(INFERENCE_CONTEXT_KEY, context)
        if self._data is None:
            self._holder_id = running.calls.holder_of(context)
        if self._data is None and not self._holder_id:
            self._span = LLMSpan(
                running.tracer,
                asked.model,
                provider=asked.provider,
                operation=asked.operation,
                extra=asked.extra,
                context=context,
            )
            self.outcome = self._span.outcome
        else:
            self.outcome = LLMOutcome()
        self.started_s = perf_counter()

    @property
    def running(self) -> Hub:
        """The telemetry the call belongs to."""
        return self._running

    def context(self, context: Context) -> Context:
        """The context its attempts are sent in: with its span, which stands for the HTTP client's."""
        if self._span is None:
            return context
        context = trace.set_span_in_context(self._span.span, context)
        if self._running.wants_http_metrics:
            return context  # the conventional http.client metrics come from those spans' instrumentation
        return set_value(SUPPRESS_HTTP, True, context)

    @property
    def replaces_http_span(self) -> bool:
        """Whether its attempts make no HTTP spans, and our headers are ours to put on."""
        return self._span is not None and not self._running.wants_http_metrics

    def finish(self, status: str, error_type: str | None = None, *, ended_s: float | None = None) -> None:
        """End it with `success`, `fail` or `cancelled`; only the first time counts."""
        if self._finished:
            return
        self._finished = True
        if self._span is not None:
            self._span.finish(status, error_type, ended_s=ended_s, tell=self._running.calls)
        elif self._data is not None:
            publish(self.outcome, self._data)
        else:
            attributes = self.outcome.attributes()
            attributes[semconv.OPERATION] = self.asked.operation
            attributes[semconv.PROVIDER] = self.asked.provider
            attributes[semconv.REQUEST_MODEL] = self.asked.model
            self._running.calls.nest(self._holder_id, attributes)
