"""aiohttp's client against a server that knows what crossed the wire."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_genapp import hub
from otel_genapp.capture import aiohttp_client
from tests.fakes import Counted, RecordingFamilies, WireServer, soon, telemetry
from tests.http_flavours import instrumented, uninstrumented


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    with instrumented(aiohttp) as exporter:
        yield exporter


@pytest.fixture
def families(spans: InMemorySpanExporter) -> Iterator[RecordingFamilies]:
    with telemetry() as running:
        yield running


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        yield running


@pytest.fixture
async def session(spans: InMemorySpanExporter) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def counted(
    server: WireServer, *, method: str = "GET", status: str = "200", sent: int = 0, got: int | None = 0
) -> Counted:
    return Counted(method, status, server.authority, "aiohttp", sent, got)


async def fetch(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> bytes:
    async with session.request(method, url, **options) as response:
        return await response.read()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/bytes?n=1000", "200"),
        ("GET", "/bytes?n=3000000", "200"),
        ("GET", "/chunks?n=7&of=100", "200"),
        ("GET", "/gzip?n=65536", "200"),
        ("GET", "/bytes?n=0", "200"),
        ("HEAD", "/bytes?n=1000", "200"),
        ("DELETE", "/status?code=204", "204"),
        ("PATCH", "/status?code=503", "503"),
    ],
)
async def test_an_answer_is_counted_with_its_wire_bytes(
    session: aiohttp.ClientSession,
    server: WireServer,
    families: RecordingFamilies,
    *,
    method: str,
    target: str,
    status: str,
) -> None:
    """The code, and the body's size as the server sent it, compressed if it was."""
    await fetch(session, method, server.url(target))
    ((_received, sent),) = server.sizes()
    assert families.requests() == [counted(server, method=method, status=status, got=sent)]


@pytest.mark.parametrize(
    "shape", ["bytes", "pieces", "json", "form", "multipart", "compressed", "memoryview", "empty"]
)
async def test_a_request_body_is_counted_as_the_server_received_it(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies, shape: str
) -> None:
    """Every kind of body is counted without being read or changed, compressed ones after compression."""

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in (b"a" * 10, b"b" * 200_000, b"c"):
            yield chunk

    form = aiohttp.FormData()
    form.add_field("file", b"z" * 3000, filename="name.txt")
    bodies: dict[str, dict[str, Any]] = {
        "bytes": {"data": b"x" * 70_000},
        "pieces": {"data": pieces()},
        "json": {"json": {"question": "why"}},
        "form": {"data": {"a": "1", "b": "2"}},
        "multipart": {"data": form},
        "compressed": {"data": b"x" * 70_000, "compress": "gzip"},
        "memoryview": {"data": memoryview(b"x" * 800).cast("Q")},
        "empty": {},
    }
    await fetch(session, "POST", server.url("/bytes?n=5"), **bodies[shape])
    ((received, _sent),) = server.sizes()
    assert (received > 0, families.requests()) == (
        shape != "empty",
        [counted(server, method="POST", sent=received, got=5)],
    )


