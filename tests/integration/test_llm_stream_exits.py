"""A streamed answer's call ends once, whichever way it is left, and at the right time."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import statistics
from time import perf_counter
from typing import Any

import pytest
from opentelemetry import trace

from otel_genapp import bind
from otel_genapp.fake_llm import Answer, FakeLLMServer
from otel_genapp.testing import Captured, capture_telemetry
from tests.stream_exits import BODY, EXITS, Exit

TIMES = 10
MANY = 100
DURATION_ERROR_S = 0.010


def _limits(module: Any) -> Any:
    """A dropped answer leaves its connection with the pool."""
    return module.Limits(max_connections=None)


def run_sync(module: Any, way: Exit, *, server: FakeLLMServer, times: int) -> list[float]:
    """Seconds each call took by this clock."""
    taken = []
    with module.Client(timeout=module.Timeout(5, read=0.06), limits=_limits(module)) as client:
        for number in range(times):
            server.script(way.answer())
            with bind(session_id=f"s{number}"):
                started = perf_counter()
                taken.append(way.sync(client, f"{server.base_url}/chat/completions") - started)
    return taken


def run_async(module: Any, way: Exit, *, server: FakeLLMServer, times: int) -> list[float]:
    """The same in an event loop."""

    async def run() -> list[float]:
        taken = []
        async with module.AsyncClient(timeout=module.Timeout(5, read=0.06), limits=_limits(module)) as client:
            for number in range(times):
                server.script(way.answer())
                with bind(session_id=f"s{number}"):
                    started = perf_counter()
                    ended = await way.asynchronous(client, f"{server.base_url}/chat/completions")
                    taken.append(ended - started)
        return taken

    return asyncio.run(run())


def check(got: Captured, way: Exit, *, taken: list[float]) -> None:
    """Each call is there once, with this status, and took as long as it did."""
    errors = []
    for number, seconds in enumerate(taken):
        session = got.session(f"s{number}")
        assert session is not None, f"{way.name}: call {number} is missing"
        assert (session["total_requests"], session["requests"][0]["status"]) == (1, way.status)
        errors.append(abs(session["requests"][0]["duration_ms"] / 1e3 - seconds))
    # Of a few calls beside other tests the median says whether they end in time; of many the p99.
    quantile = statistics.quantiles(errors, n=100, method="inclusive")[98 if len(errors) >= MANY else 49]
    assert quantile <= DURATION_ERROR_S, f"{way.name}: the duration is {quantile:.4f} s off"


def leave(module_name: str, form: str, *, way: Exit, times: int, caplog: pytest.LogCaptureFixture) -> None:
    """Leave `times` streams that way, and look at what was counted."""
    module = importlib.import_module(module_name)
    outer = trace.get_tracer("consumer").start_span("outer")
    with FakeLLMServer() as server, capture_telemetry() as got, caplog.at_level(logging.WARNING):
        gc.collect()
        gc.freeze()  # a collection is to take the time of what is dropped here, not of the whole suite
        with trace.use_span(outer):
            run = run_sync if form == "sync" else run_async
            taken = run(module, way, server=server, times=times)
            assert trace.get_current_span() is outer
        gc.unfreeze()
        check(got, way, taken=taken)
        assert got.value("genapp_llm_in_flight") == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("way", EXITS, ids=lambda way: way.name)
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_every_way_out_ends_the_call_once(
    module_name: str, form: str, way: Exit, caplog: pytest.LogCaptureFixture
) -> None:
    """One call, the right status, the right duration, the consumer's span untouched, no error logged."""
    leave(module_name, form, way=way, times=TIMES, caplog=caplog)


@pytest.mark.soak
@pytest.mark.parametrize("way", EXITS, ids=lambda way: way.name)
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_every_way_out_two_hundred_times(
    module_name: str, form: str, way: Exit, caplog: pytest.LogCaptureFixture
) -> None:
    """The same, two hundred times each."""
    leave(module_name, form, way=way, times=2 * MANY, caplog=caplog)


@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_a_shutdown_ends_what_is_open(module_name: str) -> None:
    """A call whose stream is being read when telemetry stops is counted as cancelled, once."""
    module = importlib.import_module(module_name)
    with FakeLLMServer() as server, capture_telemetry() as got, module.Client() as client:
        server.script(Answer("one two three", chunk_delay_s=0.05))
        with (
            bind(session_id="anna"),
            client.stream("POST", f"{server.base_url}/chat/completions", json=BODY) as response,
        ):
            chunks = response.iter_raw()
            next(chunks)
            got.telemetry.shutdown()
            assert b"".join(chunks).endswith(b"data: [DONE]\n\n")
        session = got.session("anna")
    assert session is not None
    assert (session["total_requests"], session["cancelled_requests"]) == (1, 1)
