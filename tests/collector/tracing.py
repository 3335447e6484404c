"""Spans for the collector from tracers that are not ours, and from an application of ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Tracer

from otel_genapp import init_telemetry
from tests.otelcol import TOKEN, Otelcol

DEADLINE_S = 20.0


@contextmanager
def foreign_tracer(collector: Otelcol, **resource: str) -> Iterator[Tracer]:
    """A tracer of the plain SDK; each span is at the collector when it has ended."""
    exporter = OTLPSpanExporter(
        endpoint=f"{collector.endpoint}/v1/traces", headers={"authorization": f"Bearer {TOKEN}"}
    )
    provider = TracerProvider(
        resource=Resource({"service.name": "foreign", **resource}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("foreign")
    provider.shutdown()


def export_to(collector: Otelcol, token: str = TOKEN, **settings: str) -> dict[str, str]:
    """The environment of an application of ours that exports to the collector."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}",
        **settings,
    }


def set_all(settings: Mapping[str, str]) -> None:
    """Put them into this process's environment."""
    os.environ.update(settings)


def inherit(app: str, state: str, settings: Mapping[str, str]) -> bool:
    """Be the next process of an application, until what the last one left on disk is sent."""
    set_all(settings)
    telemetry = init_telemetry(app, "prod")
    until(lambda: not any(file.stat().st_size for file in Path(state).rglob("spool-*")))
    return telemetry.shutdown()


def until(holds: Callable[[], Any], seconds: float = DEADLINE_S) -> Any:
    """What `holds()` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found