async def test_a_streamed_answer_lasts_until_its_last_byte(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """The duration covers the body, and nothing is counted before its end."""
    async with session.get(server.url("/gated?n=2&of=10")) as response:
        server.let()
        await response.content.readany()
        before = families.requests()
        asyncio.get_running_loop().call_later(0.15, server.let)
        rest = await response.read()
    (duration,) = families.of("http_duration")
    assert (before, rest, families.requests()) == ([], b"x" * 10, [counted(server, got=20)])
    assert duration.value >= 0.14


async def test_an_answer_ends_with_its_last_byte_read_or_not(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """An answer that has arrived is counted while the application still holds on to it."""
    response = await session.get(server.url("/chunks?n=2&of=10"))
    arrived = await soon(lambda: families.requests() != [])
    assert (arrived, families.requests()) == (True, [counted(server, got=20)])
    response.release()
    assert len(families.requests()) == 1


@pytest.mark.parametrize("how", ["release", "close", "leave", "raise", "other task"])
async def test_an_answer_let_go_early_keeps_its_code(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies, how: str
) -> None:
    """Whoever stops reading has what it wanted: the code, and the bytes so far, once."""
    response = await session.get(server.url("/gated?n=3&of=10"))
    server.let()
    await response.content.readany()
    mine = ValueError("mine")
    if how == "release":
        response.release()
    elif how == "close":
        response.close()
    elif how == "other task":
        await asyncio.create_task(response.wait_for_close())
    else:
        try:
            async with response:
                if how == "raise":
                    raise mine
        except ValueError as error:
            assert error is mine  # noqa: PT017 - `pytest.raises` around half of the cases hides the other half
    response.close()
    assert families.requests() == [counted(server, got=10)]


async def read(response: aiohttp.ClientResponse, *, whole: bool) -> None:
    if whole:
        await response.read()
    async for _chunk in response.content.iter_any():
        pass


@pytest.mark.parametrize("target", ["/cut?n=30&of=100", "/cut-chunks?n=3&of=10"])
@pytest.mark.parametrize("reading", ["whole", "in pieces"])
async def test_a_body_that_breaks_off_is_an_error(
    session: aiohttp.ClientSession,
    server: WireServer,
    families: RecordingFamilies,
    *,
    target: str,
    reading: str,
) -> None:
    """A code alone makes no good answer: the failed download counts as an error, with its bytes."""
    async with session.get(server.url(target)) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(response, whole=reading == "whole")
    assert families.requests() == [counted(server, status="error", got=30)]


@pytest.mark.parametrize("reading", ["whole", "in pieces"])
@pytest.mark.parametrize("limit", ["total", "sock_read"])
async def test_a_body_that_stalls_is_a_timeout(
    session: aiohttp.ClientSession,
    server: WireServer,
    families: RecordingFamilies,
    *,
    limit: str,
    reading: str,
) -> None:
    """Either timeout in the middle of the body counts as a timeout, with the bytes before it."""
    server.let()
    timeout = aiohttp.ClientTimeout(**{limit: 0.2})
    async with session.get(server.url("/gated?n=2&of=10"), timeout=timeout) as response:
        with pytest.raises(TimeoutError):
            await read(response, whole=reading == "whole")
    assert families.requests() == [counted(server, status="timeout", got=10)]


@pytest.mark.parametrize("limit", ["total", "sock_read"])
async def test_no_answer_in_time_is_a_timeout(
    session: aiohttp.ClientSession,
    server: WireServer,
    families: RecordingFamilies,
    spans: InMemorySpanExporter,
    limit: str,
) -> None:
    """Without an answer there is no answer's size; what was sent is known."""
    with pytest.raises(TimeoutError):
        await fetch(
            session, "POST", server.url("/hang"), data=b"12345", timeout=aiohttp.ClientTimeout(**{limit: 0.1})
        )
    assert families.requests() == [counted(server, method="POST", status="timeout", sent=5, got=None)]
    assert len(spans.get_finished_spans()) == 1


async def test_a_refused_connection_is_an_error_without_bytes(
    session: aiohttp.ClientSession, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """Nothing crossed the wire, so nothing is claimed to have."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.post(f"http://127.0.0.1:{port}/", data=b"12345")
    expected = Counted("POST", "error", f"127.0.0.1:{port}", "aiohttp", 0, None)
    assert (families.requests(), len(spans.get_finished_spans())) == ([expected], 1)


async def test_a_server_that_hangs_up_is_an_error(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """A connection closed instead of an answer counts as an error; aiohttp's own retry is part of it."""
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get(server.url("/gone"))
    assert families.requests() == [counted(server, status="error", got=None)]


@pytest.mark.parametrize("url", ["http://", "/relative", "mailto:a@b.c", "http://[", 5])
async def test_what_is_no_request_is_not_counted(
    session: aiohttp.ClientSession, families: RecordingFamilies, url: Any
) -> None:
    """A URL aiohttp refuses goes nowhere, and its exception reaches the caller."""
    with pytest.raises((aiohttp.ClientError, TypeError)):
        await session.get(url)
    assert families.requests() == []


@pytest.mark.parametrize("where", ["call", "session"])
async def test_an_answer_raised_for_its_status_is_an_answer(
    server: WireServer, families: RecordingFamilies, where: str
) -> None:
    """`raise_for_status` changes how the caller hears of it, not what happened."""
    in_call = True if where == "call" else None
    async with aiohttp.ClientSession(raise_for_status=where == "session") as session:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(server.url("/status?code=503"), raise_for_status=in_call)
    assert families.requests() == [counted(server, status="503", got=0)]


async def test_a_redirect_is_one_request(
    session: aiohttp.ClientSession,
    server: WireServer,
    families: RecordingFamilies,
    spans: InMemorySpanExporter,
) -> None:
    """One call, one count, one span; both hops sent the body, the last answer is the answer."""
    await fetch(session, "POST", server.url(f"/redirect?to={server.url('/bytes%3Fn=4')}"), data=b"123")
    assert families.requests() == [counted(server, method="POST", sent=6, got=4)]
    assert (server.sizes(), len(spans.get_finished_spans())) == ([(3, 9), (3, 4)], 1)


async def test_endless_redirects_are_an_error(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """An answer that was never reached has no code."""
    url = server.url(f"/redirect?to={server.url('/bytes%3Fn=4')}")
    with pytest.raises(aiohttp.TooManyRedirects):
        await session.get(url, max_redirects=1)
    assert families.requests() == [counted(server, status="error", got=None)]


@pytest.mark.parametrize("moment", ["before the answer", "awaiting a chunk", "while working"])
async def test_cancellation_passes_through_and_is_counted(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies, moment: str
) -> None:
    """Cancelled before the answer is 499; later the answer's code stands, with the bytes so far."""
    reached = asyncio.Event()

    async def work() -> None:
        target = "/hang" if moment == "before the answer" else "/gated?n=2&of=10"
        async with session.get(server.url(target)) as response:
            async for _chunk in response.content.iter_any():
                reached.set()
                if moment == "while working":
                    await asyncio.Event().wait()

    task = asyncio.create_task(work())
    server.let()
    if moment == "before the answer":
        assert await soon(lambda: bool(server.served))
    else:
        await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    early = moment == "before the answer"
    assert families.requests() == [
        counted(server, status="499" if early else "200", got=None if early else 10)
    ]


@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")  # aiohttp notices, too
async def test_a_forgotten_answer_is_counted_when_its_connection_ends(
    server: WireServer, families: RecordingFamilies
) -> None:
    """An answer nobody reads or closes is counted all the same, once its session is closed."""
    session = aiohttp.ClientSession()
    response = await session.get(server.url("/gated?n=2&of=10"))
    del response
    await session.close()

    def collected() -> bool:
        gc.collect()
        return hub.active is not None and not hub.active.exchanges

    assert await soon(collected)
    async with aiohttp.ClientSession() as other:
        await fetch(other, "GET", server.url("/bytes?n=1"))
    assert families.requests() == [counted(server, got=0), counted(server, got=1)]


async def test_listed_paths_name_the_resource(session: aiohttp.ClientSession, server: WireServer) -> None:
    """With templates the resource is host and template where one fits, relative URLs included."""
    with telemetry(client_paths=("/{kind}",)) as families:
        await fetch(session, "GET", server.url("/bytes"), params={"n": "1"})
        async with aiohttp.ClientSession(server.url("")) as based:
            await fetch(based, "GET", "/some/where")
    assert [request.resource for request in families.requests()] == [
        f"{server.authority}/{{kind}}",
        server.authority,
    ]


async def test_measurements_carry_the_callers_context(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """Exemplars can point at the span the request was made in, and the caller's context is as before."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("caller") as caller:
        before = get_current()
        await fetch(session, "GET", server.url("/bytes?n=1"))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.get(server.url("/gone"))
        assert get_current() is before
    assert {trace.get_current_span(measurement.context) for measurement in families.measurements} == {caller}


async def test_a_session_that_exists_already_is_measured(server: WireServer) -> None:
    """Sessions made before are measured from now on, and left alone after the undo."""
    with uninstrumented(aiohttp):
        async with aiohttp.ClientSession() as session:
            with instrumented(aiohttp):
                again = aiohttp_client.instrument(aiohttp), aiohttp_client.instrument(aiohttp)
                with telemetry() as families:
                    await fetch(session, "POST", server.url("/bytes?n=1"), data=b"12")
            with telemetry() as afterwards:
                await fetch(session, "GET", server.url("/bytes?n=1"))
    assert again[0] == again[1]
    assert (families.requests(), afterwards.requests()) == (
        [counted(server, method="POST", sent=2, got=1)],
        [],
    )


async def test_websockets_count_their_handshake(
    session: aiohttp.ClientSession, server: WireServer, families: RecordingFamilies
) -> None:
    """A refused upgrade is an ordinary answer."""
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await session.ws_connect(server.url("/status?code=403"))
    assert families.requests() == [counted(server, status="403")]
