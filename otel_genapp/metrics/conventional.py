"""The conventional `gen_ai.client.*` metrics, for who reads metrics over OTLP.

Names, units, buckets and attributes follow the OpenTelemetry GenAI conventions. Only calls whose span is
ours are measured: instrumentations that make spans of their own measure those themselves.
"""

from __future__ import annotations

from opentelemetry.context import Context, get_value
from opentelemetry.metrics import Meter

from otel_genapp import semconv
from otel_genapp.context import OWN_SPAN
from otel_genapp.records import LLMCall, Record, UsageRecord

_DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_TOKEN_BUCKETS = (
    1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
)  # fmt: skip


class GenAIMetrics:
    """Duration, time to the first chunk and tokens of LLM calls."""

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            semconv.CLIENT_OPERATION_DURATION,
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.CLIENT_FIRST_CHUNK,
            unit="s",
            description="Time to receive the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            semconv.CLIENT_TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )

    def record(self, record: Record, context: Context) -> None:
        """Measure a call, or what became known of one later; `context` holds its span."""
        if not isinstance(record, UsageRecord) or not get_value(OWN_SPAN, context):
            return
        attributes = {
            semconv.OPERATION: record.operation if isinstance(record, LLMCall) else "chat",
            semconv.PROVIDER: record.provider,
            semconv.REQUEST_MODEL: record.model,
        }
        if isinstance(record, LLMCall):
            if record.response_model is not None:
                attributes[semconv.RESPONSE_MODEL] = record.response_model
            first_ms, failure = record.first_token_ms, {}
            if record.error_type is not None:
                failure = {semconv.ERROR_TYPE: record.error_type}
            self._duration.record(record.duration_ms / 1e3, {**attributes, **failure}, context)
            if first_ms is not None:
                self._first_chunk.record(first_ms / 1e3, attributes, context)
        for kind, tokens in (("input", record.usage.input), ("output", record.usage.output)):
            if tokens is not None:
                self._tokens.record(tokens, {**attributes, semconv.TOKEN_TYPE: kind}, context)
