"""Ways to leave a streamed answer, in a sync and an async form, for httpx and httpx2 alike.

Each is a function that leaves one stream in its way and returns when it did so, by
`time.perf_counter`. What ends a call late (a forgotten stream) is over when it is collected.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx
import httpx2

from otel_genapp.fake_llm import Answer, Cut, ErrorInStream, Fault, Hang

BODY = {
    "model": "gpt-5-mini",
    "messages": [{"role": "user", "content": "one two three four five six"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


BROKEN = (httpx.TransportError, httpx2.TransportError)


class LeftError(Exception):
    """Raised by a consumer."""


@dataclass(frozen=True)
class Exit:
    """One way out: how the call ends, what the server does, and the two forms."""

    name: str
    status: str
    sync: Callable[[Any, str], float]
    asynchronous: Callable[[Any, str], Awaitable[float]]
    fault: Fault | None = None

    def answer(self) -> Answer:
        """What the server is told."""
        return Answer("one two three four five six", input_tokens=11, output_tokens=6, fault=self.fault)


def _sync_all(client: Any, url: str) -> float:
    with client.stream("POST", url, json=BODY) as response:
        for _ in response.iter_bytes():
            pass
        return perf_counter()


async def _async_all(client: Any, url: str) -> float:
    async with client.stream("POST", url, json=BODY) as response:
        async for _ in response.aiter_bytes():
            pass
        return perf_counter()


def _sync_lines(client: Any, url: str) -> float:
    with client.stream("POST", url, json=BODY) as response:
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return perf_counter()
    raise AssertionError("no end")


async def _async_lines(client: Any, url: str) -> float:
    async with client.stream("POST", url, json=BODY) as response:
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return perf_counter()
    raise AssertionError("no end")


def _sync_break(client: Any, url: str) -> float:
    response = client.send(client.build_request("POST", url, json=BODY), stream=True)
    for _ in response.iter_bytes():
        break
    response.close()
    return perf_counter()


async def _async_break(client: Any, url: str) -> float:
    response = await client.send(client.build_request("POST", url, json=BODY), stream=True)
    chunks = response.aiter_bytes()
    await anext(chunks)
    await response.aclose()
    return perf_counter()


def _sync_with(client: Any, url: str) -> float:
    with client.stream("POST", url, json=BODY) as response:
        next(response.iter_raw())
    return perf_counter()


async def _async_with(client: Any, url: str) -> float:
    async with client.stream("POST", url, json=BODY) as response:
        await anext(response.aiter_raw())
    return perf_counter()


def _sync_raise(client: Any, url: str) -> float:
    with suppress(LeftError), client.stream("POST", url, json=BODY) as response:
        for _ in response.iter_bytes():
            raise LeftError
    return perf_counter()


async def _async_raise(client: Any, url: str) -> float:
    with suppress(LeftError):
        async with client.stream("POST", url, json=BODY) as response:
            async for _ in response.aiter_bytes():
                raise LeftError
    return perf_counter()


def _sync_unread(client: Any, url: str) -> float:
    client.send(client.build_request("POST", url, json=BODY), stream=True).close()
    return perf_counter()


async def _async_unread(client: Any, url: str) -> float:
    response = await client.send(client.build_request("POST", url, json=BODY), stream=True)
    await response.aclose()
    return perf_counter()


def _collected(alive: weakref.ref[Any]) -> float:
    """When a dropped response is gone: at once, or with the next collection."""
    dropped_s = perf_counter()
    if alive() is None:
        return dropped_s
    gc.collect()
    return perf_counter()


def _sync_dropped(client: Any, url: str) -> float:
    response = client.send(client.build_request("POST", url, json=BODY), stream=True)
    chunks = response.iter_raw()
    next(chunks)
    alive = weakref.ref(response)
    del response, chunks
    return _collected(alive)


async def _async_dropped(client: Any, url: str) -> float:
    response = await client.send(client.build_request("POST", url, json=BODY), stream=True)
    alive = weakref.ref(response)
    del response
    return _collected(alive)


def _sync_cycle(client: Any, url: str) -> float:
    response = client.send(client.build_request("POST", url, json=BODY), stream=True)
    response.itself = response
    del response
    gc.collect()
    return perf_counter()


async def _async_cycle(client: Any, url: str) -> float:
    response = await client.send(client.build_request("POST", url, json=BODY), stream=True)
    response.itself = response
    del response
    gc.collect()
    return perf_counter()


def _sync_broken(client: Any, url: str) -> float:
    with suppress(*BROKEN):
        return _sync_all(client, url)
    return perf_counter()


async def _async_broken(client: Any, url: str) -> float:
    with suppress(*BROKEN):
        return await _async_all(client, url)
    return perf_counter()


def _sync_interrupted(client: Any, url: str) -> float:
    with suppress(KeyboardInterrupt), client.stream("POST", url, json=BODY) as response:
        for _ in response.iter_bytes():
            raise KeyboardInterrupt
    return perf_counter()


async def _async_interrupted(client: Any, url: str) -> float:
    task = asyncio.ensure_future(_async_all(client, url))
    await asyncio.sleep(0.02)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return perf_counter()


def _sync_generator(client: Any, url: str) -> float:
    def words() -> Any:
        with client.stream("POST", url, json=BODY) as response:
            yield from response.iter_lines()

    lines = words()
    next(lines)
    lines.close()
    return perf_counter()


async def _async_generator(client: Any, url: str) -> float:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await _async_all(client, url)
    return perf_counter()


EXITS = (
    Exit("read to its end", "success", _sync_all, _async_all),
    Exit("left at [DONE]", "success", _sync_lines, _async_lines),
    Exit("broken off and closed", "cancelled", _sync_break, _async_break),
    Exit("left with its block", "cancelled", _sync_with, _async_with),
    Exit("left by an error", "cancelled", _sync_raise, _async_raise),
    Exit("closed unread", "cancelled", _sync_unread, _async_unread),
    Exit("dropped", "cancelled", _sync_dropped, _async_dropped),
    Exit("dropped in a cycle", "cancelled", _sync_cycle, _async_cycle),
    Exit("reset by the server", "fail", _sync_broken, _async_broken, Cut(2)),
    Exit("ended by the server", "fail", _sync_broken, _async_broken, Cut(2, reset=False)),
    Exit("an error inside", "fail", _sync_broken, _async_broken, ErrorInStream(2)),
    Exit("timed out", "fail", _sync_broken, _async_broken, Hang(2)),
    Exit("cancelled", "cancelled", _sync_interrupted, _async_interrupted, Hang(2)),
    Exit("closed from around", "cancelled", _sync_generator, _async_generator, Hang(2)),
)
