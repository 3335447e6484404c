"""Providers that were there before us, come after us, or outlive us; starting twice, and not at all."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_genapp import Telemetry, init_telemetry, llm_call
from tests.fresh import in_fresh_process

CALLS = 3


def start(name: str = "shop", **settings: Any) -> Telemetry:
    return init_telemetry(name, "prod", internal_auth="test", store="memory://", **settings)


def call_llm(number: int = CALLS) -> None:
    for _ in range(number):
        with llm_call("gpt-5", "openai", session_id="anna") as call:
            call.usage(input=1, output=1)


def counted(telemetry: Telemetry) -> int:
    found: int = telemetry.totals()["total_requests"]
    return found


def attach_to_the_sdk() -> dict[str, Any]:
    kept, theirs = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(resource=Resource.create({"service.name": "theirs"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([theirs]))
    telemetry = start()
    call_llm()
    metrics.get_meter("app").create_counter("orders").add(2)
    spans = kept.get_finished_spans()
    collected = theirs.get_metrics_data()
    assert collected is not None
    telemetry.shutdown()
    call_llm()
    return {
        "provider is theirs": trace.get_tracer_provider() is provider,
        "resource": {span.resource.attributes["service.name"] for span in spans},
        "sessions": {(span.attributes or {}).get("session.id") for span in spans},
        "spans": len(spans),
        "counted": counted(telemetry),
        "their metrics": [
            metric.name
            for one in collected.resource_metrics
            for scope in one.scope_metrics
            for metric in scope.metrics
        ],
        "says": telemetry.status()["tracer_provider"],
        "sampling": telemetry.status()["sampling"],
    }


def test_a_provider_of_the_sdk() -> None:
    """We attach to it: its resource, exporter and metrics stay its own, and every call counts."""
    assert in_fresh_process(attach_to_the_sdk) == {
        "provider is theirs": True,
        "resource": {"theirs"},
        "sessions": {"anna"},
        "spans": CALLS,
        "counted": CALLS,
        "their metrics": ["orders"],
        "says": "opentelemetry.sdk.trace.TracerProvider: attached, export is left to its owner",
        "sampling": "exports only",
    }


class LogfireLike:
    """Shaped like logfire's proxy: no SDK class, with the real provider inside."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return self.provider.get_tracer(*args, **kwargs)

    def add_span_processor(self, processor: SpanProcessor) -> None:
        self.provider.add_span_processor(processor)


