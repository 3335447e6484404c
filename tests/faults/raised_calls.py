"""Every way into the package, each around a piece of the application's own work."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from flask import Flask
from opentelemetry import propagate

from otel_genapp import (
    Telemetry,
    action_tracking,
    action_tracking_decorator,
    bind,
    current,
    init_telemetry,
    llm_call,
    record_error,
)
from tests.fakes import WireServer

Work = Callable[[], object]
Entry = Callable[[Work], object]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Hostile:
    """A value that fails whatever is done with it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equal")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __float__(self) -> float:
        raise RuntimeError("no number")


HOSTILE: Any = Hostile()
EXCEPTIONS: tuple[Callable[[], BaseException], ...] = (
    ValueError, OSError, UnprintableError, lambda: ExceptionGroup("several", [ValueError()]),
)  # fmt: skip
ERRORS: tuple[Callable[[], BaseException], ...] = (
    *EXCEPTIONS, KeyboardInterrupt, SystemExit, asyncio.CancelledError, StopAsyncIteration,
)  # fmt: skip


def track(work: Work) -> object:
    with action_tracking("work_task") as tracker:
        tracker.size(3)
        tracker.to_fail()
        tracker.to_success()
        return work()


def track_hostile(work: Work) -> object:
    with action_tracking(HOSTILE) as tracker:
        tracker.size(HOSTILE)
        return work()


@action_tracking_decorator("decorated_task")
def decorated(work: Work) -> object:
    return work()


def decorate(work: Work) -> object:
    return action_tracking_decorator("late_task")(lambda: work())()  # noqa: PLW0108 - a function of its own


@action_tracking_decorator("generator_task")
def _generate(work: Work) -> Iterator[object]:
    yield work()


def generate(work: Work) -> object:
    return next(_generate(work))


def call_llm(work: Work) -> object:
    with llm_call("gpt-5", "openai", session_id="anna", user_id=7) as call:
        call.usage(input=1, output=2, cache_read=0)
        call.tools("search")
        call.response(model="gpt-5-mini", id="r1", finish_reasons=["stop"])
        call.cost(0.01)
        list(call.chunks(["a", "b"]))
        call.to_fail("late")
        return work()


def call_llm_hostile(work: Work) -> object:
    with llm_call(HOSTILE, HOSTILE, operation=HOSTILE, session_id=HOSTILE, user_id=HOSTILE) as call:
        call.usage(input=HOSTILE, output=HOSTILE)
        call.tools(HOSTILE)
        call.response(model=HOSTILE, id=HOSTILE, finish_reasons=HOSTILE)
        call.cost(HOSTILE)
        call.to_fail(HOSTILE)
        return work()


def call_llm_in_llm(work: Work) -> object:
    with llm_call("outer") as outer, llm_call("inner", "openai") as inner:
        inner.usage(input=1)
        outer.first_token()
        return work()


def be_for_somebody(work: Work) -> object:
    with bind(session_id="anna", correlation_id="c-1"), bind(user_id=HOSTILE):
        current()
        return work()


def record(work: Work) -> object:
    record_error("Sour", "shop")
    record_error(HOSTILE, HOSTILE)
    return work()


def propagate_both_ways(work: Work) -> object:
    propagate.inject({})
    propagate.extract({"x-correlation-id": "c-1", "traceparent": "junk"})
    return work()


def log(work: Work) -> object:
    logging.getLogger("shop").warning("sold %s", 3)
    logging.getLogger("httpx").warning("%s https://user:pw@host/?key=1", "GET")
    return work()


def read(telemetry: Telemetry) -> Entry:
    def reading(work: Work) -> object:
        telemetry.sessions.get("anna")
        telemetry.sessions.list(10)
        telemetry.sessions.clear("bob")
        telemetry.totals()
        telemetry.status()
        telemetry.subscribe(print)()
        return work()

    return reading


def scrape(telemetry: Telemetry) -> Entry:
    def scraping(work: Work) -> object:
        telemetry.exposition("application/openmetrics-text")
        telemetry.flush(0)
        assert init_telemetry("shop", "prod", internal_auth="test") is telemetry
        return work()

    return scraping


async def track_async(work: Work) -> object:
    async with action_tracking("work_task"):
        await asyncio.sleep(0)
        return work()


@action_tracking_decorator("coroutine_task")
async def decorated_async(work: Work) -> object:
    await asyncio.sleep(0)
    return work()


