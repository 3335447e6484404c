"""OTLP over gRPC: what is configured by `OTEL_EXPORTER_OTLP_PROTOCOL=grpc` arrives at a real server."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped] # ships no types
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from otel_genapp import init_telemetry, llm_call
from tests.fresh import in_fresh_process

CALLS = 10


class Spans(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the names of the spans it is sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own name
        self.names += [
            span.name
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Keeps the last value of the LLM calls counted."""

    def __init__(self) -> None:
        self.calls = 0

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "genapp_llm_requests":
                        self.calls = sum(point.as_int for point in metric.sum.data_points)
        return metrics_service_pb2.ExportMetricsServiceResponse()


def export_over_grpc() -> dict[str, Any]:
    spans, metrics = Spans(), Metrics()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    telemetry = init_telemetry("shop", env="dev", internal_auth="test")
    for _ in range(CALLS):
        with llm_call("gpt-5", provider="openai"):
            pass
    told = {"flush": telemetry.flush(10), "shutdown": telemetry.shutdown(10)}
    server.stop(None).wait()
    return {**told, "spans": spans.names, "calls": metrics.calls}


def test_spans_and_metrics_arrive() -> None:
    """Every span and the final counts are there when flush and shutdown say yes."""
    assert in_fresh_process(export_over_grpc) == {
        "flush": True,
        "shutdown": True,
        "spans": ["chat gpt-5"] * CALLS,
        "calls": CALLS,
    }
