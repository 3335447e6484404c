"""Streams of many small chunks: what passes by unseen is sized and read all the same."""

from __future__ import annotations

import json
from typing import Any

import httpx
import httpx2
import pytest

from otel_genapp import bind
from otel_genapp.testing import Captured, capture_telemetry
from tests.canned import Canned, serving

MODULES: list[Any] = [httpx, httpx2]
LENGTHS = (0, 1, 2, 64, 65, 66, 130, 500, 1500)


def event(number: int, **more: Any) -> bytes:
    """A chunk of an answer; one of them in ten is longer than a kilobyte."""
    text = "word " * (300 if number % 10 == 9 else 1 + number % 40)
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    said = {"id": "chatcmpl-1", "model": "gpt-5-2025", "choices": [choice], "usage": None, **more}
    return b"data: %b\n\n" % json.dumps(said, separators=(",", ":")).encode()


def answer(length: int) -> list[bytes]:
    """A stream with so many chunks before the reason it ends for, the usage and the terminal event."""
    reason = [{"index": 0, "delta": {}, "finish_reason": "length"}]
    usage = {"prompt_tokens": 7, "completion_tokens": length + 1}
    return [
        *(event(number) for number in range(length)),
        event(0, choices=reason),
        event(0, choices=[], usage=usage),
        b"data: [DONE]\n\n",
    ]


async def read(module: Any, url: str, *, most: int | None, is_async: bool) -> int:
    """How many bytes of the answer a client takes: all, or it leaves after so many chunks."""
    asked = {"model": "gpt-5", "messages": [], "stream": True}
    taken = 0
    if is_async:
        async with module.AsyncClient() as client, client.stream("POST", url, json=asked) as response:
            count = 0
            async for chunk in response.aiter_raw():
                taken, count = taken + len(chunk), count + 1
                if count == most:
                    break
        return taken
    with module.Client() as client, client.stream("POST", url, json=asked) as response:
        for count, chunk in enumerate(response.iter_raw(), 1):
            taken += len(chunk)
            if count == most:
                break
    return taken


def received(got: Captured) -> float:
    """Bytes of answers, as they were counted."""
    return got.value("genapp_http_request_size_bytes_sum", direction="response")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
async def test_long_streams_are_read_and_sized(module: Any, *, is_async: bool) -> None:
    """However many chunks there are: all bytes are counted, and the answer's end is found."""
    for length in LENGTHS:
        pieces = answer(length)
        headers = {"content-type": "text/event-stream"}
        with (
            serving(lambda _: Canned(pieces, headers=headers)) as canned,  # noqa: B023 - served in this turn
            capture_telemetry() as got,
            bind(session_id="anna"),
        ):
            taken = await read(module, canned.url("/v1/chat/completions"), most=None, is_async=is_async)
            assert taken == received(got) == sum(map(len, pieces))
            session = got.session("anna") or {}
            assert (session["total_requests"], session["total_prompt_tokens"]) == (1, 7)
            assert session["total_completion_tokens"] == length + 1
            [span] = [span for span in got.spans if span.name == "chat gpt-5"]
            assert dict(span.attributes or {})["gen_ai.response.finish_reasons"] == ("length",)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
async def test_streams_left_early_are_sized(module: Any, *, is_async: bool) -> None:
    """Somebody who leaves has taken what was counted, and the call is cancelled."""
    headers = {"content-type": "text/event-stream"}
    for most in (1, 2, 3, 64, 65, 66, 67, 400):
        with (
            serving(lambda _: Canned(answer(500), headers=headers)) as canned,
            capture_telemetry() as got,
            bind(session_id="anna"),
        ):
            taken = await read(module, canned.url("/v1/chat/completions"), most=most, is_async=is_async)
            assert taken == received(got) > 0
            session = got.session("anna") or {}
            assert (session["total_requests"], session["cancelled_requests"]) == (1, 1)