@action_tracking_decorator("async_generator_task")
async def _generate_async(work: Work) -> AsyncIterator[object]:
    await asyncio.sleep(0)
    yield work()


async def generate_async(work: Work) -> object:
    chunks: Any = _generate_async(work)
    try:
        return await chunks.__anext__()
    finally:
        await chunks.aclose()


async def call_llm_async(work: Work) -> object:
    async with llm_call("gpt-5", "openai", session_id="anna") as call:
        async for _ in call.chunks(_generate_async(lambda: "chunk")):
            await asyncio.sleep(0)
        call.usage(input=1, output=1)
        return work()


AWAITED: tuple[Callable[[Work], Awaitable[object]], ...] = (
    track_async, decorated_async, generate_async, call_llm_async,
)  # fmt: skip
CALLED: tuple[Entry, ...] = (
    track, track_hostile, decorated, decorate, generate, call_llm, call_llm_hostile, call_llm_in_llm,
    be_for_somebody, record, propagate_both_ways, log,
)  # fmt: skip

ROUTES = (
    "/prometheus",
    "/health",
    "/health/database",
    "/events/sla?window=7d",
    "/events/metrics?step=60",
    "/events/metrics/sessions",
    "/events/metrics/session/anna",
)


class Shop:
    """A FastAPI and a Flask application around the same work, with our endpoints on both."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.work: Work = object
        self.fastapi, self.flask = FastAPI(), Flask("shop")
        self._loop = asyncio.new_event_loop()
        self.fastapi.get("/work")(self._work_async)
        self.fastapi.get("/thread")(self._work)
        self.fastapi.get("/stream")(self._stream)
        self.fastapi.get("/teapot")(self._teapot)
        self.flask.config["PROPAGATE_EXCEPTIONS"] = True
        self.flask.add_url_rule("/work", view_func=self._work)
        self.flask.add_url_rule("/stream", "stream", lambda: (chunk for chunk in ("a", "b")))
        telemetry.mount(self.fastapi)
        telemetry.mount(self.flask)

    def run(self, awaited: Awaitable[object]) -> object:
        return self._loop.run_until_complete(awaited)

    def ask_fastapi(self, target: str, method: str = "GET") -> int:
        status = self.run(ask(self.fastapi, target, method=method))
        assert isinstance(status, int)
        return status

    def ask_flask(self, target: str, method: str = "GET") -> int:
        return (
            self.flask.test_client()
            .open(target, method=method, headers={"x-internal-auth": "test"})
            .status_code
        )

    def _work(self) -> dict[str, str]:
        self.work()
        return {"done": "yes"}

    async def _work_async(self) -> dict[str, str]:
        await asyncio.sleep(0)
        return self._work()

    async def _stream(self) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    async def _teapot(self) -> None:
        raise HTTPException(418)


async def ask(app: Any, target: str, *, method: str = "GET") -> int:
    """The status an ASGI application answers."""
    path, _, query = target.partition("?")
    messages: list[Any] = []
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        await asyncio.sleep(0)
        return next(asked, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        messages.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"shop"), (b"x-internal-auth", b"test")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    status: int = messages[0]["status"]
    return status


async def fetch_with_aiohttp(server: WireServer) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url("/bytes?n=10"), data=b"abc") as answer,
    ):
        return len(await answer.read())


async def fetch_with_httpx(server: WireServer) -> int:
    async with httpx.AsyncClient(verify=False) as client:  # noqa: S501 - no TLS here, and no time to load it
        return len((await client.post(server.url("/bytes?n=10"), content=b"abc")).content)


def failure_of(entry: Entry, error: BaseException | None) -> str:
    """What is wrong with how `entry` let the work's result, or its error, through; empty for nothing."""
    result = object()

    def work() -> object:
        if error is not None:
            raise error
        return result

    try:
        found = contextvars.Context().run(entry, work)
    except BaseException as raised:  # noqa: BLE001 - it is what is looked at
        if raised is error:
            return ""
        return f"{entry.__name__}: {type(raised).__name__} {raised.args} instead of {type(error).__name__}"
    return "" if error is None and found is result else f"{entry.__name__}: another result"


def count_failures(
    entry: Entry, errors: tuple[Callable[[], BaseException], ...], *, rounds: int
) -> Counter[str]:
    """The failures of that many rounds, each with a result and with every error."""
    failures: Counter[str] = Counter()
    for _ in range(rounds):
        for make in (None, *errors):
            failures[failure_of(entry, None if make is None else make())] += 1
    return failures
