"""What tests of the server side share: telemetry that remembers, real servers, hand-made ASGI calls."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from werkzeug.serving import make_server

from otel_genapp import hub
from otel_genapp.context import GenappPropagator
from tests.fakes import DEADLINE_S, Counted, RecordingFamilies, eventually, hub_for

Message = MutableMapping[str, Any]


@dataclass
class Watch:
    """What the telemetry of one test has seen."""

    families: RecordingFamilies
    exporter: InMemorySpanExporter
    running: hub.Hub

    def servers(self) -> list[ReadableSpan]:
        """The SERVER spans that ended, oldest first."""
        return [span for span in self.exporter.get_finished_spans() if span.kind is SpanKind.SERVER]

    def counted(self) -> list[Counted]:
        """The HTTP requests counted."""
        return self.families.requests()

    def one(self) -> tuple[ReadableSpan, Counted]:
        """The span and the count of the only request there was."""
        assert eventually(lambda: bool(self.counted()) and bool(self.servers()))
        assert (len(self.servers()), len(self.counted())) == (1, 1)
        return self.servers()[0], self.counted()[0]

    def errors(self) -> list[tuple[str, ...]]:
        """The labels of every unhandled error."""
        return [measurement.labels for measurement in self.families.of("errors")]


@contextmanager
def watching(*modules: str, sampler: Sampler = ALWAYS_ON, **settings: Any) -> Iterator[Watch]:
    """Telemetry over the named frameworks, with a tracer provider and a propagator of its own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    outer_provider, outer_propagator = trace._TRACER_PROVIDER, propagate.get_global_textmap()
    # Directly: the API lets a process choose its provider only once.
    trace._TRACER_PROVIDER = provider
    inner = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(GenappPropagator(inner))
    families = RecordingFamilies()
    running = hub_for(families, tracer=provider.get_tracer("otel_genapp"), **settings)
    undos = [instrument(module) for module in modules]
    hub.set_active(running)
    try:
        yield Watch(families, exporter, running)
    finally:
        hub.set_active(None)
        for undo in undos:
            undo()
        propagate.set_global_textmap(outer_propagator)
        trace._TRACER_PROVIDER = outer_provider
        provider.shutdown()


def instrument(module: str) -> Callable[[], None]:
    """Instrument a framework; returns the undo."""
    capture: Any = importlib.import_module(f"otel_genapp.capture.{module}")
    undo: Callable[[], None] = capture.instrument(importlib.import_module(module))
    return undo


@contextmanager
def uvicorn_server(app: Any, **options: Any) -> Iterator[str]:
    """A uvicorn serving `app` in a thread: asyncio, h11, one process. Its base URL."""
    settings: dict[str, Any] = {"loop": "asyncio", "http": "h11", "log_level": "critical", **options}
    config = uvicorn.Config(app, **settings)
    server = uvicorn.Server(config)
    # With its protocol named, or asyncio leaves Nagle's algorithm on: 40 ms for each request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listener.close()


@contextmanager
def wsgi_server(app: Any) -> Iterator[str]:
    """A werkzeug server with a thread for each connection. Its base URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


@dataclass(frozen=True)
class Fetched:
    """What a real server answered."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes


def fetch(url: str, *, method: str = "GET", body: bytes | None = None) -> Fetched:
    """One request on a connection of its own, by a client nobody instruments."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=DEADLINE_S)
    try:
        connection.request(method, split.path, body)
        response = connection.getresponse()
        return Fetched(response.status, response.headers, response.read())
    finally:
        connection.close()


@dataclass
class AsgiCall:
    """One ASGI request made by hand: what comes in, and what the application sent."""

    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: tuple[bytes, ...] = (b"",)
    client: tuple[str, int] | None = ("127.0.0.1", 50000)
    kind: str = "http"
    root_path: str = ""
    extensions: dict[str, Any] = field(default_factory=dict)
    leaves_after: int | None = None
    """After so many messages sent to it the caller is gone: sending more raises."""
    spec_version: str = "2.4"
    sent: list[Message] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    _answered: asyncio.Event = field(init=False, repr=False)

    async def __call__(self, app: Any) -> AsgiCall:
        """Run the request through `app`; what the application raises is raised."""
        self._answered = asyncio.Event()
        self.scope = {
            "type": self.kind,
            "asgi": {"version": "3.0", "spec_version": self.spec_version},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": self.root_path,
            "headers": [(b"host", b"shop.example"), *self.headers],
            "client": self.client,
            "server": ("127.0.0.1", 80),
            "extensions": self.extensions,
        }
        await app(self.scope, self.receiver(), self.send)
        return self

    def receiver(self) -> Callable[[], Awaitable[Message]]:
        """A `receive` that brings the body once more."""
        parts: Iterator[bytes] = iter(self.body)
        left = len(self.body)

        async def receive() -> Message:
            nonlocal left
            left -= 1
            if left < 0:
                if self.leaves_after is None:
                    await self._answered.wait()
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": next(parts), "more_body": left > 0}

        return receive

    async def send(self, message: Message) -> None:
        """Keep what the application sends."""
        if self.leaves_after is not None and len(self.sent) >= self.leaves_after:
            raise OSError("the caller is gone")
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered.set()

    @property
    def status(self) -> int:
        """The status that was sent."""
        return int(self.sent[0]["status"])

    def header(self, name: bytes) -> list[bytes]:
        """Every value of a response header."""
        return [value for key, value in self.sent[0]["headers"] if key.lower() == name]


def spans_by_name(spans: Iterable[ReadableSpan]) -> list[str]:
    """Sorted span names."""
    return sorted(span.name for span in spans)
