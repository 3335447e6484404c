"""Hand-written stand-ins the tests share: recording families, a hub around them, a raw HTTP server."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer, Tracer

from otel_genapp import hub, semconv
from otel_genapp.config import Settings
from otel_genapp.metrics.levels import Levels

DEADLINE_S = 10.0


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true before the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


async def soon(condition: Callable[[], bool]) -> bool:
    """As `eventually`, leaving the event loop to the others."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.001)
    return True


@dataclass(frozen=True)
class Measurement:
    """One `record` of one family."""

    family: str
    value: float
    labels: tuple[str, ...]
    context: Context | None = field(default=None, compare=False, repr=False)


class RecordingFamily:
    """A family that remembers what was recorded and announced."""

    def __init__(self, name: str, measurements: list[Measurement]) -> None:
        self.name = name
        self.announced: list[tuple[str, ...]] = []
        self._measurements = measurements

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        self._measurements.append(Measurement(self.name, value, labels, context))

    def announce(self, labels: tuple[str, ...]) -> None:
        self.announced.append(labels)


@dataclass(frozen=True)
class Counted:
    """One HTTP request as its three families show it; `response_bytes` is None without an answer."""

    method: str
    status: str
    resource: str
    app_type: str
    request_bytes: float
    response_bytes: float | None


class RecordingHttp:
    """The HTTP families, spelled out into the shared list."""

    def __init__(self, measurements: list[Measurement]) -> None:
        self.requests = RecordingFamily("http_requests", measurements)
        self.duration = RecordingFamily("http_duration", measurements)
        self.size = RecordingFamily("http_size", measurements)

    def record(
        self,
        labels: tuple[str, str, str, str],
        seconds: float,
        *,
        request_bytes: int,
        response_bytes: int | None,
        context: Context | None,
    ) -> None:
        method, status, resource, app_type = labels
        self.requests.record(1, labels, context)
        self.duration.record(seconds, labels, context)
        self.size.record(request_bytes, (resource, status, method, "request", app_type), context)
        if response_bytes is not None:
            self.size.record(response_bytes, (resource, status, method, "response", app_type), context)


