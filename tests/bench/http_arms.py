"""A request to a FastAPI app: nothing, ours, and the peers beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.arm import Arm, count_spans, expect

if TYPE_CHECKING:
    from tests.bench.traffic import AsgiApp


def bare(_folder: Path) -> Arm:
    """The app and nothing else."""
    from tests.bench import traffic

    return Arm(run=_requests(traffic.build_app()))


def stock(_folder: Path) -> Arm:
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


def pfi(_folder: Path) -> Arm:
    """prometheus-fastapi-instrumentator as its README starts it: metrics, no traces."""
    from prometheus_client import REGISTRY
    from prometheus_fastapi_instrumentator import Instrumentator

    from tests.bench import traffic

    app = traffic.build_app()
    Instrumentator().instrument(app)

    def check(total: int) -> None:
        samples = [sample for family in REGISTRY.collect() for sample in family.samples]
        counted = sum(sample.value for sample in samples if sample.name == "http_requests_total")
        expect("requests counted", counted, total)

    return Arm(run=_requests(app), check=check)


def full(_folder: Path) -> Arm:
    """Ours with everything on: spans, the three `genapp_http_*` families, correlation id."""
    return _ours("always_on", spans_per_request=1)


def unsampled(_folder: Path) -> Arm:
    """Ours with no trace sampled: the families and the correlation id."""
    return _ours("always_off", spans_per_request=0)


ARMS: dict[str, Callable[[Path], Arm]] = {arm.__name__: arm for arm in (bare, stock, pfi, full, unsampled)}


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
    exporter = count_spans(provider)
    send = _requests(app)

    def run(count: int) -> None:
        send(count)
        # What the processor's thread still owes belongs to these requests.
        provider.force_flush()

    return Arm(
        run=run, check=lambda total: expect("spans exported", exporter.exported, total * spans_per_request)
    )


def _ours(sampler: str, *, spans_per_request: int) -> Arm:
    from opentelemetry import trace

    from otel_genapp import init_telemetry
    from tests.bench import traffic

    os.environ["OTEL_TRACES_SAMPLER"] = sampler
    app = traffic.build_app()
    init_telemetry("bench", env="dev", internal_auth="bench", app=app)
    return _traced(app, trace.get_tracer_provider(), spans_per_request=spans_per_request)
