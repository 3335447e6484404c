"""Which way to the collector an exporter offers."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from otel_genapp.pipeline.export.wire import wire_of


def changed(exporter: Any, name: str, value: Any) -> Any:
    """The exporter as another version of the SDK might have it."""
    owner = exporter._client if hasattr(exporter._client, name) else exporter
    setattr(owner, name, value)
    return exporter


@pytest.mark.parametrize(
    ("exporter", "kind", "timeout_s"),
    [
        (HttpExporter(), "_HttpWire", 10.0),
        (HttpExporter(timeout=3), "_HttpWire", 3.0),
        (changed(HttpExporter(), "_timeout", "soon"), "_HttpWire", 10.0),
        (changed(HttpExporter(), "_headers", None), "_PublicWire", 30.0),
        (changed(HttpExporter(), "_endpoint", b"http://a"), "_PublicWire", 30.0),
        (changed(HttpExporter(), "_transport", object()), "_PublicWire", 30.0),
        (changed(HttpExporter(), "_compress", None), "_PublicWire", 30.0),
        (GrpcExporter(timeout=4), "_GrpcWire", 4.0),
        (changed(GrpcExporter(), "_headers", {}), "_PublicWire", 30.0),
        (ConsoleSpanExporter(), "_PublicWire", 30.0),
    ],
)
def test_the_best_way_is_taken(exporter: Any, kind: str, timeout_s: float) -> None:
    """The SDK's exporters lend their connection as long as they look as expected; others `export`."""
    wire = wire_of(exporter)
    assert (type(wire).__name__, wire.timeout_s) == (kind, timeout_s)
