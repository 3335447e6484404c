"""Records and real SDK providers, made short: for tests of what becomes of spans and numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from otel_genapp import hub, semconv
from otel_genapp.ledger.rollup import duration_bucket, quantile_ms
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.metrics.instruments import Instruments
from otel_genapp.metrics.prometheus import GenappPrometheusReader
from otel_genapp.metrics.views import genapp_views
from otel_genapp.pipeline.counting import Tree
from otel_genapp.pipeline.events import EventBus
from otel_genapp.pipeline.processor import GenappSpanProcessor
from otel_genapp.pipeline.sampler import GenappTracerProvider, Recording, RecordingSampler
from otel_genapp.records import KeptSpan, LLMAmendment, LLMCall, Usage, UsageRecord
from tests.fakes import RecordingFamilies, hub_for

START_NS = 1_800_000_000_000_000_000
"""2027-01-15T08:00:00Z, on the minute."""
MINUTE_NS = 60_000_000_000

CONSTANT_LABELS = {"env": "dev", "app": "shop-bot"}


def call(call_id: str = "c1", **said: Any) -> LLMCall:
    """A successful call of one second, 100 tokens in and 20 out, but for what is said."""
    plain: dict[str, Any] = {
        "started_at_ns": START_NS,
        "duration_ms": 1000.0,
        "provider": "openai",
        "model": "gpt-5",
        "usage": Usage(input=100, output=20),
        "session_id": "s1",
    }
    return LLMCall(call_id=call_id, **{**plain, **said})


def amendment(call_id: str = "c1", seq: int = 1, **said: Any) -> LLMAmendment:
    """Ten more input tokens for a call, but for what is said."""
    plain: dict[str, Any] = {
        "at_ns": START_NS,
        "provider": "openai",
        "model": "gpt-5",
        "usage": Usage(input=10),
        "session_id": "s1",
    }
    return LLMAmendment(call_id=call_id, seq=seq, **{**plain, **said})


def kept_span(span_id: str = "a" * 16, trace_id: str = "1" * 32, **said: Any) -> KeptSpan:
    """A root span of one second, but for what is said."""
    plain: dict[str, Any] = {
        "correlation_id": trace_id,
        "name": f"span {span_id}",
        "started_at_ns": START_NS,
        "duration_ms": 1000.0,
    }
    return KeptSpan(span_id=span_id, trace_id=trace_id, **{**plain, **said})


def stored(*records: UsageRecord) -> MemoryStore:
    """A store that holds these records."""
    store = MemoryStore()
    store.apply(records)
    return store


def shown_quantile(duration_ms: float) -> float:
    """A quantile of calls that all took this long, as JSON shows it."""
    found = quantile_ms({duration_bucket(duration_ms): 1}, 0.5)
    assert found is not None
    return round(found, 3)


def timeless(record: UsageRecord) -> UsageRecord:
    """The record without what differs from run to run: ids of its own, times, durations."""
    if isinstance(record, LLMAmendment):
        return dataclasses.replace(record, call_id="", at_ns=0, correlation_id=None)
    assert isinstance(record, LLMCall)
    return dataclasses.replace(
        record,
        call_id="",
        started_at_ns=0,
        duration_ms=0.0,
        correlation_id=None,
        first_token_ms=None,
        trace_id="",
        span_id="",
    )


def said(**changes: Any) -> LLMCall:
    """What `timeless` leaves of a call."""
    return LLMCall(call_id="", started_at_ns=0, duration_ms=0.0, **changes)


def llm_attributes(model: str = "gpt-5", **more: Any) -> dict[str, Any]:
    """Start attributes of an LLM span."""
    return {
        semconv.OPERATION: "chat",
        semconv.PROVIDER: "openai",
        semconv.REQUEST_MODEL: model,
        **more,
    }


def tokens(input: int | None = None, output: int | None = None) -> dict[str, int]:  # noqa: A002 - as Usage
    """End attributes of an LLM span."""
    named = {semconv.INPUT_TOKENS: input, semconv.OUTPUT_TOKENS: output}
    return {key: value for key, value in named.items() if value is not None}


class Finished(SpanProcessor):
    """Keeps finished spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class Tracing:
    """A real TracerProvider whose spans pass our sampler and processor, and what came of them."""

    def __init__(
        self,
        inner: Sampler = ALWAYS_ON,
        *,
        limits: SpanLimits | None = None,
        first: SpanProcessor | None = None,
    ) -> None:
        self.records: list[UsageRecord] = []
        self.contexts: list[Context] = []
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self.tree = Tree()
        self.bus = EventBus(lambda outcome, reason: self.events.update([(outcome, reason)]))
        self.processor = GenappSpanProcessor(
            self.tree,
            self._keep,
            events=self.bus,
            count_drop=lambda what, reason: self.dropped.update([(what, reason)]),
        )
        self.finished = Finished()
        self.sampler = RecordingSampler(inner, Recording(self.tree))
        self.provider = GenappTracerProvider(
            sampler=self.sampler, span_limits=limits, resource=Resource({}), shutdown_on_exit=False
        )
        for processor in (first, self.processor, self.finished):
            if processor is not None:
                self.provider.add_span_processor(processor)

    def tracer(self, scope: str = "shop") -> Tracer:
        """A tracer of this scope."""
        return self.provider.get_tracer(scope)

    @property
    def calls(self) -> list[LLMCall]:
        """The calls among the records."""
        return [record for record in self.records if isinstance(record, LLMCall)]

    @property
    def amendments(self) -> list[LLMAmendment]:
        """The amendments among the records."""
        return [record for record in self.records if isinstance(record, LLMAmendment)]

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The finished spans by name."""
        return {span.name: span for span in self.finished.spans}

    def close(self) -> None:
        """End the event thread."""
        self.bus.close()

    def _keep(self, record: UsageRecord, context: Context) -> None:
        self.records.append(record)
        self.contexts.append(context)


@contextmanager
def producing(tracing: Tracing) -> Iterator[RecordingFamilies]:
    """Running telemetry around `tracing`: what `llm_call` and actions reach, and their families."""
    families = RecordingFamilies()
    hub.set_active(hub_for(families, tracer=tracing.tracer(semconv.SCOPE)))
    try:
        yield families
    finally:
        hub.set_active(None)
        tracing.close()


class Metering:
    """A private MeterProvider with our Views, reader and instruments."""

    def __init__(self, *readers: Any, series_limit: int = semconv.SERIES_LIMIT) -> None:
        self.reader = GenappPrometheusReader(CONSTANT_LABELS)
        self.gauges = {"genapp_llm_in_flight": 0.0, "genapp_active_sessions": 0.0}
        self.provider = MeterProvider(
            metric_readers=[self.reader, *readers],
            resource=Resource(CONSTANT_LABELS),
            views=genapp_views(),
            shutdown_on_exit=False,
        )
        self.instruments = Instruments(
            self.provider.get_meter(semconv.SCOPE),
            {name: partial(self.gauges.__getitem__, name) for name in self.gauges},
            series_limit=series_limit,
        )

    def text(self) -> str:
        """The exposition as text 0.0.4."""
        return self.reader.exposition(openmetrics=False).decode()

    def openmetrics(self) -> str:
        """The exposition as OpenMetrics."""
        return self.reader.exposition(openmetrics=True).decode()

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The samples of this name by their labels, without those every series has."""
        return {own_labels(sample): sample.value for sample in samples_of(self.text()) if sample.name == name}


def samples_of(text: str, *, openmetrics: bool = False) -> list[Sample]:
    """Every sample of an exposition."""
    parse = parse_openmetrics if openmetrics else parse_text
    return [sample for family in parse(text) for sample in family.samples]


def own_labels(sample: Sample) -> tuple[tuple[str, str], ...]:
    """The labels of a sample without the constant ones, in the order of their names."""
    labels: Mapping[str, str] = sample.labels
    return tuple(sorted((name, value) for name, value in labels.items() if name not in CONSTANT_LABELS))
