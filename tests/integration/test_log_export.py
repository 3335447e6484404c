"""Log records over OTLP: each arrives once, clean, with its ids, at a real collector."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped] # ships no types
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider

from otel_genapp import bind, init_telemetry
from otel_genapp.bootstrap import shutdown
from tests.canary import SECRETS
from tests.canned import Canned, CannedServer
from tests.fresh import in_fresh_process

RECORDS = 400


def arrived(server: CannedServer) -> list[tuple[str, dict[str, Any]]]:
    """(body, attributes) of every record taken, in order."""
    found = []
    for asked in server.asked:
        if asked.path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(asked.body).resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        values = {pair.key: pair.value.string_value for pair in record.attributes}
                        found.append((record.body.string_value, values))
    return found


def log_over_otlp() -> tuple[Any, ...]:
    server = CannedServer(lambda _asked: Canned())
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url("").rstrip("/")
    bodies = []
    for round_ in range(2):
        telemetry = init_telemetry("shop", env="dev", internal_auth="test", otlp_logs=True)
        with bind(session_id="s1", user_id="u1"):
            logging.getLogger("shop").warning("round %d of %s", round_, SECRETS[0])
        logging.getLogger("opentelemetry.sdk").warning("about telemetry itself")
        logging.getLogger("urllib3").setLevel("DEBUG")
        told = telemetry.flush(10)
        state = telemetry.status()["otlp"]
        bodies.append((told, state["logs"], state["logs_pending"], state["logs_problem"]))
        shutdown()
    found = arrived(server)
    server.close()
    return bodies, found


def test_records_arrive_once() -> None:
    """Over two telemetries in turn each record arrives once, without its secret, with its ids."""
    states, found = in_fresh_process(log_over_otlp)
    assert states == [(True, True, 0, "")] * 2
    own = [(body, values) for body, values in found if body.startswith("round")]
    assert [body for body, _ in own] == ["round 0 of [REDACTED]", "round 1 of [REDACTED]"]
    assert {(values["session.id"], values["user.id"]) for _, values in own} == {("s1", "u1")}
    assert not [body for body, _ in found if "telemetry itself" in body or "/v1/logs" in body]


class TheirHandler(logging.Handler):
    """Stands for the handler of OpenTelemetry's logging instrumentation: it has a provider."""

    __module__ = "opentelemetry.instrumentation.logging.handler"

    def __init__(self, provider: Any) -> None:
        super().__init__()
        self._logger_provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""


def log_beside_another() -> tuple[Any, ...]:
    server = CannedServer(lambda _asked: Canned())
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url("").rstrip("/")
    os.environ["OTEL_LOGS_EXPORTER"] = "otlp"
    notes = []
    telemetry = init_telemetry("shop", env="dev", internal_auth="test")
    for provider in (LoggerProvider(shutdown_on_exit=False), None):
        theirs = TheirHandler(provider)
        logging.getLogger().addHandler(theirs)
        logging.getLogger("shop").warning("round with %s", type(provider).__name__)
        logging.getLogger().removeHandler(theirs)
        notes.append(telemetry.status()["otlp"]["logs_problem"])
    telemetry.flush(10)
    shutdown()
    found = arrived(server)
    server.close()
    return notes, [body for body, _ in found if body.startswith("round")]


def test_another_export_is_left_to_it() -> None:
    """While OpenTelemetry's own handler exports the records we do not; one that reaches nobody is no rival."""
    notes, found = in_fresh_process(log_beside_another)
    assert notes == [
        "log records are exported by OpenTelemetry's logging instrumentation; we step back",
        "",
    ]
    assert found == ["round with NoneType"]


def log_without_asking() -> tuple[bool, list[Any]]:
    server = CannedServer(lambda _asked: Canned())
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url("").rstrip("/")
    telemetry = init_telemetry("shop", env="dev", internal_auth="test")
    logging.getLogger("shop").warning("a")
    telemetry.flush(10)
    said = telemetry.status()["otlp"]["logs"]
    shutdown()
    found = arrived(server)
    server.close()
    return said, found


def test_nothing_leaves_unasked() -> None:
    """An endpoint alone sends no log records."""
    assert in_fresh_process(log_without_asking) == (False, [])


def log_odd_texts() -> list[Any]:
    server = CannedServer(lambda _asked: Canned())
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url("").rstrip("/")
    telemetry = init_telemetry("shop", env="dev", internal_auth="test", otlp_logs=True)
    logger = logging.getLogger("shop\ud800")
    logger.warning("before")
    logger.warning("\ud800 %s", "\udfff", extra={"k\ud800": "v\ud800"})
    logger.warning("after %d", "seven")
    told = telemetry.flush(10)
    shutdown()
    found = arrived(server)
    server.close()
    return [told, [(body, values.get("k\ufffd")) for body, values in found]]


def test_odd_texts_lose_nothing() -> None:
    """Lone surrogates and arguments that do not fit arrive, and so do their neighbours."""
    assert in_fresh_process(log_odd_texts) == [
        True,
        [("before", None), ("\ufffd \ufffd", "v\ufffd"), ("after %d ('seven',)", None)],
    ]


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    """Counts the records it is sent."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.records = 0

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own name
        self.sizes.append(request.ByteSize())
        self.records += sum(
            len(scope.log_records) for one in request.resource_logs for scope in one.scope_logs
        )
        return logs_service_pb2.ExportLogsServiceResponse()


def log_much_over_grpc() -> dict[str, Any]:
    logs = Logs()
    server = grpc.server(ThreadPoolExecutor(2))  # takes 4 MiB at once, as collectors do
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(logs, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] = f"http://127.0.0.1:{port}"
    os.environ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"] = "grpc"
    os.environ["OTEL_LOGS_EXPORTER"] = "otlp"
    telemetry = init_telemetry("shop", env="dev", internal_auth="test")
    text = "words " * 4000
    for number in range(RECORDS):
        logging.getLogger("shop").warning("%d %s", number, text)
    told = telemetry.flush(20)
    shutdown()
    server.stop(None).wait()
    return {"told": told, "records": logs.records, "small": max(logs.sizes) < 4 * 1024 * 1024}


def test_many_long_records_arrive_over_grpc() -> None:
    """Requests are small enough for a collector that takes 4 MiB."""
    assert in_fresh_process(log_much_over_grpc) == {"told": True, "records": RECORDS, "small": True}
