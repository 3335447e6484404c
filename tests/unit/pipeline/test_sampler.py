"""Sampling decides what is exported, never what is counted."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_genapp import semconv
from otel_genapp.pipeline.sampler import Recording, RecordingSampler, wrap_foreign_sampler
from otel_genapp.records import Usage
from tests.builders import Tracing, llm_attributes, said, timeless, tokens

NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
LATE_SCOPE = "opentelemetry.instrumentation.openai"

SAMPLERS = [
    pytest.param(ALWAYS_ON, "", id="on"),
    pytest.param(ALWAYS_OFF, "", id="off"),
    pytest.param(DEFAULT_OFF, "", id="parent based off"),
    pytest.param(ParentBased(TraceIdRatioBased(0.01)), "", id="1 percent"),
    pytest.param(DEFAULT_ON, NOT_SAMPLED, id="caller did not sample"),
]


def caller(traceparent: str) -> Context:
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {})


@pytest.mark.parametrize(("sampler", "traceparent"), SAMPLERS)
def test_every_call_is_counted(sampler: Sampler, traceparent: str) -> None:
    """300 calls under request spans are 300 records with their numbers, at any sampling."""
    tracing = Tracing(sampler)
    tracer = tracing.tracer()
    for _ in range(300):
        request = tracer.start_span("GET /", context=caller(traceparent), kind=SpanKind.SERVER)
        with trace.use_span(request, end_on_exit=True):
            call = tracer.start_span("chat", attributes=llm_attributes())
            call.set_attributes(tokens(10, 2))
            call.end()
    expected = said(provider="openai", model="gpt-5", usage=Usage(input=10, output=2))
    assert [timeless(record) for record in tracing.records] == [expected] * 300


def test_what_is_recorded_and_what_is_dropped() -> None:
    """Unsampled, LLM and agent spans and all below them are recorded, unexported; others are not."""
    tracing = Tracing(ALWAYS_OFF)
    tracer, late = tracing.tracer(), tracing.tracer(LATE_SCOPE)
    tracer.start_span("plain", attributes={"k": 1}).end()
    tracer.start_span("tool alone", attributes={semconv.OPERATION: "execute_tool"}).end()
    late.start_span("late").end()
    agent = tracer.start_span("agent", attributes={semconv.OPERATION: "invoke_agent", "k": 2})
    with trace.use_span(agent, end_on_exit=True):
        tool = tracer.start_span("tool", attributes={semconv.OPERATION: "execute_tool"})
        with trace.use_span(tool, end_on_exit=True):
            tracer.start_span("chat", attributes=llm_attributes()).end()
    tracer.start_span("after").end()
    assert list(tracing.spans) == ["late", "chat", "tool", "agent"]
    assert [span.context.trace_flags.sampled for span in tracing.finished.spans if span.context] == [
        False
    ] * 4
    recorded = tracing.spans["agent"]
    assert recorded.context is not None
    assert dict(recorded.attributes or {}) == {
        semconv.OPERATION: "invoke_agent",
        "k": 2,
        semconv.CORRELATION_ID: f"{recorded.context.trace_id:032x}",
    }


def test_sampled_spans_keep_what_the_inner_sampler_says() -> None:
    """Attributes and decision of the user's own sampler stay."""

    class Marking(Sampler):
        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any
        ) -> Any:
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, attributes={"marked": True})

        def get_description(self) -> str:
            return "Marking"

    tracing = Tracing(Marking())
    tracing.tracer().start_span("plain").end()
    span = tracing.spans["plain"]
    assert span.context is not None
    assert span.context.trace_flags.sampled
    assert (span.attributes or {})["marked"] is True
    assert tracing.sampler.get_description() == "RecordingSampler(Marking)"


def test_urls_are_cleaned_at_the_start() -> None:
    """Secrets of a URL are gone before any processor sees the span."""
    tracing = Tracing()
    url = "https://user:word@api.example.com/v1?key=AIza"
    tracing.tracer().start_span("GET", attributes={"url.full": url}).end()
    assert (tracing.spans["GET"].attributes or {})["url.full"] == "https://api.example.com/v1"


def test_without_a_tree_the_inner_sampler_decides() -> None:
    """A sampler left behind by a telemetry that ended changes no decision."""
    sampler = RecordingSampler(ALWAYS_OFF, Recording())
    result = sampler.should_sample(None, 1, "chat", attributes=llm_attributes())
    assert result.decision is Decision.DROP


def test_own_endpoints_make_no_spans() -> None:
    """Requests of the endpoints we mounted are dropped, others and outgoing ones are not."""
    tracing = Tracing()
    tracing.sampler.recording.excluded.add("/prometheus")
    paths = ("/prometheus", "/prometheus?x=1", "/events/metrics/session/1", "/chat")
    for path in paths:
        tracing.tracer().start_span(path, kind=SpanKind.SERVER, attributes={"url.path": path}).end()
    tracing.tracer().start_span("out", kind=SpanKind.CLIENT, attributes={"url.path": "/prometheus"}).end()
    assert list(tracing.spans) == ["/chat", "out"]


class Facade:
    """A provider of another maker, with the SDK's inside, as logfire has it."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def get_tracer(self, name: str) -> trace.Tracer:
        return self.provider.get_tracer(name)


@pytest.mark.parametrize("facade", [False, True])
def test_foreign_sampler_is_wrapped(facade: bool) -> None:
    """Tracers made before and after, late-naming scopes included, record what counts."""
    recording_of = Tracing()
    foreign = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    foreign.add_span_processor(recording_of.processor)
    outer: Any = Facade(foreign) if facade else foreign
    before = foreign.get_tracer("shop")
    assert wrap_foreign_sampler(outer, Recording(recording_of.tree))
    for tracer in (before, foreign.get_tracer("shop"), foreign.get_tracer("other")):
        tracer.start_span("chat", attributes=llm_attributes()).end()
    late = foreign.get_tracer(LATE_SCOPE).start_span("POST")
    late.set_attributes({**llm_attributes(), **tokens(1)})
    late.end()
    plain = before.start_span("plain")
    assert not plain.is_recording()
    assert [record.usage for record in recording_of.records] == [Usage()] * 3 + [Usage(input=1)]


def test_a_provider_without_a_sampler_cannot_be_wrapped() -> None:
    """What has no sampler anywhere is left alone, and said so."""
    assert not wrap_foreign_sampler(trace.NoOpTracerProvider(), Recording())
