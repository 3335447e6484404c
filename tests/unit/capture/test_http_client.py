from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import httpx2
import pytest

from otel_genapp import hub
from otel_genapp.capture.client_exchange import Exchange
from otel_genapp.capture.http_client import _Flavour
from tests.fakes import RecordingFamilies, telemetry


class Below(httpx2.AsyncByteStream):
    """The library's stream, as far as ours can tell."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.extra = "seen"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(3):
                yield b"12345"
        finally:
            self.closed.append("generator")

    async def aclose(self) -> None:
        self.closed.append("stream")


def watched(below: Below) -> httpx2.AsyncByteStream:
    assert hub.active is not None
    exchange = Exchange(hub.active, "httpx2", method="GET", resource="h", timeouts=())
    exchange.answered(200)
    stream: httpx2.AsyncByteStream = _Flavour(httpx2).asynchronous.response(below, exchange)
    return stream


def ends(families: RecordingFamilies) -> list[float | None]:
    return [request.response_bytes for request in families.requests()]


async def test_closing_the_iteration_closes_the_one_below() -> None:
    """Nothing of the library's waits for the garbage collector because of us."""
    with telemetry() as families:
        below = Below()
        chunks = aiter(watched(below))
        first = await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]  # an async generator
        assert (first, below.closed, ends(families)) == (b"12345", ["generator"], [5])


async def test_closing_the_stream_closes_the_one_below() -> None:
    """The library's connection goes back to its pool."""
    with telemetry() as families:
        below = Below()
        await watched(below).aclose()
        assert (below.closed, ends(families)) == (["stream"], [0])


async def test_others_see_through_the_stream() -> None:
    """SDKs look for attributes of the stream they know; a half-made copy has none and says so."""
    with telemetry():
        stream = watched(Below())
        assert stream.extra == "seen"  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = copy.copy(stream).nothing  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = type(stream).__new__(type(stream)).nothing  # type: ignore[attr-defined]
