"""Cancellation at every point where a task can be suspended: it is delivered, and nothing stays open."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry.context import get_current

from otel_genapp import action_tracking, action_tracking_decorator, bind, hub, init_telemetry, llm_call
from otel_genapp.context import bound_in
from tests.fakes import WireServer
from tests.faults.raised_calls import ask, fetch_with_aiohttp, fetch_with_httpx
from tests.fresh import in_fresh_process

Program = Callable[[], Coroutine[Any, Any, object]]
NAMES = (
    "action", "decorated", "generator", "llm", "llm stream", "bind", "fastapi", "fastapi stream", "endpoint",
    "lifespan", "httpx", "aiohttp",
)  # fmt: skip
ENOUGH = 1000


async def work() -> int:
    for _ in range(4):
        await asyncio.sleep(0)
    return 42


async def in_action() -> int:
    async with action_tracking("work_task"):
        return await work()


@action_tracking_decorator("decorated_task")
async def in_decorated() -> int:
    return await work()


@action_tracking_decorator("generator_task")
async def _steps() -> Any:
    for _ in range(2):
        yield await work()


async def in_generator() -> list[int]:
    return [step async for step in _steps()]


async def in_llm() -> int:
    async with llm_call("gpt-5", "openai", session_id="anna"), llm_call("inner"):
        return await work()


async def in_llm_stream() -> list[int]:
    async with llm_call("gpt-5", "openai") as call:
        return [step async for step in call.chunks(_steps())]


async def in_bind() -> int:
    with bind(session_id="anna"):
        return await work()


async def in_lifespan(app: FastAPI) -> list[str]:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return next(messages)

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


def programs(app: FastAPI, server: WireServer) -> dict[str, Program]:
    async def do_work() -> int:
        return await work()

    async def do_stream() -> StreamingResponse:
        async def chunks() -> Any:
            for _ in range(3):
                await work()
                yield b"chunk"

        return StreamingResponse(chunks())

    app.get("/work")(do_work)
    app.get("/stream")(do_stream)
    return {
        "action": in_action,
        "decorated": in_decorated,
        "generator": in_generator,
        "llm": in_llm,
        "llm stream": in_llm_stream,
        "bind": in_bind,
        "fastapi": lambda: ask(app, "/work"),
        "fastapi stream": lambda: ask(app, "/stream"),
        "endpoint": lambda: ask(app, "/events/metrics"),
        "lifespan": lambda: in_lifespan(app),
        "httpx": lambda: fetch_with_httpx(server),
        "aiohttp": lambda: fetch_with_aiohttp(server),
    }


@types.coroutine
def cancelled_at(
    point: int, coroutine: Coroutine[Any, Any, object], seen: list[int]
) -> Generator[Any, Any, Any]:
    """Run it, cancelling its task at its `point`th suspension; `seen` gets each suspension's number."""
    value, thrown = None, None
    while True:
        try:
            waited = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value
        if len(seen) == point:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        seen.append(len(seen))
        value, thrown = None, None
        try:
            value = yield waited
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine
            thrown = error


async def cancel(program: Program, point: int) -> dict[str, Any]:
    """How the program ended, cancelled there, and what it left behind."""
    seen: list[int] = []

    async def run() -> Any:
        answer: Awaitable[Any] = cancelled_at(point, program(), seen)
        return await answer

    place = contextvars.Context()
    task = asyncio.get_running_loop().create_task(run(), context=place)
    await asyncio.wait([task])
    running = hub.active
    assert running is not None
    return {
        "reached": len(seen) > point,
        "delivered": task.cancelled(),
        "context left clean": bound_in(place.run(get_current)).session_id is None,
        "exchanges open": len(running.exchanges),
    }


GOOD = {"reached": True, "delivered": True, "context left clean": True, "exchanges open": 0}


def cancel_everywhere(name: str) -> dict[str, Any]:
    telemetry = init_telemetry("shop", "prod", internal_auth="test")
    app = FastAPI()
    telemetry.mount(app)

    async def main() -> dict[str, Any]:
        with WireServer() as server:
            program = programs(app, server)[name]
            await program()  # what is set up once is set up
            bad = []
            for point in range(ENOUGH):
                ending = await cancel(program, point)
                if not ending["reached"]:
                    break
                if ending != GOOD:
                    bad.append((point, ending))
            return {"points": point, "bad": bad}

    found = asyncio.run(main())
    return {
        **found,
        "in flight": telemetry.totals()["events"]["started"] - telemetry.totals()["total_requests"],
    }


@pytest.mark.parametrize("name", NAMES)
def test_cancellation_is_delivered_everywhere(name: str) -> None:
    """Cancelled at any suspension, the task is cancelled, its context clean, and nothing in flight."""
    seen = in_fresh_process(cancel_everywhere, name)
    assert 1 <= seen.pop("points") < ENOUGH
    assert seen == {"bad": [], "in flight": 0}
