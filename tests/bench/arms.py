"""The things compared. Each arm sets itself up and hands back how to do its work.

Imports sit in the functions: an arm runs in an environment that has only its own libraries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.bench.series import Family
    from tests.bench.traffic import AsgiApp


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`run(count)` is what is measured; `refresh` goes before it, `check(total so far)` after it."""

    run: Callable[[int], None]
    refresh: Callable[[], None] = _nothing
    check: Callable[[int], None] = lambda _total: None


def bare(_families: list[Family]) -> Arm:
    """The app and nothing else."""
    from tests.bench import traffic

    return Arm(run=_requests(traffic.build_app()))


def stock(_families: list[Family]) -> Arm:
    """OpenTelemetry's FastAPI instrumentor: traces and metrics, no send and receive spans."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from tests.bench import traffic

    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader(scope_info_enabled=False)]))
    app = traffic.build_app()
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    return _traced(app, provider, spans_per_request=1)


def pfi(_families: list[Family]) -> Arm:
    """prometheus-fastapi-instrumentator as its README starts it: metrics, no traces."""
    from prometheus_client import REGISTRY
    from prometheus_fastapi_instrumentator import Instrumentator

    from tests.bench import traffic

    app = traffic.build_app()
    Instrumentator().instrument(app)

    def check(total: int) -> None:
        samples = [sample for family in REGISTRY.collect() for sample in family.samples]
        counted = sum(sample.value for sample in samples if sample.name == "http_requests_total")
        _expect("requests counted", counted, total)

    return Arm(run=_requests(app), check=check)


def full(_families: list[Family]) -> Arm:
    """Ours with everything on: spans, the three `genapp_http_*` families, correlation id."""
    return _ours("always_on", spans_per_request=1)


def unsampled(_families: list[Family]) -> Arm:
    """Ours with no trace sampled: the families and the correlation id."""
    return _ours("always_off", spans_per_request=0)


def scrape_stock(families: list[Family]) -> Arm:
    """The official reader and prometheus_client's text, scope labels off."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        scope_info_enabled=False,
        disable_target_info=True,
        registry=registry,
        resource_attribute_filter=lambda key: key in {"env", "app"},
    )
    views = [
        View(instrument_name=it["instrument"], aggregation=ExplicitBucketHistogramAggregation(it["buckets"]))
        for it in families
        if it["buckets"]
    ]
    meter = MeterProvider([reader], Resource({"env": "dev", "app": "bench"}), views=views).get_meter("bench")
    cells = []
    for it in families:
        record: Callable[..., None] = (
            meter.create_counter(it["instrument"], it["unit"], it["help"]).add
            if it["kind"] == "counter"
            else meter.create_histogram(it["instrument"], it["unit"], it["help"]).record
        )
        cells += [_cell(record, dict(zip(it["labels"], values, strict=True))) for values in it["series"]]
    return _scrapes(lambda: generate_latest(registry), cells)


def scrape(families: list[Family]) -> Arm:
    """Our `/prometheus`, the same series."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    from otel_genapp import semconv
    from otel_genapp.metrics.instruments import Instruments
    from otel_genapp.metrics.prometheus import GenappPrometheusReader
    from otel_genapp.metrics.views import genapp_views

    constant = {"env": "dev", "app": "bench"}
    reader = GenappPrometheusReader(constant)
    provider = MeterProvider([reader], Resource(constant), views=genapp_views())
    gauges = {metric.name: float for metric in semconv.METRICS if metric.kind == "gauge"}
    instruments = Instruments(provider.get_meter(semconv.SCOPE), gauges)
    record = {
        known.metric.name: known.record for known in vars(instruments).values() if hasattr(known, "metric")
    }
    cells = [_cell(record[it["name"]], tuple(values)) for it in families for values in it["series"]]
    return _scrapes(lambda: reader.exposition(openmetrics=False), cells)


ARMS: dict[str, Callable[[list[Family]], Arm]] = {
    arm.__name__: arm for arm in (bare, stock, pfi, full, unsampled, scrape_stock, scrape)
}


def _requests(app: AsgiApp) -> Callable[[int], None]:
    from tests.bench import traffic

    loop = asyncio.new_event_loop()
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        # No path comes twice, as in a real shop: an arm may remember routes, not paths.
        loop.run_until_complete(traffic.send_requests(app, range(sent, sent + count)))
        sent += count

    return send


def _traced(app: AsgiApp, provider: Any, *, spans_per_request: int) -> Arm:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class CountingExporter(SpanExporter):
        exported = 0

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.exported += len(spans)
            return SpanExportResult.SUCCESS

    exporter = CountingExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    send = _requests(app)

    def run(count: int) -> None:
        send(count)
        # What the processor's thread still owes belongs to these requests.
        provider.force_flush()

    return Arm(
        run=run, check=lambda total: _expect("spans exported", exporter.exported, total * spans_per_request)
    )


def _ours(sampler: str, *, spans_per_request: int) -> Arm:
    from opentelemetry import trace

    from otel_genapp import init_telemetry
    from tests.bench import traffic

    os.environ["OTEL_TRACES_SAMPLER"] = sampler
    app = traffic.build_app()
    init_telemetry("bench", env="dev", internal_auth="bench", app=app)
    return _traced(app, trace.get_tracer_provider(), spans_per_request=spans_per_request)


def _cell(record: Callable[..., None], labels: object) -> Callable[[], None]:
    return lambda: record(1, labels)


def _scrapes(scrape_once: Callable[[], bytes], cells: list[Callable[[], None]]) -> Arm:
    from tests.bench import series

    def touch() -> None:
        # Every value is a new one in every scrape, so that no arm can keep its text.
        for cell in cells:
            cell()

    def run(count: int) -> None:
        for _ in range(count):
            scrape_once()

    touch()
    return Arm(run=run, refresh=touch, check=lambda _total: series.check_size(scrape_once()))


def _expect(what: str, found: float, wanted: float) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found}, wanted {wanted}")
