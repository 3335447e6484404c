"""Answers no provider should send: the application gets every byte, we raise nothing and keep little."""

from __future__ import annotations

import gzip
import importlib
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from otel_genapp import bind
from otel_genapp.testing import capture_telemetry
from tests.replaying import Player, Recorded, client

BODIES = 1000
"""For each of httpx and httpx2, in each of the five families below: ten thousand in all."""
EXTRA_MEMORY_BYTES = 1024 * 1024

PATHS = (
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    "/api/chat",
)
TYPES = ("text/event-stream", "application/json", "application/x-ndjson", "text/plain", "")
EVENTS = (
    b'{"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{"content":"h\xc3\xa9llo"},"finish_reason":null}]}',
    b'{"id":"x","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":-4,"total_tokens":1e400}}'
    % 10**30,
    b'{"type":"message_start","message":{"id":7,"model":[],"usage":{"input_tokens":"9","output_tokens":null}}}',
    b'{"type":"message_delta","delta":null,"usage":{"output_tokens":true}}',
    b'{"type":"response.completed","response":{"id":{},"usage":[],"output":{"a":1},"status":5}}',
    b'{"candidates":[{"content":{"parts":"no"},"finishReason":99}],"usageMetadata":{"promptTokenCount":NaN}}',
    b'{"message":{"tool_calls":[{"function":null},7]},"done":true,"eval_count":1.5,"prompt_eval_count":"x"}',
    b'{"choices":{"0":{}},"usage":{"prompt_tokens":[1],"prompt_tokens_details":"a"}}',
    b'{"error":{"code":{"a":[1]},"type":null}}',
    b"[DONE]",
    b"\xff\xfe\xfa not utf-8 \xed\xa0\x80",
    b'{"usage":{"prompt_tokens":3',
    b"[" * 3000 + b"]" * 3000,
)


def malformed(chance: random.Random) -> bytes:
    """A body of events, cut and twisted."""
    parts: list[bytes] = []
    ends = chance.choice((b"\n\n", b"\r\n\r\n", b"\n", b"\r\r", b"\r\n"))
    for _ in range(chance.randint(0, 12)):
        event = chance.choice(EVENTS)
        if chance.random() < 0.3:
            event = event[: chance.randint(0, len(event))]
        if chance.random() < 0.2:
            event = bytes(chance.choices(range(256), k=chance.randint(1, 60)))
        parts.append(chance.choice((b"data: ", b"data:", b"", b"event: x\ndata: ")) + event + ends)
    body = b"".join(parts)
    kind = chance.random()
    if kind < 0.01:
        body += b"data: " + b"a" * 700_000 + ends  # a line nobody keeps
    elif kind < 0.02:
        body += b'{"a":[' + b"{}," * 100_000 + b"{}]}"  # small on the wire, large once parsed
    elif kind < 0.03:
        body = (
            b'{"choices":[],"x":"'
            + b"\\u0000" * 60_000
            + b'","usage":{"prompt_tokens":1,"completion_tokens":2}}'
        )
    return body


def encoded(body: bytes, chance: random.Random) -> tuple[bytes, str]:
    """The body as sent, and its content encoding; sometimes neither fits the other."""
    kind = chance.random()
    if kind < 0.1:
        return gzip.compress(body, mtime=0), "gzip"
    if kind < 0.15:
        return zlib.compress(body), "deflate"
    if kind < 0.2:
        return body, chance.choice(("gzip", "br", "zstd", "deflate", "unheard-of"))
    if kind < 0.21:
        return gzip.compress(b"data: {}\n\n" * 400_000, mtime=0), "gzip"  # a bomb
    return body, ""


def pieces(body: bytes, chance: random.Random) -> list[bytes]:
    """The body in pieces of one byte to all of it."""
    size = chance.choice((1, 2, 3, 7, 64, 1000, 65536))
    size = max(size, len(body) // 2000)
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_malformed_answers_pass_unchanged(module_name: str, path: str) -> None:
    """Bytes out are bytes in, nothing is raised, and what is kept stays under a mebibyte."""
    module: Any = importlib.import_module(module_name)
    chance = random.Random(f"{module_name}{path}")  # noqa: S311 - the same bodies every time
    peak = 0
    with Player() as player, capture_telemetry() as got, client(module, player) as caller:
        for number in range(BODIES):
            body, encoding = encoded(malformed(chance), chance)
            headers = {"content-type": chance.choice(TYPES)}
            player.recorded = Recorded(200, headers, pieces(body, chance), encoding)
            assert player.recorded.wire  # made now, not while memory is measured
            watched = number % 50 == 0 or len(body) > 100_000
            received = _post(caller, path, number=number, measure=watched)
            assert received[0] == body
            peak = max(peak, received[1])
        assert got.telemetry.totals()["total_requests"] == BODIES
    assert peak <= EXTRA_MEMORY_BYTES


def _post(client: Any, path: str, *, number: int, measure: bool) -> tuple[bytes, int]:
    """The raw bytes of an answer, and what was allocated beside them."""
    if measure:
        tracemalloc.start()
    try:
        with (
            bind(session_id=f"s{number % 7}"),
            client.stream(
                "POST",
                f"http://localhost{path}",
                json={"model": "m", "messages": [{}], "max_tokens": 1, "stream": True},
            ) as response,
        ):
            extra = 0
            parts: list[bytes] = []
            read: Callable[[], Any] = lambda: iter(response.iter_raw())  # noqa: E731
            for part in read():
                parts.append(part)
                if measure and len(parts) % 64 == 0:
                    extra = max(extra, tracemalloc.get_traced_memory()[0] - sum(map(len, parts)))
            if measure:
                extra = max(extra, tracemalloc.get_traced_memory()[1] - sum(map(len, parts)))
            return b"".join(parts), extra
    finally:
        if measure:
            tracemalloc.stop()
