"""Which headers of ours leave, and for whom: every client library, redirects included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_genapp.context import GenappPropagator, bind
from tests.fakes import WireServer, telemetry
from tests.http_flavours import instrumented

OURS = ("traceparent", "tracestate", "baggage", "x-correlation-id", "x-session-id")

Get = Callable[..., Any]


async def _sync_get(module: Any, url: str, **headers: str) -> None:
    with module.Client(trust_env=False, follow_redirects=True) as client:
        client.get(url, headers=headers)


async def _async_get(module: Any, url: str, **headers: str) -> None:
    async with module.AsyncClient(trust_env=False, follow_redirects=True) as client:
        await client.get(url, headers=headers)


async def _aiohttp_get(module: Any, url: str, **headers: str) -> None:
    async with module.ClientSession() as session, session.get(url, headers=headers) as response:
        await response.read()


CLIENTS = {
    "httpx": (httpx, _sync_get),
    "httpx async": (httpx, _async_get),
    "httpx2": (httpx2, _sync_get),
    "httpx2 async": (httpx2, _async_get),
    "aiohttp": (aiohttp, _aiohttp_get),
}


@pytest.fixture(autouse=True)
def propagator() -> Iterator[None]:
    before = propagate.get_global_textmap()
    inner = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(GenappPropagator(inner))
    yield
    propagate.set_global_textmap(before)


@pytest.fixture(params=CLIENTS)
def get(request: pytest.FixtureRequest) -> Iterator[Get]:
    module, fetch = CLIENTS[request.param]

    async def bound_get(url: str, **headers: str) -> None:
        await fetch(module, url, **headers)

    with instrumented(module):
        yield bound_get


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        yield running


@asynccontextmanager
async def a_caller() -> AsyncIterator[None]:
    """A span, baggage, a correlation id and a session: all there is to leak."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    token = attach(baggage.set_baggage("user.id", "42"))
    with tracer.start_as_current_span("caller"), bind(correlation_id="c-1", session_id="s-1"):
        yield
    detach(token)


def ours(server: WireServer) -> list[set[str]]:
    """Our headers in each request the server got."""
    return [set(OURS) & set(served.headers) for served in server.served]


def redirect(server: WireServer, first: str, last: str) -> str:
    """A URL at the first host that leads to an answer at the last."""
    return server.url("/redirect?to=" + server.url("/bytes%3Fn=1", host=last), host=first)


async def test_an_allowed_host_gets_all_of_it(get: Get, server: WireServer) -> None:
    """Trace context, baggage, correlation id and session arrive where they are allowed."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(server.url("/bytes?n=1"))
    (served,) = server.served
    assert (
        served.headers["x-correlation-id"],
        served.headers["x-session-id"],
        served.headers["baggage"],
    ) == (
        "c-1",
        "s-1",
        "user.id=42",
    )
    assert served.headers["traceparent"].startswith("00-")


async def test_another_host_gets_nothing(get: Get, server: WireServer) -> None:
    """A host that is not on the list gets none of them."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(server.url("/bytes?n=1", host="localhost"))
    assert ours(server) == [set()]


async def test_a_redirect_to_another_host_takes_nothing_along(get: Get, server: WireServer) -> None:
    """The headers of the first hop do not travel to a host that must not have them."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(redirect(server, "127.0.0.1", "localhost"))
    allowed = {"traceparent", "baggage", "x-correlation-id", "x-session-id"}
    assert ours(server) == [allowed, set()]


async def test_a_redirect_within_the_list_keeps_them(get: Get, server: WireServer) -> None:
    """Where both hops are allowed, both get the headers."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(redirect(server, "127.0.0.1", "127.0.0.1"))
    allowed = {"traceparent", "baggage", "x-correlation-id", "x-session-id"}
    assert ours(server) == [allowed, allowed]


async def test_a_redirect_from_another_host_brings_nothing_out(get: Get, server: WireServer) -> None:
    """A stranger that redirects into the list is still told nothing."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(redirect(server, "localhost", "127.0.0.1"))
    assert ours(server)[0] == set()


async def test_what_the_caller_wrote_itself_is_left_alone(get: Get, server: WireServer) -> None:
    """The policy takes back what telemetry put in, not the application's own headers."""
    own = {"x-correlation-id": "mine", "x-mine": "1"}
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            await get(redirect(server, "127.0.0.1", "localhost"), **own)
    _first, second = server.served
    assert (second.headers["x-correlation-id"], second.headers["x-mine"], ours(server)[1]) == (
        "mine",
        "1",
        {"x-correlation-id"},
    )


async def test_many_calls_leak_nothing(get: Get, server: WireServer) -> None:
    """Not one of many requests to strangers, direct or redirected, carries a header of ours."""
    with telemetry(propagate_to="127.0.0.1"):
        async with a_caller():
            for _ in range(20):
                await get(server.url("/bytes?n=1", host="localhost"))
                await get(redirect(server, "127.0.0.1", "localhost"))
    strangers = [
        seen
        for served, seen in zip(server.served, ours(server), strict=True)
        if "localhost" in served.headers["host"]
    ]
    assert (len(strangers), set().union(*strangers)) == (40, set())
