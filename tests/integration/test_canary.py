"""No secret reaches a sink: planted in every place it can come from, looked for in all of them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

import otel_genapp
from otel_genapp import action_tracking, init_telemetry, llm_call, record_error
from otel_genapp.logs import RedactSecrets
from tests.canary import SECRETS, found_in
from tests.serving import Client, uvicorn_serving

TOKEN = "letmein"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the bodies as they came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.bodies: list[bytes] = []


class _Take(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on loopback."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join(10)


def leaky_app(upstream: str) -> FastAPI:
    """An application that puts its caller's secret wherever applications put such things."""
    app = FastAPI()
    tracer = trace.get_tracer("leaky")

    @app.get("/{path:path}")
    async def everywhere(request: Request, path: str) -> dict[str, str]:
        secret = request.query_params["plain"]
        sealed = quote(secret, safe="")
        async with httpx.AsyncClient() as client:
            await client.get(f"{upstream}/up", params={"api_key": secret, "q": secret})
            await client.get(f"{upstream}/keys/{sealed}/use")
            address = upstream.removeprefix("http://")
            await client.get(f"http://user:{sealed}@{address}/", headers={"x-api-key": secret})
        with tracer.start_as_current_span(f"call {secret}") as span:
            span.set_attribute("http.request.header.authorization", [f"Bearer {secret}"])
            span.set_attribute("note", f"the key is {secret}, keep it")
            span.add_event("said", {"text": secret})
            span.set_status(Status(StatusCode.ERROR, f"denied for {secret}"))
        with suppress(RuntimeError), llm_call(secret, provider=secret) as call:
            call.response(model=secret, id=secret, finish_reasons=(secret,))
            call.tools(secret)
            raise RuntimeError(f"rejected {secret}")
        with suppress(RuntimeError), action_tracking(secret):
            raise RuntimeError(secret)
        record_error(secret, secret)
        logging.getLogger("app").warning("calling with %s", secret)
        return {"path": "seen"}

    return app


def plant(server: Client, secret: str) -> list[bytes]:
    """Send one secret in at every door; what the service answers."""
    sealed = quote(secret, safe="")
    plain = secret.encode("latin-1", "replace").decode("latin-1").replace("\n", " ").strip()
    answer = server.ask(
        f"/items/{sealed}/x?plain={sealed}&token={sealed}",
        headers={
            "authorization": f"Bearer {plain}",
            "cookie": f"session={plain}",
            "x-correlation-id": plain,
            "x-request-id": plain,
            "x-session-id": plain,
            "baggage": f"user={sealed}",
            "tracestate": f"vendor={sealed[:200]}",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "user-agent": f"client/{plain}",
        },
    )
    assert answer.status in {200, 404}, answer
    return [json.dumps(dict(answer.headers)).encode(), answer.body]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What a handler with our filter writes."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.addFilter(RedactSecrets())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def test_no_secret_reaches_a_sink(monkeypatch: pytest.MonkeyPatch, logged: list[str], tmp_path: Any) -> None:
    """200 forms of secret in every place: none in OTLP, /prometheus, /events, logs, status, answers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with collecting() as collector:
        here = f"http://127.0.0.1:{collector.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", here)
        try:
            app = leaky_app(here)
            telemetry = init_telemetry("canary", env="dev", internal_auth=TOKEN, app=app)
            with uvicorn_serving(app) as server:
                answers = [answer for secret in SECRETS for answer in plant(server, secret)]
                guard = {"x-internal-auth": TOKEN}
                sessions = telemetry.sessions.list(limit=1000).ids
                traces = telemetry.traces.recent(1000).traces
                json_sinks = [
                    server.ask("/events/metrics", headers=guard).body,
                    server.ask("/events/metrics/sessions", headers=guard).body,
                    *(
                        server.ask(f"/events/metrics/session/{quote(one, safe='')}", headers=guard).body
                        for one in sessions
                    ),
                    *(
                        server.ask(f"/events/traces/{one}", headers=guard).body
                        for one in {trace.correlation_id for trace in traces}
                    ),
                ]
                sinks = {
                    "prometheus": [server.ask("/prometheus").body],
                    "openmetrics": [
                        server.ask("/prometheus", headers={"accept": "application/openmetrics-text"}).body
                    ],
                }
            assert telemetry.flush(10)
            status = json.dumps(telemetry.status()).encode()
        finally:
            otel_genapp.shutdown()
    sinks |= {
        "otlp": collector.bodies,
        "events": json_sinks,
        "answers": answers,
        "logs": ["\n".join(logged).encode()],
        "status": [status],
        "state": [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()],
    }
    assert len(SECRETS) == 200
    assert sum(len(body) for body in collector.bodies) > 100_000
    assert sum(trace.spans for trace in traces) >= 200 * 6
    assert sum(len(body) for body in json_sinks) > 100_000
    assert {
        sink: sorted({hit for body in bodies for hit in found_in(body)}) for sink, bodies in sinks.items()
    } == {sink: [] for sink in sinks}
