"""OpenAI's completions of old: a text for each prompt, without messages, tools or details of usage."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from otel_genapp.fake_llm import openai
from otel_genapp.fake_llm.answers import Answer
from otel_genapp.fake_llm.requests import LLMRequest, input_turns
from otel_genapp.fake_llm.wire_format import (
    Piece,
    Stream,
    Tokens,
    Told,
    WireFormat,
    dump,
    finish_of,
    text_of,
    words_of,
)


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    text = text_of(request, answer) or ""
    choices = [_choice(index, text, finish=finish_of(answer)) for index in range(request.choices)]
    usage, told = _usage(request, answer)
    body = {**_head(request, response_id), "choices": choices}
    return Piece(dump(body if usage is None else {**body, "usage": usage}), told)


def _stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    said: list[tuple[str, str | None]] = [(word, None) for word in words_of(text_of(request, answer))]
    choices = [
        _choice(index, text, finish=finish)
        for text, finish in (*said, ("", finish_of(answer)))
        for index in range(request.choices)
    ]
    usage, told = _usage(request, answer)
    stream = openai.stream_of(_head(request, response_id), choices, usage=usage, told=told)
    return replace(stream, error=openai.error_event(answer))


def _head(request: LLMRequest, response_id: str) -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }


def _choice(index: int, text: str, *, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _usage(request: LLMRequest, answer: Answer) -> tuple[dict[str, int] | None, Told]:
    if not openai.tells_usage(request, answer):
        return None, {}
    tokens = Tokens.of(request, answer)
    usage = {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    }
    return usage, tokens.told("input", "output")


COMPLETIONS = WireFormat(
    name="completions",
    operation="text_completion",
    id_prefix="cmpl-",
    turns=lambda body: input_turns(body.get("prompt"), "prompt"),
    whole=_whole,
    stream=_stream,
    error=openai.error,
    headers=openai.headers,
    calls_tools=False,
)