def attach_to_a_proxy() -> dict[str, Any]:
    kept = InMemorySpanExporter()
    provider = LogfireLike(TracerProvider(sampler=ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)  # type: ignore[arg-type] # as logfire does
    seen = []
    for _ in range(2):
        telemetry = start()
        call_llm()
        with trace.get_tracer("app").start_as_current_span("not ours to record") as span:
            recorded = span.is_recording()
        seen.append((counted(telemetry), recorded, len(kept.get_finished_spans())))
        telemetry.shutdown()
    processors = provider.provider._active_span_processor._span_processors
    return {"seen": seen, "says": telemetry.status()["tracer_provider"], "processors": len(processors)}


def test_a_proxy_like_that_of_logfire() -> None:
    """Its sampler decides on export only, for the second telemetry in the process too."""
    seen = in_fresh_process(attach_to_a_proxy)
    assert seen.pop("says").endswith("LogfireLike: attached, export is left to its owner")
    assert seen == {"seen": [(CALLS, False, 0)] * 2, "processors": 2}


class Bare:
    """A provider that is nothing but that."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return trace.NoOpTracer()


class Refusing(Bare):
    """A provider that takes processors by its looks only."""

    def add_span_processor(self, processor: SpanProcessor) -> None:
        raise RuntimeError("closed")


def meet(provider: type) -> dict[str, Any]:
    trace.set_tracer_provider(provider())
    telemetry = start()
    call_llm()
    status = telemetry.status()
    return {
        "counted": counted(telemetry),
        "notes": status["notes"][:1],
        "sampling": status["sampling"],
        "says": status["tracer_provider"].rpartition(".")[2],
        "shutdown": telemetry.shutdown(),
    }


def test_a_provider_that_takes_nothing() -> None:
    """The application runs, and `status()` says what cannot be counted."""
    note = "the tracer provider's sampler cannot be wrapped: numbers fed by spans are sampled with them"
    expected = {"counted": 0, "notes": [note], "sampling": "numbers too", "shutdown": True}
    reason = "cannot take span processors, so LLM spans are not counted"
    assert in_fresh_process(meet, Bare) == {**expected, "says": f"Bare: {reason}"}
    refused = in_fresh_process(meet, Refusing, own_errors=True)
    assert refused == {**expected, "says": f"Refusing: {reason}"}


def come_after_us() -> dict[str, Any]:
    warned: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("opentelemetry").addHandler(handler)
    telemetry = start()
    ours = trace.get_tracer_provider(), metrics.get_meter_provider()
    trace.set_tracer_provider(TracerProvider())
    metrics.set_meter_provider(MeterProvider())
    call_llm()
    return {
        "ours": (trace.get_tracer_provider(), metrics.get_meter_provider()) == ours,
        "counted": counted(telemetry),
        "warned": warned,
    }


def test_a_provider_that_comes_after_us() -> None:
    """OpenTelemetry says no to it, and ours stays."""
    assert in_fresh_process(come_after_us) == {
        "ours": True,
        "counted": CALLS,
        "warned": [
            "Overriding of current TracerProvider is not allowed",
            "Overriding of current MeterProvider is not allowed",
        ],
    }


class Raising(SpanProcessor):
    """A processor of the application's that fails at the end of every span."""

    def on_end(self, span: ReadableSpan) -> None:
        raise LookupError("the application's own")


class Keeping(SpanProcessor):
    """A processor of the application's that works."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.names.append(span.name)


class BreakingOurs(SpanProcessor):
    """Stands for a fault of ours behind the switch."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise ValueError("ours")

    def on_end(self, span: ReadableSpan) -> None:
        raise ValueError("ours")


def raise_beside_us(early: bool, ours_first: bool) -> dict[str, Any]:
    provider = TracerProvider()
    if early:
        provider.add_span_processor(Raising())
    if not ours_first:
        trace.set_tracer_provider(provider)
    telemetry = start()
    here: Any = trace.get_tracer_provider()
    if not early:
        here.add_span_processor(Raising())
    raised = 0
    for _ in range(CALLS):
        try:
            with trace.get_tracer("app").start_as_current_span("work"):
                pass
        except LookupError:
            raised += 1
    call_llm()
    return {"theirs to see": raised, "counted": counted(telemetry)}


def test_raising_processors_of_the_application() -> None:
    """They keep no span from us, whether they came before us or after, and their errors stay theirs."""
    expected = {"theirs to see": CALLS, "counted": CALLS}
    for early, ours_first in ((True, False), (False, False), (False, True)):
        seen = in_fresh_process(raise_beside_us, early, ours_first, own_errors=True)
        assert seen == expected, (early, ours_first)


def break_ours() -> dict[str, Any]:
    provider, keeping = TracerProvider(), Keeping()
    provider.add_span_processor(keeping)
    trace.set_tracer_provider(provider)
    telemetry = start()
    machinery = telemetry._machinery
    assert machinery.tracing is not None
    assert machinery.tracing.switch is not None
    machinery.tracing.switch.targets = (BreakingOurs(), machinery.processor)
    call_llm()
    return {"kept": keeping.names, "counted": counted(telemetry)}


def test_a_fault_of_ours_beside_the_applications_processors() -> None:
    """What breaks behind our switch reaches neither the application, nor its processors, nor our others."""
    seen = in_fresh_process(break_ours, own_errors=True)
    assert seen == {"kept": ["chat gpt-5"] * CALLS, "counted": CALLS}