class RecordingFamilies:
    """The families capture code records, in one list."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.http = RecordingHttp(self.measurements)
        self.action_count = RecordingFamily("action_count", self.measurements)
        self.action_duration = RecordingFamily("action_duration", self.measurements)
        self.action_size = RecordingFamily("action_size", self.measurements)
        self.errors = RecordingFamily("errors", self.measurements)
        self.telemetry_dropped = RecordingFamily("telemetry_dropped", self.measurements)

    def of(self, family: str) -> list[Measurement]:
        """What was recorded in one family."""
        return [measurement for measurement in self.measurements if measurement.family == family]

    def requests(self) -> list[Counted]:
        """Every HTTP request counted so far, each with exactly one duration and its sizes."""
        counted = []
        rest = iter([m for m in self.measurements if m.family.startswith("http_")])
        pending = next(rest, None)
        while pending is not None:
            request, duration, sent, received = pending, next(rest), next(rest), next(rest, None)
            method, status, resource, app_type = request.labels
            sized = (resource, status, method, "request", app_type)
            answered = (resource, status, method, "response", app_type)
            assert (request.family, request.value) == ("http_requests", 1)
            assert (duration.family, duration.labels) == ("http_duration", request.labels)
            assert (sent.family, sent.labels) == ("http_size", sized)
            has_answer = received is not None and (received.family, received.labels) == (
                "http_size",
                answered,
            )
            response_bytes = received.value if received is not None and has_answer else None
            counted.append(Counted(method, status, resource, app_type, sent.value, response_bytes))
            pending = next(rest, None) if has_answer else received
        return counted


class NoCalls:
    """No LLM call is held by anybody; what is nested is remembered."""

    def __init__(self) -> None:
        self.nested: list[tuple[int, dict[str, Any]]] = []

    def holder_of(self, context: Context) -> int:
        return 0

    def tell(self, span_id: int, outcome: Any, *, status: str | None, error_type: str | None) -> None:
        pass

    def nest(self, span_id: int, attributes: Mapping[str, Any]) -> None:
        self.nested.append((span_id, dict(attributes)))


def hub_for(families: Any, *, tracer: Tracer | None = None, **settings: Any) -> hub.Hub:
    """A hub around `families`, with these settings."""
    chosen = Settings(app="shop-bot", **settings)
    return hub.Hub(
        settings=chosen,
        families=families,
        tracer=tracer or NoOpTracer(),
        trusted=chosen.trust_rule(),
        egress=chosen.propagate_rule(),
        calls=NoCalls(),
        levels=Levels(*(metric for metric in semconv.METRICS if metric.kind == "gauge")),
        record=lambda _record, _context: None,
        new_id=iter(map(str, count())).__next__,
        flush=lambda _timeout_s: True,
    )


@contextmanager
def telemetry(**settings: Any) -> Iterator[RecordingFamilies]:
    """Running telemetry that only remembers: its families."""
    families = RecordingFamilies()
    before = hub.active
    hub.set_active(hub_for(families, **settings))
    try:
        yield families
    finally:
        hub.set_active(before)


@dataclass
class Served:
    """One request as the server saw it. Sizes are body bytes on the wire, without chunk framing."""

    method: str
    target: str
    headers: dict[str, str]
    received_bytes: int = 0
    sent_bytes: int = 0
    ended: bool = False


class WireServer:
    """An HTTP/1.1 server on plain sockets that knows exactly which bytes crossed the wire.

    /bytes?n=       a body of n bytes                   /status?code=    an empty answer
    /chunks?n=&of=  n chunks of so many bytes           /gzip?n=         n bytes, compressed
    /gated?n=&of=   as chunks, one for each `let()`     /redirect?to=    a 307 with a short body
    /cut?n=&of=     n of the announced bytes, then gone /cut-chunks?n=&of=  n chunks, then gone
    /hang           no answer                           /gone            the connection is closed
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.served: list[Served] = []
        self._closing = threading.Event()
        self._permits = threading.Semaphore(0)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self._start(self._accept)

    @property
    def authority(self) -> str:
        """`host:port`, as the `resource` label has it."""
        return f"{self.host}:{self.port}"

    def url(self, target: str, *, host: str | None = None) -> str:
        """The URL of `target`, under another name of this host where one is given."""
        return f"http://{host or self.host}:{self.port}{target}"

    def let(self, chunks: int = 1) -> None:
        """Let `/gated` send on."""
        self._permits.release(chunks)

    def sizes(self) -> list[tuple[int, int]]:
        """(received, sent) body bytes of every request."""
        return [(served.received_bytes, served.sent_bytes) for served in self.served]

    def close(self) -> None:
        """Break every connection off and wait for the threads."""
        self._closing.set()
        self._permits.release(1000)
        for opened in (self._listener, *self._connections):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            keep_alive = True
            while keep_alive and not self._closing.is_set():
                line = reader.readline()
                if not line:
                    return
                method, target, _version = line.decode("ascii").split(" ")
                headers = dict(_headers(reader))
                served = Served(method, target, headers)
                self.served.append(served)
                for size in _body(reader, headers):
                    served.received_bytes += size
                split = urlsplit(target)
                asked = {name: values[0] for name, values in parse_qs(split.query).items()}
                keep_alive = self._answer(_Answer(connection, served), split.path, asked=asked)
                served.ended = True

    def _answer(self, answer: _Answer, path: str, *, asked: dict[str, str]) -> bool:
        count, size = int(asked.get("n", 0)), int(asked.get("of", 0))
        match path:
            case "/bytes":
                answer.whole(b"x" * count)
            case "/gzip":
                body = gzip.compress(bytes(range(256)) * (count // 256))
                answer.whole(body, head="Content-Encoding: gzip\r\n")
            case "/redirect":
                head = f"Location: {unquote(asked['to'])}\r\n"
                answer.whole(b"elsewhere", status="307 Temporary Redirect", head=head)
            case "/chunks" | "/gated" | "/cut-chunks":
                answer.head("Transfer-Encoding: chunked\r\n")
                for _ in range(count):
                    if path == "/gated":
                        self._permits.acquire(timeout=DEADLINE_S)
                    answer.chunk(b"x" * size)
                if path == "/cut-chunks":
                    return False
                answer.raw(b"0\r\n\r\n")
            case "/cut":
                answer.head(f"Content-Length: {size}\r\n")
                answer.body(b"x" * count)
                return False
            case "/hang" | "/gone":
                if path == "/hang":
                    self._closing.wait(DEADLINE_S)
                return False
            case _:
                answer.whole(b"", status=f"{asked.get('code', '200')} So")
        return True


class _Answer:
    def __init__(self, connection: socket.socket, served: Served) -> None:
        self._served = served
        self.raw = connection.sendall

    def head(self, lines: str, *, status: str = "200 OK") -> None:
        self.raw(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("ascii"))

    def body(self, data: bytes) -> None:
        # Counted first: the client may be done with the bytes before `sendall` returns.
        self._served.sent_bytes += len(data)
        self.raw(data)

    def chunk(self, data: bytes) -> None:
        self.raw(f"{len(data):x}\r\n".encode("ascii"))
        self.body(data)
        self.raw(b"\r\n")

    def whole(self, data: bytes, *, status: str = "200 OK", head: str = "") -> None:
        bodiless = status.startswith(("204", "304"))
        self.head(head + ("" if bodiless else f"Content-Length: {len(data)}\r\n"), status=status)
        if self._served.method != "HEAD" and not bodiless:
            self.body(data)


def _headers(reader: BufferedReader) -> Iterator[tuple[str, str]]:
    while True:
        line = reader.readline().decode("latin-1").strip()
        if not line:
            return
        name, _, value = line.partition(":")
        yield name.lower(), value.strip()


def _body(reader: BufferedReader, headers: dict[str, str]) -> Iterator[int]:
    """The sizes of the pieces a request's body arrives in."""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(reader.readline() or b"0", 16):
            yield len(reader.read(size))
            reader.readline()
        reader.readline()
        return
    missing = int(headers.get("content-length", 0))
    while missing and (piece := reader.read1(min(missing, 65536))):
        missing -= len(piece)
        yield len(piece)
