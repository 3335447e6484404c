"""Calls of the real openai SDK to a model that answers from memory: no server, no sockets.

The SDK's own client and transport are left alone, and what stands in for the network is the pool
of connections below them: whoever instruments the SDK, the HTTP client or its transport sees the
call as always.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MODEL = "gpt-4o-2024-08-06"
CHUNKS = 200
INPUT_TOKENS, OUTPUT_TOKENS = 61, 198
QUESTION = [
    {"role": "system", "content": "You are the assistant of a small shop. Answer in a few short sentences."},
    {
        "role": "user",
        "content": "Which of the two backpacks is better for a week of rain, and is it in stock?",
    },
]
ANSWER = (
    "For a week of rain the Fjord 40 is the better one: its seams are welded, the zips are covered and "
    "the roll top keeps water out even when the bag lies on the ground. The Trail 35 is lighter, but it "
    "needs its rain cover. Both are in stock; the Fjord 40 in green and black, ready to ship today."
)
REQUEST = {"model": MODEL, "messages": QUESTION, "temperature": 0.2, "max_tokens": 400}
STREAM_REQUEST = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}

_HEADERS = {
    "date": "Mon, 05 Jan 2026 10:00:00 GMT",
    "connection": "keep-alive",
    "openai-organization": "bench",
    "openai-processing-ms": "412",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999930",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "2ms",
    "x-request-id": "req_0123456789abcdef0123456789abcdef",
}


def client(body: Sequence[bytes], content_type: str) -> Any:
    """The SDK's client as an app makes it, each of whose requests is answered with `body`."""
    import openai

    http_client = openai.DefaultHttpxClient(trust_env=False)
    transport: Any = http_client._transport
    # The SDK brings httpx2 since version 3, httpx before; each has a core of its own.
    core = importlib.import_module(type(transport._pool).__module__.partition(".")[0])
    headers = {**_HEADERS, "content-type": content_type}
    if len(body) == 1:
        headers["content-length"] = str(len(body[0]))
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    transport._pool = _Memory(core.Response, raw, body)
    return openai.OpenAI(api_key="bench", http_client=http_client)


class _Memory:
    """Stands where the transport has its pool of connections."""

    def __init__(self, response: Any, headers: list[tuple[bytes, bytes]], body: Sequence[bytes]) -> None:
        self._response = response
        self._headers = headers
        self._body = body

    def handle_request(self, request: Any) -> Any:
        for _part in request.stream:
            pass
        return self._response(
            200, headers=self._headers, content=iter(self._body), extensions={"http_version": b"HTTP/1.1"}
        )

    def close(self) -> None:
        pass


def calls() -> Callable[[int], None]:
    """Work: calls answered at once, with about 1 kB of JSON."""
    create = client([_completion()], "application/json").chat.completions.create

    def call(count: int) -> None:
        for _ in range(count):
            answer = create(**REQUEST)
            if answer.usage.completion_tokens != OUTPUT_TOKENS:
                raise RuntimeError(f"answered with {answer}")

    return call


def streams() -> Callable[[int], None]:
    """Work: streams read to their end, `CHUNKS` events with the usage in the last one."""
    create = client(_events(), "text/event-stream; charset=utf-8").chat.completions.create

    def stream(count: int) -> None:
        for _ in range(count):
            chunks = 0
            for _chunk in create(**STREAM_REQUEST):
                chunks += 1
            if chunks != CHUNKS:
                raise RuntimeError(f"{chunks} chunks, wanted {CHUNKS}")

    return stream


def parse_beforehand() -> None:
    """Let the SDK hand out a stream's chunks without parsing the same 200 events each time.

    Parsing them costs 20 ms, and two processes of the bare SDK differ by what the cheapest arms add.
    The bytes still come through the transport one event at a time, and everyone gets the SDK's own
    objects. The processor's caches stay warm, as they do not beside the parsing: all arms cost less.
    """
    import openai

    stream_class: Any = openai.Stream
    events = _events()
    chunks = list(client(events, "text/event-stream").chat.completions.create(**STREAM_REQUEST))
    parsed = [*chunks, None]  # [DONE] has no chunk

    def replay(stream: Any) -> Iterator[Any]:
        try:
            for _event, chunk in zip(stream.response.iter_bytes(), parsed, strict=True):
                if chunk is not None:
                    yield chunk
        finally:
            stream.response.close()

    stream_class.__stream__ = replay


def _completion() -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    return json.dumps({
        "id": "chatcmpl-0123456789abcdefghijklmnopq",
        "object": "chat.completion",
        "created": 1767607200,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }).encode()  # fmt: skip


def _events() -> list[bytes]:
    words = [f" {word}" for word in ANSWER.split()]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": words[number % len(words)]} for number in range(CHUNKS - 3)]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    return [*(_event([choice], None) for choice in choices), _event([], USAGE), b"data: [DONE]\n\n"]


def _event(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    chunk = {
        "id": "chatcmpl-0123456789abcdefghijklmnopq",
        "object": "chat.completion.chunk",
        "created": 1767607200,
        "model": MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
        "obfuscation": "a1B2c3D4",
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()
