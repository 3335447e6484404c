"""httpx and httpx2, each sync and async, behind one face: a test is written once for all four."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_genapp.capture import aiohttp_client, http_client
from otel_genapp.capture.client_patches import installed
from tests.fakes import Counted, WireServer


@dataclass
class Flavour:
    """One library in one style; the tests are written once, awaiting what may be sync."""

    module: Any
    style: str

    @property
    def name(self) -> str:
        name: str = self.module.__name__
        return name

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Any]:
        if self.style == "sync":
            with self.module.Client(trust_env=False, **options) as client:
                yield client
        else:
            async with self.module.AsyncClient(trust_env=False, **options) as client:
                yield client

    async def done(self, value: Any) -> Any:
        """What a sync call returned, or what awaiting an async one does."""
        return value if self.style == "sync" else await value

    async def request(self, method: str, url: str, **options: Any) -> Any:
        timeout = options.pop("timeout", 5)
        follow = options.pop("follow_redirects", False)
        async with self.client(timeout=timeout, follow_redirects=follow) as client:
            return await self.done(client.request(method, url, **options))

    async def opened(self, client: Any, url: str) -> Any:
        """A response whose body has not been read."""
        return await self.done(client.send(client.build_request("GET", url), stream=True))

    async def chunks(self, response: Any) -> AsyncGenerator[bytes]:
        if self.style == "sync":
            for chunk in response.iter_raw():
                yield chunk
        else:
            async for chunk in response.aiter_raw():
                yield chunk

    async def close(self, response: Any) -> None:
        await self.done(response.close() if self.style == "sync" else response.aclose())

    def content(self, chunks: list[bytes]) -> Any:
        """A request body that comes in pieces."""
        if self.style == "sync":
            return iter(chunks)

        async def pieces() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        return pieces()


def flavours() -> list[Flavour]:
    """All four."""
    return [
        Flavour(importlib.import_module(name), style)
        for name in ("httpx", "httpx2")
        for style in ("sync", "async")
    ]


def _entrance(module: Any) -> tuple[Any, Any]:
    """What instruments a client library, and its undo where that is done already."""
    if module.__name__ == "aiohttp":
        return aiohttp_client.instrument, installed(module.ClientSession, "_request")
    return http_client.instrument, installed(module.HTTPTransport, "handle_request")


@contextmanager
def uninstrumented(module: Any) -> Iterator[None]:
    """A client library as it comes; what had instrumented it before does so again afterwards."""
    instrument, before = _entrance(module)
    if before is not None:
        before()
    try:
        yield
    finally:
        if before is not None:
            instrument(module)


@contextmanager
def instrumented(module: Any) -> Iterator[InMemorySpanExporter]:
    """A client library, instrumented anew for the time being: its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with uninstrumented(module):
        instrument, _ = _entrance(module)
        undo = instrument(module, tracer_provider=provider)
        try:
            yield exporter
        finally:
            undo()
            provider.shutdown()


def counted(
    flavour: Flavour,
    server: WireServer,
    *,
    method: str = "GET",
    status: str = "200",
    sent: int = 0,
    got: int | None = 0,
) -> Counted:
    """What a request to the server should have been counted as."""
    return Counted(method, status, server.authority, flavour.name, sent, got)
