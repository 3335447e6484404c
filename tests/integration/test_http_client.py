"""httpx and httpx2, sync and async: what a request is counted as."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_genapp.capture import http_client
from tests.fakes import Counted, RecordingFamilies, WireServer, telemetry
from tests.http_flavours import Flavour, counted, flavours, instrumented, uninstrumented


@pytest.fixture(params=flavours(), ids=lambda flavour: f"{flavour.name}-{flavour.style}")
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


@pytest.fixture
def spans(flavour: Flavour) -> Iterator[InMemorySpanExporter]:
    with instrumented(flavour.module) as exporter:
        yield exporter


@pytest.fixture
def families(spans: InMemorySpanExporter) -> Iterator[RecordingFamilies]:
    with telemetry() as running:
        yield running


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        yield running


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/bytes?n=1000", "200"),
        ("GET", "/chunks?n=7&of=100", "200"),
        ("GET", "/gzip?n=65536", "200"),
        ("GET", "/bytes?n=0", "200"),
        ("HEAD", "/bytes?n=1000", "200"),
        ("DELETE", "/status?code=204", "204"),
        ("PATCH", "/status?code=503", "503"),
        ("QUERY", "/status?code=404", "404"),
    ],
)
async def test_an_answer_is_counted_with_its_wire_bytes(
    flavour: Flavour,
    server: WireServer,
    families: RecordingFamilies,
    *,
    method: str,
    target: str,
    status: str,
) -> None:
    """The code, and the body's size as the server sent it, compressed if it was."""
    await flavour.request(method, server.url(target))
    ((_received, sent),) = server.sizes()
    assert families.requests() == [counted(flavour, server, method=method, status=status, got=sent)]


