"""The least that a layer on the wire does for an LLM call: the floor under what ours can cost.

One wrapper around the transport, the question and the answer parsed, one span of the SDK with what was
read. No metrics, ids or sessions, nothing on disk, no content encodings, no errors, one provider.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

from opentelemetry.trace import SpanKind, Tracer

_USAGE = b'"usage":{'


def watch(tracer: Tracer) -> None:
    """Put it around the transports of the HTTP client that the openai SDK uses."""
    import openai

    module = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    inner = module.HTTPTransport.handle_request

    class Watched(module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, span: Any, question: bytes) -> None:
            self._stream, self._span, self._question = stream, span, question

        def __iter__(self) -> Iterator[bytes]:
            pieces = []
            for chunk in self._stream:
                pieces.append(chunk)
                yield chunk
            self._span.set_attributes(_said(json.loads(self._question), b"".join(pieces)))
            self._span.end()

        def close(self) -> None:
            self._stream.close()

    def handle_request(transport: Any, request: Any) -> Any:
        span = tracer.start_span("chat", kind=SpanKind.CLIENT)
        response = inner(transport, request)
        response.stream = Watched(response.stream, span, request.content)
        return response

    module.HTTPTransport.handle_request = handle_request


def _said(question: dict[str, Any], answer: bytes) -> dict[str, Any]:
    """The attributes of the span; of a stream the line with the usage is read."""
    if question.get("stream"):
        start = answer.rfind(b"\n", 0, answer.rfind(_USAGE)) + 1
        answer = answer[start + len(b"data: ") : answer.find(b"\n", start)]
    found = json.loads(answer)
    usage = found["usage"]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": question["model"],
        "gen_ai.request.temperature": question["temperature"],
        "gen_ai.request.max_tokens": question["max_tokens"],
        "gen_ai.response.model": found["model"],
        "gen_ai.response.id": found["id"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
    }
