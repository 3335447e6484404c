"""An OTLP/HTTP collector that fails on command, in a process of its own.

Run as a program it listens on loopback and obeys lines on stdin, each acknowledged on stdout. What
it takes is appended to a file, the receiving ledger, as JSON lines: one `span` or `point` each, and
one `request` for each request with spans that was answered.

    ok                answer and keep           ack_lost     keep, then close without an answer
    503               refuse for the moment     hang         read, and never answer
    429 SECONDS       refuse, with Retry-After  black_hole   accept, and never read
    400               refuse for good           refuse       accept no connection
    poison 400 NAME   refuse what holds a span of that name
    413 BYTES         refuse what is longer     drip         answer, a byte every now and then
    partial NUMBER    keep all but so many spans of each request, and say so
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import parse_headers
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Span:
    """A span as it arrived."""

    trace_id: str
    span_id: str
    name: str
    scope: str
    attributes: dict[str, Any] = field(compare=False, repr=False)
    resource: dict[str, Any] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Point:
    """A metric's point as it arrived: the value of a sum or gauge, the count of a histogram."""

    name: str
    value: float
    attributes: dict[str, Any]
    resource: dict[str, Any] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Request:
    """A request with spans, as it was answered, at a time of the monotonic clock."""

    at_s: float
    status: int
    bytes: int
    spans: int
    encoding: str
    token: str
    """Of the header `x-token`."""


class Collector:
    """The collector as the tests hold it."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.port = 0
        self.start()

    def start(self) -> None:
        """Run; after `kill`, on the same port and with the same ledger."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.flaky_collector", str(self._ledger), str(self.port)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._told())

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.communicate()

    @property
    def endpoint(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    def be(self, mode: str) -> None:
        """Fail, or work, in this way from now on; connections of before are closed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n")
        self._process.stdin.flush()
        assert self._told() == mode

    @property
    def spans(self) -> list[Span]:
        """Every span taken, as often as it arrived."""
        return [Span(**line) for kind, line in self._lines() if kind == "span"]

    @property
    def points(self) -> list[Point]:
        """Every point taken, oldest first."""
        return [Point(**line) for kind, line in self._lines() if kind == "point"]

    @property
    def requests(self) -> list[Request]:
        """Every request with spans that was answered, oldest first."""
        return [Request(**line) for kind, line in self._lines() if kind == "request"]

    def total(self, name: str, *, service: str | None = None, **attributes: Any) -> float:
        """The sum over processes and label sets of a metric's last values, of one service if named."""
        last: dict[Any, float] = {}
        for point in self.points:
            if service not in {None, point.resource["service.name"]}:
                continue
            if point.name == name and attributes.items() <= point.attributes.items():
                key = (point.resource["service.instance.id"], *sorted(point.attributes.items()))
                last[key] = point.value
        return sum(last.values())

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        # What comes after the last end of a line is being written now.
        written, _, _ = self._ledger.read_text(encoding="utf-8").rpartition("\n")
        for line in written.splitlines():
            found = json.loads(line)
            yield found.pop("what"), found

    def _told(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def collecting(mode: str = "ok") -> Iterator[Collector]:
    """A collector process, gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        ledger.touch()
        collector = Collector(ledger)
        try:
            if mode != "ok":
                collector.be(mode)
            yield collector
        finally:
            collector.kill()


class _Server:
    """The collector's own side; one thread for each connection."""

    def __init__(self, ledger: str, port: int) -> None:
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._mode = "ok"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = port
        self._listening: socket.socket | None = None
        self._listen()

    def run(self) -> None:
        print(self._port, flush=True)  # noqa: T201 - the protocol
        for line in sys.stdin:
            self._obey(line.strip())
            print(line.strip(), flush=True)  # noqa: T201

    def _listen(self) -> None:
        listening = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _obey(self, mode: str) -> None:
        with self._lock:
            self._mode = mode
            before, self._open = self._open, set()
        for connection in before:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if mode == "refuse" and self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        elif mode != "refuse" and self._listening is None:
            self._listen()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            if self._mode != "black_hole":
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError), connection.makefile("rb") as incoming:
            while request := incoming.readline():
                headers = parse_headers(incoming)
                body = incoming.read(int(headers["content-length"]))
                encoding = headers.get("content-encoding", "")
                if encoding == "gzip":
                    body = gzip.decompress(body)
                told = {"encoding": encoding, "token": headers.get("x-token", "")}
                if not self._answer(connection, request.split()[1].decode(), body, told):
                    return

    def _answer(self, connection: socket.socket, path: str, body: bytes, told: dict[str, str]) -> bool:
        mode, _, argument = self._mode.partition(" ")
        if mode == "hang":
            connection.recv(1)  # until somebody has enough
            return False
        if mode == "drip":
            _drip(connection)
            return False
        has_spans = path.endswith("/v1/traces")
        lines = list(_spans_in(body) if has_spans else _points_in(body))
        status = _status(mode, argument, size=len(body), names={line["name"] for line in lines})
        reply = b""
        if mode == "partial" and has_spans:
            lines, reply = lines[int(argument) :], _partial_success(int(argument))
        if has_spans:
            seen = {"at_s": time.monotonic(), "status": status, "bytes": len(body), "spans": len(lines)}
            self._keep([{"what": "request", **seen, **told}, *(lines if status == 200 else ())])
        elif status == 200:
            self._keep(lines)
        if mode == "ack_lost":
            return False
        retry = f"Retry-After: {argument}\r\n" if mode in {"429", "503"} and argument else ""
        head = f"HTTP/1.1 {status} So\r\nContent-Length: {len(reply)}\r\n{retry}\r\n"
        connection.sendall(head.encode() + reply)
        return True

    def _keep(self, lines: Iterable[dict[str, Any]]) -> None:
        written = "".join(f"{json.dumps(line)}\n" for line in lines)
        os.write(self._ledger, written.encode())


def _status(mode: str, argument: str, *, size: int, names: set[str]) -> int:
    if mode in {"ok", "ack_lost", "partial"}:
        return 200
    if mode == "poison":
        status, _, name = argument.partition(" ")
        return int(status) if name in names else 200
    if mode == "413":
        return 413 if size > int(argument) else 200
    return int(mode)


def _drip(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _partial_success(rejected: int) -> bytes:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    written: bytes = answer.SerializeToString()
    return written


def _spans_in(body: bytes) -> Iterator[dict[str, Any]]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for one in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in one.scope_spans:
            for span in scope.spans:
                yield {
                    "what": "span",
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "name": span.name,
                    "scope": scope.scope.name,
                    "attributes": _plain(span.attributes),
                    "resource": _plain(one.resource.attributes),
                }


def _points_in(body: bytes) -> Iterator[dict[str, Any]]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    for one in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in one.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    if kind == "histogram":
                        value = float(point.count)
                    else:
                        value = float(point.as_int or point.as_double)
                    yield {
                        "what": "point",
                        "name": metric.name,
                        "value": value,
                        "attributes": _plain(point.attributes),
                        "resource": _plain(one.resource.attributes),
                    }


def _plain(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind) if kind is not None else None
        found[attribute.key] = value if isinstance(value, str | bool | int | float) else str(value)
    return found


if __name__ == "__main__":
    _Server(sys.argv[1], int(sys.argv[2])).run()
