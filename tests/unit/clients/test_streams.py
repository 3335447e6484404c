from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from otel_genapp.clients.streams import streams_of

WORD = b'data: {"choices":[{}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{}}\n\n'
LIBRARIES: list[Any] = [httpx, httpx2]


class Source:
    """A library's stream with something of its own, which says how it was left."""

    elapsed = 7

    def __init__(self) -> None:
        self.log: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from (WORD, USAGE, WORD)
        finally:
            self.log.append("left")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for chunk in (WORD, USAGE, WORD):
                yield chunk
        finally:
            self.log.append("left")

    def close(self) -> None:
        self.log.append("closed")

    async def aclose(self) -> None:
        self.log.append("closed")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_sync_stream_is_one_of_its_library(library: Any) -> None:
    """It has the library's class and the attributes of what it stands before, and closes that."""
    source = Source()
    stream = streams_of(library).filtered(source)
    assert isinstance(stream, library.SyncByteStream)
    assert (list(stream), stream.elapsed, hasattr(stream, "other")) == ([WORD, WORD], 7, False)
    stream.close()
    assert source.log == ["left", "closed"]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_an_async_stream_is_one_of_its_library(library: Any) -> None:
    """The same, awaited."""
    source = Source()
    stream = streams_of(library).filtered_async(source)
    assert isinstance(stream, library.AsyncByteStream)
    assert ([chunk async for chunk in stream], stream.elapsed) == ([WORD, WORD], 7)
    await stream.aclose()
    assert source.log == ["left", "closed"]


@pytest.mark.parametrize("way", ["filtered_async", "resumed_async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_who_leaves_an_async_stream_leaves_the_librarys(library: Any, way: str) -> None:
    """The library's clean-up runs then, not when the garbage is collected some time later."""
    source = Source()
    begun = {"begun": [], "chunks": aiter(source)} if way == "resumed_async" else {}
    chunks: Any = aiter(getattr(streams_of(library), way)(source, **begun))
    assert await anext(chunks) == WORD
    await chunks.aclose()
    assert source.log == ["left"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stream_that_was_begun_has_its_beginning(library: Any) -> None:
    """What was read of it comes first, then the rest."""
    source = Source()
    chunks = iter(source)
    begun = [next(chunks)]
    assert list(streams_of(library).resumed(source, begun=begun, chunks=chunks)) == [WORD, USAGE, WORD]
