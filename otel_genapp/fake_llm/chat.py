"""OpenAI's chat completions, and Azure's, which say first what their filters made of the prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from otel_genapp.fake_llm import openai
from otel_genapp.fake_llm.answers import Answer
from otel_genapp.fake_llm.requests import LLMRequest, message_turns
from otel_genapp.fake_llm.wire_format import (
    Piece,
    Stream,
    Tokens,
    Told,
    WireFormat,
    dump,
    event,
    finish_of,
    text_of,
    words_of,
)

_PREFIX = "chatcmpl-"
_HARMLESS = {
    kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")
}
_PROMPT_FILTERED = [{"prompt_index": 0, "content_filter_results": _HARMLESS}]


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    message: dict[str, Any] = {"role": "assistant", "content": text_of(request, answer), "refusal": None}
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": _tool_id(response_id, place),
                "type": "function",
                "function": {"name": tool.name, "arguments": tool.arguments},
            }
            for place, tool in enumerate(answer.tools)
        ]
    body: dict[str, Any] = {
        "id": response_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": finish_of(answer)}
            for index in range(request.choices)
        ],
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    usage, told = _usage(request, answer)
    if usage is not None:
        body["usage"] = usage
    return Piece(dump(body), told)


def _stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    head: dict[str, Any] = {
        "id": response_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    choices = [
        {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        for delta, finish in _deltas(request, answer, response_id=response_id)
        for index in range(request.choices)
    ]
    usage, told = _usage(request, answer)
    return replace(openai.stream_of(head, choices, usage=usage, told=told), error=openai.error_event(answer))


def _azure_whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    whole = _whole(request, answer, response_id=response_id)
    return replace(whole, data=whole.data[:-1] + b',"prompt_filter_results":' + dump(_PROMPT_FILTERED) + b"}")


def _azure_stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    opening = {
        "choices": [], "created": 0, "id": "", "model": "", "object": "",
        "prompt_filter_results": _PROMPT_FILTERED,
    }  # fmt: skip
    stream = _stream(request, answer, response_id=response_id)
    return replace(stream, events=(Piece(event(opening)), *stream.events))


def _azure_headers(request_id: str, elapsed_ms: int) -> dict[str, str]:
    return {**openai.headers(request_id, elapsed_ms), "apim-request-id": request_id, "x-ms-region": "Fake"}


def _usage(request: LLMRequest, answer: Answer) -> tuple[dict[str, Any] | None, Told]:
    if not openai.tells_usage(request, answer):
        return None, {}
    tokens = Tokens.of(request, answer)
    details = {"cached_tokens": tokens.cached, "audio_tokens": 0}
    if tokens.cache_write:
        details["cache_write_tokens"] = tokens.cache_write
    usage = {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    return usage, tokens.told("input", "output", "cached", "reasoning", unless_zero=("cache_write",))


def _deltas(
    request: LLMRequest, answer: Answer, *, response_id: str
) -> Iterator[tuple[dict[str, Any], str | None]]:
    text = text_of(request, answer)
    yield {"role": "assistant", "content": None if text is None else "", "refusal": None}, None
    for word in words_of(text):
        yield {"content": word}, None
    for place, tool in enumerate(answer.tools):
        named = {"name": tool.name, "arguments": ""}
        opening = {"index": place, "id": _tool_id(response_id, place), "type": "function"}
        yield {"tool_calls": [{**opening, "function": named}]}, None
        half = (len(tool.arguments) + 1) // 2
        for piece in (tool.arguments[:half], tool.arguments[half:]):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, None
    yield {}, finish_of(answer)


def _tool_id(response_id: str, place: int) -> str:
    return f"call_{response_id.removeprefix(_PREFIX)}_{place}"


CHAT = WireFormat(
    name="chat",
    operation="chat",
    id_prefix=_PREFIX,
    turns=message_turns,
    whole=_whole,
    stream=_stream,
    error=openai.error,
    headers=openai.headers,
)
AZURE = replace(CHAT, name="azure", whole=_azure_whole, stream=_azure_stream, headers=_azure_headers)
