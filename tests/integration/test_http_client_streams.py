"""httpx and httpx2, sync and async: when an exchange ends, and how often."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_genapp import hub
from otel_genapp.capture.client_exchange import finish_open_exchanges
from tests.fakes import RecordingFamilies, WireServer, soon, telemetry
from tests.http_flavours import Flavour, counted, flavours, instrumented


@pytest.fixture(params=flavours(), ids=lambda flavour: f"{flavour.name}-{flavour.style}")
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


def of_style(style: str) -> pytest.MarkDecorator:
    chosen = [flavour for flavour in flavours() if flavour.style == style]
    return pytest.mark.parametrize("flavour", chosen, ids=lambda flavour: flavour.name, indirect=True)


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


async def test_a_streamed_answer_lasts_until_its_last_byte(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, spans: InMemorySpanExporter
) -> None:
    """The duration covers the body, which the span does not, and nothing is counted before the end."""
    async with flavour.client() as client:
        response = await flavour.opened(client, server.url("/gated?n=2&of=10"))
        chunks = flavour.chunks(response)
        server.let()
        await anext(chunks)
        before = families.requests()
        threading.Timer(0.15, server.let).start()
        rest = [chunk async for chunk in chunks]
    (span,) = spans.get_finished_spans()
    assert span.end_time is not None
    assert span.start_time is not None
    span_s = (span.end_time - span.start_time) / 1e9
    (duration,) = families.of("http_duration")
    assert (before, rest, families.requests()) == ([], [b"x" * 10], [counted(flavour, server, got=20)])
    assert duration.value >= 0.14 > span_s


async def test_an_answer_closed_early_keeps_its_code(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """Whoever stops reading has what it wanted: the code, and the bytes so far, once."""
    async with flavour.client() as client:
        response = await flavour.opened(client, server.url("/gated?n=3&of=10"))
        server.let()
        async for _chunk in flavour.chunks(response):
            break
        await flavour.close(response)
        await flavour.close(response)
    assert families.requests() == [counted(flavour, server, got=10)]


async def test_an_exception_of_the_reader_ends_the_exchange(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """The reader's own failure is not the request's, and reaches the reader unchanged."""
    mine = ValueError("mine")

    async def read(client: Any) -> None:
        stream = client.stream("GET", server.url("/chunks?n=3&of=10"))
        if flavour.style == "sync":
            with stream as response:
                for _chunk in response.iter_raw():
                    raise mine
        async with stream as response:
            async for _chunk in response.aiter_raw():
                raise mine

    async with flavour.client() as client:
        with pytest.raises(ValueError, match="mine") as caught:
            await read(client)
    assert (caught.value is mine, [request.status for request in families.requests()]) == (True, ["200"])


@pytest.mark.parametrize("target", ["/cut?n=30&of=100", "/cut-chunks?n=3&of=10"])
async def test_a_body_that_breaks_off_is_an_error(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, target: str
) -> None:
    """A code alone makes no good answer: the failed download counts as an error, with its bytes."""
    with pytest.raises(flavour.module.RemoteProtocolError):
        await flavour.request("GET", server.url(target))
    assert families.requests() == [counted(flavour, server, status="error", got=30)]


async def test_a_body_that_stalls_is_a_timeout(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """A read timeout in the middle of the body counts as a timeout, with the bytes before it."""
    server.let()
    with pytest.raises(flavour.module.ReadTimeout):
        await flavour.request("GET", server.url("/gated?n=2&of=10"), timeout=0.1)
    assert families.requests() == [counted(flavour, server, status="timeout", got=10)]


@pytest.mark.parametrize("started", [False, True], ids=["untouched", "half read"])
async def test_a_forgotten_answer_is_counted_when_it_is_collected(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, started: bool
) -> None:
    """An answer nobody reads or closes is counted all the same, once."""
    client = (
        flavour.module.Client(trust_env=False) if flavour.style == "sync" else flavour.module.AsyncClient()
    )
    response = await flavour.opened(client, server.url("/gated?n=2&of=10"))
    if started:
        server.let()
        chunks = flavour.chunks(response)
        await anext(chunks)
        await chunks.aclose()
        del chunks
    del response

    def collected() -> bool:
        gc.collect()
        return hub.active is not None and not hub.active.exchanges

    assert await soon(collected)
    await flavour.request("GET", server.url("/bytes?n=1"))
    assert families.requests() == [
        counted(flavour, server, got=10 if started else 0),
        counted(flavour, server, got=1),
    ]
    await flavour.close(client)


async def test_open_exchanges_can_be_ended_for_a_shutdown(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """At shutdown an unfinished answer is counted as far as it got, and not again later."""
    async with flavour.client() as client:
        response = await flavour.opened(client, server.url("/gated?n=2&of=10"))
        assert hub.active is not None
        finish_open_exchanges(hub.active)
        server.let(2)
        async for _chunk in flavour.chunks(response):
            pass
    assert families.requests() == [counted(flavour, server, got=0)]


@of_style("async")
@pytest.mark.parametrize("moment", ["before the answer", "awaiting a chunk", "while working"])
async def test_cancellation_passes_through_and_is_counted(
    flavour: Flavour, server: WireServer, families: RecordingFamilies, moment: str
) -> None:
    """Cancelled before the answer is 499; later the answer's code stands, with the bytes so far."""
    early = moment == "before the answer"
    reached = asyncio.Event()

    async def work() -> None:
        url = server.url("/hang" if early else "/gated?n=2&of=10")
        async with flavour.client() as client, client.stream("GET", url) as response:
            async for _chunk in response.aiter_raw():
                reached.set()
                if moment == "while working":
                    await asyncio.Event().wait()

    task = asyncio.create_task(work())
    server.let()
    if early:
        assert await soon(lambda: bool(server.served))
    else:
        await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert families.requests() == [
        counted(flavour, server, status="499" if early else "200", got=None if early else 10)
    ]


async def test_closing_in_another_task_ends_the_exchange(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """Whoever closes the answer, it ends there, once."""
    async with flavour.client() as client:
        response = await flavour.opened(client, server.url("/gated?n=2&of=10"))
        if flavour.style == "sync":
            await asyncio.to_thread(response.close)
        else:
            await asyncio.create_task(response.aclose())
        await flavour.close(response)
    assert families.requests() == [counted(flavour, server, got=0)]


@of_style("sync")
def test_threads_that_race_to_the_end_count_once(
    flavour: Flavour, server: WireServer, families: RecordingFamilies
) -> None:
    """However many threads close one answer, it is one request."""
    with flavour.module.Client(trust_env=False) as client:
        for _round in range(20):
            response = client.send(client.build_request("GET", server.url("/bytes?n=1")), stream=True)
            threads = [threading.Thread(target=response.close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(families.requests()) == 20