async def test_an_unheard_of_method_is_other(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """A made-up method cannot make up label values."""
    await flavour.request("BREW", server.url("/bytes?n=1"))
    assert families.requests() == [counted(flavour, server, method="_OTHER", got=1)]


@pytest.mark.parametrize("shape", ["bytes", "pieces", "json", "multipart", "empty"])
async def test_a_request_body_is_counted_as_the_server_received_it(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, shape: str
) -> None:
    """Every kind of body is counted without being read or changed."""
    body: dict[str, Any] = {
        "bytes": {"content": b"x" * 70_000},
        "pieces": {"content": flavour.content([b"a" * 10, b"b" * 20_000, b"c"])},
        "json": {"json": {"question": "why"}},
        "multipart": {"files": {"file": ("name.txt", b"z" * 3000)}},
        "empty": {},
    }[shape]
    await flavour.request("POST", server.url("/bytes?n=5"), **body)
    ((received, _sent),) = server.sizes()
    assert (received > 0, families.requests()) == (
        shape != "empty",
        [counted(flavour, server, method="POST", sent=received, got=5)],
    )


async def test_the_caller_keeps_the_request_and_stream_it_made(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """After the call the request has its own stream again, and the response's looks like the library's."""
    async with flavour.client() as client:
        request = client.build_request("POST", server.url("/bytes?n=3"), content=b"abc")
        stream = request.stream
        response = await flavour.done(client.send(request, stream=True))
        bound = response.stream
        kind = flavour.module.SyncByteStream if flavour.style == "sync" else flavour.module.AsyncByteStream
        below = bound._stream
        seen = (request.stream is stream, isinstance(below, kind), type(below._httpcore_stream).__name__)
        body = b"".join([chunk async for chunk in flavour.chunks(response)])
        await flavour.close(response)
    assert (seen[:2], "Stream" in seen[2], body) == ((True, True), True, b"xxx")
    with pytest.raises(AttributeError):
        _ = below.no_such_thing


async def test_no_answer_in_time_is_a_timeout(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """Without an answer there is no answer's size; what was sent is known."""
    with pytest.raises(flavour.module.ReadTimeout):
        await flavour.request("POST", server.url("/hang"), content=b"12345", timeout=0.1)
    assert families.requests() == [
        counted(flavour, server, method="POST", status="timeout", sent=5, got=None)
    ]
    assert len(spans.get_finished_spans()) == 1


async def test_a_refused_connection_is_an_error_without_bytes(
    flavour: Flavour, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """Nothing crossed the wire, so nothing is claimed to have."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(flavour.module.ConnectError):
        await flavour.request("POST", f"http://127.0.0.1:{port}/", content=b"12345")
    expected = Counted("POST", "error", f"127.0.0.1:{port}", flavour.name, 0, None)
    assert (families.requests(), len(spans.get_finished_spans())) == ([expected], 1)


async def test_a_server_that_hangs_up_is_an_error(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """A connection closed instead of an answer counts as an error."""
    with pytest.raises(flavour.module.RemoteProtocolError):
        await flavour.request("GET", server.url("/gone"))
    assert families.requests() == [counted(flavour, server, status="error", got=None)]


async def test_a_failing_request_body_is_an_error_and_stays_the_callers(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """The exception of a body generator passes through as the very object it was."""
    mine = RuntimeError("mine")

    def sync_body() -> Iterator[bytes]:
        yield b"12345"
        raise mine

    async def async_body() -> AsyncIterator[bytes]:
        yield b"12345"
        raise mine

    body = sync_body() if flavour.style == "sync" else async_body()
    with pytest.raises(RuntimeError) as caught:
        await flavour.request("POST", server.url("/bytes?n=1"), content=body)
    assert (caught.value is mine, families.requests()) == (
        True,
        [counted(flavour, server, method="POST", status="error", sent=5, got=None)],
    )


async def test_hops_of_a_redirect_are_requests_of_their_own(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """As many counts as spans; the body goes out again on a 307."""
    url = server.url(f"/redirect?to={server.url('/bytes?n=4').replace('?', '%3F')}")
    await flavour.request("POST", url, content=b"123", follow_redirects=True)
    assert families.requests() == [
        counted(flavour, server, method="POST", status="307", sent=3, got=9),
        counted(flavour, server, method="POST", sent=3, got=4),
    ]
    assert (server.sizes(), len(spans.get_finished_spans())) == ([(3, 9), (3, 4)], 2)


async def test_listed_paths_name_the_resource(
    flavour: Flavour, server: WireServer, spans: InMemorySpanExporter
) -> None:
    """With templates the resource is host and template where one fits, else the host."""
    with telemetry(client_paths=("/{kind}",)) as families:
        await flavour.request("GET", server.url("/bytes?n=1"))
        await flavour.request("GET", server.url("/some/where"))
    assert [request.resource for request in families.requests()] == [
        f"{server.authority}/{{kind}}",
        server.authority,
    ]


async def test_measurements_carry_the_callers_context(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """Exemplars can point at the span the request was made in, and the caller's context is as before."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("caller") as caller:
        before = get_current()
        await flavour.request("GET", server.url("/bytes?n=1"))
        with pytest.raises(flavour.module.RemoteProtocolError):
            await flavour.request("GET", server.url("/gone"))
        assert get_current() is before
    seen = {trace.get_current_span(measurement.context) for measurement in families.measurements}
    assert seen == {caller}


async def test_existing_clients_and_subclassed_transports_are_seen(
    flavour: Flavour, server: WireServer
) -> None:
    """What was made before, and what somebody derived, is measured like the rest."""
    kind = flavour.module.HTTPTransport if flavour.style == "sync" else flavour.module.AsyncHTTPTransport
    derived = type("Derived", (kind,), {})
    with uninstrumented(flavour.module):
        async with flavour.client(transport=derived()) as client:
            with instrumented(flavour.module):
                again = http_client.instrument(flavour.module), http_client.instrument(flavour.module)
                with telemetry() as families:
                    await flavour.done(client.get(server.url("/bytes?n=1")))
            with telemetry() as afterwards:
                await flavour.done(client.get(server.url("/bytes?n=1")))
    assert again[0] == again[1]
    assert (families.requests(), afterwards.requests()) == ([counted(flavour, server, got=1)], [])


async def test_without_telemetry_everything_passes_through(
    flavour: Flavour, server: WireServer, spans: InMemorySpanExporter
) -> None:
    """With nothing running the library's own stream reaches the caller."""
    async with flavour.client() as client:
        response = await flavour.opened(client, server.url("/bytes?n=3"))
        name = type(response.stream._stream).__name__
        await flavour.close(response)
    assert "Watched" not in name


async def test_suppressed_requests_are_not_counted(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """What an exporter sends about the application is not the application's traffic."""
    with suppress_instrumentation():
        await flavour.request("GET", server.url("/bytes?n=3"))
    assert (families.requests(), spans.get_finished_spans()) == ([], ())
