"""Answers' bodies with something of ours in front, which to their library are streams like its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from otel_genapp.clients.usage_event import UsageEventFilter


class _Fronted:
    """A stream in front of the library's own, which it is for everybody who looks at it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # a half-made copy has none
            raise AttributeError(name)
        return getattr(self._stream, name)


class _SyncFronted(_Fronted):
    def close(self) -> None:
        self._stream.close()


class _AsyncFronted(_Fronted):
    async def aclose(self) -> None:
        await self._stream.aclose()


class _SyncFiltered(_SyncFronted):
    """Everything but the one event."""

    def __iter__(self) -> Iterator[bytes]:
        event_filter = UsageEventFilter()
        chunks = iter(self._stream)
        while True:
            try:
                chunk = next(chunks, None)
            except Exception:
                # What is held back came before it broke off, and is the caller's.
                if rest := event_filter.end():
                    yield rest
                raise
            kept = event_filter.end() if chunk is None else event_filter.feed(chunk)
            if kept:
                yield kept
            if chunk is None:
                return


class _AsyncFiltered(_AsyncFronted):
    """As the sync one."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        event_filter = UsageEventFilter()
        chunks = aiter(self._stream)
        try:
            while True:
                try:
                    chunk = await anext(chunks, None)
                except Exception:
                    if rest := event_filter.end():
                        yield rest
                    raise
                kept = event_filter.end() if chunk is None else event_filter.feed(chunk)
                if kept:
                    yield kept
                if chunk is None:
                    return
        finally:
            # As without us: whoever closes this generator closes the library's.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()


class _SyncResumed(_SyncFronted):
    """A stream whose beginning was read already, from its beginning."""

    def __init__(self, stream: Any, *, begun: list[bytes], chunks: Iterator[bytes]) -> None:
        super().__init__(stream)
        self._begun = begun
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._begun
        yield from self._chunks


class _AsyncResumed(_AsyncFronted):
    """As the sync one."""

    def __init__(self, stream: Any, *, begun: list[bytes], chunks: AsyncIterator[bytes]) -> None:
        super().__init__(stream)
        self._begun = begun
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._begun:
            yield chunk
        try:
            async for chunk in self._chunks:
                yield chunk
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()


class Streams:
    """Our streams for one library, which insists on its own classes; `filtered(stream)` and so on."""

    __slots__ = ("filtered", "filtered_async", "kind", "kind_async", "resumed", "resumed_async")

    def __init__(self, library: ModuleType) -> None:
        self.kind: type = library.SyncByteStream
        self.kind_async: type = library.AsyncByteStream
        self.filtered: Any = type("FilteredByteStream", (_SyncFiltered, self.kind), {})
        self.filtered_async: Any = type("FilteredAsyncByteStream", (_AsyncFiltered, self.kind_async), {})
        self.resumed: Any = type("ResumedByteStream", (_SyncResumed, self.kind), {})
        self.resumed_async: Any = type("ResumedAsyncByteStream", (_AsyncResumed, self.kind_async), {})


@lru_cache(maxsize=2)
def streams_of(library: ModuleType) -> Streams:
    """The streams for `library`, made once."""
    return Streams(library)
