"""Spans over gRPC through outages and refusals, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # ships no types
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped] # ships no types
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped] # as above
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # as above
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # as above
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.faults.exporting import App, wait_until
from tests.fresh import in_fresh_process


class Service(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector that fails on command."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.requests = 0
        self.arrived: list[str] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own name
        self.requests += 1
        spans = [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        answer = trace_service_pb2.ExportTraceServiceResponse()
        if self.mode == "poison":
            if any(span.name == "poison" for span in spans):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        elif self.mode == "partial":
            answer.partial_success.rejected_spans = 3
            spans = spans[3:]
        elif self.mode == "told to wait":
            info, detail = RetryInfo(retry_delay=Duration(seconds=2)), AnyMessage()
            detail.Pack(info)
            status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        elif self.mode != "ok":
            context.abort(grpc.StatusCode[self.mode], "no")
        self.arrived += [span.span_id.hex() for span in spans]
        return answer


@contextmanager
def served(service: Service, port: int = 0, **options: Any) -> Iterator[int]:
    """The port of a server of that service."""
    server = grpc.server(ThreadPoolExecutor(4), options=tuple(options.items()))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield bound
    finally:
        server.stop(None).wait()


def app_for(port: int, **options: Any) -> App:
    return App(lambda: OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", timeout=2), **options)


def outage(mode: str, folder: str) -> dict[str, Any]:
    service = Service()
    with served(service) as port:
        app = app_for(port, folder=Path(folder))
        made = app.work(100)
        first = app.flush()
        service.mode = mode
        made += app.work(500)
        spooled = wait_until(lambda: app.export.spooled == 500)
        asked = service.requests
        hurried = app.flush(0.3)
        impatient = service.requests - asked > 1
        service.mode = "ok"
        last = app.flush()
        app.close()
    return {
        "flushes": (first, hurried, last),
        "spooled": spooled,
        "impatient": impatient,
        "lost": len(set(made) - set(service.arrived)),
        "dropped": app.dropped,
        "imbalance": app.imbalance,
    }


@pytest.mark.parametrize(
    "mode", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "INTERNAL", "told to wait"]
)
def test_an_outage_loses_nothing(mode: str, tmp_path: Path) -> None:
    """Whatever the status, spans wait on disk and arrive when the collector is well again."""
    assert in_fresh_process(outage, mode, str(tmp_path / "state")) == {
        "flushes": (True, False, True),
        "spooled": True,
        "impatient": False,
        "lost": 0,
        "dropped": {},
        "imbalance": 0,
    }


def restart(folder: str) -> dict[str, Any]:
    service = Service()
    with served(service) as port:
        app = app_for(port, folder=Path(folder))
        made = app.work(100)
        first = app.flush()
    made += app.work(500)
    spooled = wait_until(lambda: app.export.spooled == 500)
    with served(service, port):
        last = app.flush()
        app.close()
    return {"flushes": (first, last), "spooled": spooled, "lost": len(set(made) - set(service.arrived))}


def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """A new connection is made, and what waited arrives."""
    assert in_fresh_process(restart, str(tmp_path / "state")) == {
        "flushes": (True, True),
        "spooled": True,
        "lost": 0,
    }


def refuse(mode: str) -> dict[str, Any]:
    service = Service()
    service.mode = mode
    # The default of a collector is 4 MiB; a smaller one stands for a span that is larger.
    with served(service, **{"grpc.max_receive_message_length": 200_000}) as port:
        app = app_for(port, delay_s=60)
        made = app.work(500)
        app.work(1, "poison", texts=["x" * 30_000] * (10 if mode == "ok" else 1))
        made += app.work(499)
        flushed = app.flush()
        app.close()
    return {
        "flushed": flushed,
        "missing": len(set(made) - set(service.arrived)),
        "arrived": len(service.arrived),
        "dropped": {reason: number for reason, number in app.dropped.items() if number},
        "imbalance": app.imbalance,
    }


@pytest.mark.parametrize(("mode", "reason"), [("poison", "rejected"), ("ok", "too_large")])
def test_a_poisoned_span_is_lost_alone(mode: str, reason: str) -> None:
    """Of a thousand spans 999 arrive, and the one is counted by its reason."""
    assert in_fresh_process(refuse, mode) == {
        "flushed": False,
        "missing": 0,
        "arrived": 999,
        "dropped": {reason: 1},
        "imbalance": 0,
    }


def take_in_part() -> dict[str, Any]:
    service = Service()
    service.mode = "partial"
    with served(service) as port:
        app = app_for(port, delay_s=60)
        app.work(100)
        flushed = app.flush()
        app.close()
    return {"flushed": flushed, "arrived": len(service.arrived), "dropped": app.dropped}


def test_a_partial_success_is_counted() -> None:
    """Spans of a taken request that the collector says it rejected are lost, and flush says so."""
    assert in_fresh_process(take_in_part) == {"flushed": False, "arrived": 97, "dropped": {"rejected": 3}}
