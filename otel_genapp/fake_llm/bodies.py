"""The OpenAI protocol's answers as bytes: completions, stream chunks, embeddings, errors."""

from __future__ import annotations

import array
import base64
import json
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from otel_genapp.fake_llm.answers import Answer, NoUsage
from otel_genapp.fake_llm.requests import LLMRequest, count_tokens

DONE = b"data: [DONE]\n\n"
MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-small")

_DIMENSIONS = 8
_ERROR_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event; `tells_usage` marks the one that carries the tokens."""

    data: bytes
    tells_usage: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one answer, settled."""

    input: int
    output: int
    cached: int
    reasoning: int

    @classmethod
    def of(cls, request: LLMRequest, answer: Answer) -> Tokens:
        """What the answer says, else what the fake server counts."""
        if answer.output_tokens is not None:
            output = answer.output_tokens
        elif request.operation == "embeddings":
            output = 0
        else:
            said = [text_of(request, answer) or "", *(tool.arguments for tool in answer.tools)]
            said.extend(tool.name for tool in answer.tools)
            output = request.choices * sum(map(count_tokens, said)) + answer.reasoning_tokens
        return cls(
            input=request.prompt_tokens if answer.input_tokens is None else answer.input_tokens,
            output=output,
            cached=answer.cached_tokens,
            reasoning=answer.reasoning_tokens,
        )

    def body(self) -> dict[str, Any]:
        """The `usage` object of a chat completion."""
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def text_of(request: LLMRequest, answer: Answer) -> str | None:
    """What the model says: the answer's text, nothing beside tool calls, else an echo."""
    if answer.text is not None:
        return answer.text
    return None if answer.tool_calls else f"You said: {request.text}"


def completion(request: LLMRequest, answer: Answer, *, response_id: str) -> bytes:
    """The body of a chat completion that is not streamed."""
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
            {"index": index, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
            for index in range(request.choices)
        ],
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    if not isinstance(answer.fault, NoUsage):
        body["usage"] = Tokens.of(request, answer).body()
    return _dump(body)


def chunks(request: LLMRequest, answer: Answer, *, response_id: str) -> tuple[Frame, ...]:
    """The events of a streamed chat completion, without the closing `[DONE]`."""
    tells_usage = request.include_usage and not isinstance(answer.fault, NoUsage)
    head: dict[str, Any] = {
        "id": response_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    tail: dict[str, Any] = {"usage": None} if tells_usage else {}
    frames = [
        Frame(
            event(
                {
                    **head,
                    "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}],
                    **tail,
                }
            )
        )
        for delta, finish in _deltas(request, answer, response_id=response_id)
        for index in range(request.choices)
    ]
    if tells_usage:
        usage = Tokens.of(request, answer).body()
        frames.append(Frame(event({**head, "choices": [], "usage": usage}), tells_usage=True))
    return tuple(frames)


def embeddings(request: LLMRequest, answer: Answer) -> bytes:
    """The body of an embeddings answer; vectors follow from the text alone."""
    as_base64 = request.body.get("encoding_format") == "base64"
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, as_base64=as_base64)}
            for index, text in enumerate(request.inputs)
        ],
        "model": request.model,
    }
    if not isinstance(answer.fault, NoUsage):
        tokens = Tokens.of(request, answer).input
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _dump(body)


def models() -> bytes:
    """The body of the list of models."""
    listed = [
        {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"} for name in MODELS
    ]
    return _dump({"object": "list", "data": listed})


def error(status: int, message: str) -> bytes:
    """OpenAI's error body for a status; 200 stands for an error inside a good answer."""
    kind, code = _ERROR_TYPES.get(status, ("server_error", None))
    return _dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def event(value: Any) -> bytes:
    """`value` as one server-sent event; bytes go in as they are."""
    return b"data: " + (value if isinstance(value, bytes) else _dump(value)) + b"\n\n"


def _deltas(
    request: LLMRequest, answer: Answer, *, response_id: str
) -> Iterator[tuple[dict[str, Any], str | None]]:
    text = text_of(request, answer)
    yield {"role": "assistant", "content": None if text is None else "", "refusal": None}, None
    for word in re.findall(r"\s*\S+|\s+$", text or ""):
        yield {"content": word}, None
    for place, tool in enumerate(answer.tools):
        named = {"name": tool.name, "arguments": ""}
        opening = {"index": place, "id": _tool_id(response_id, place), "type": "function"}
        yield {"tool_calls": [{**opening, "function": named}]}, None
        half = (len(tool.arguments) + 1) // 2
        for piece in (tool.arguments[:half], tool.arguments[half:]):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, None
    yield {}, _finish(answer)


def _finish(answer: Answer) -> str:
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def _tool_id(response_id: str, place: int) -> str:
    return f"call_{response_id.removeprefix('chatcmpl-')}_{place}"


def _vector(text: str, *, as_base64: bool) -> list[float] | str:
    values = [zlib.crc32(f"{place}:{text}".encode()) / 0xFFFFFFFF for place in range(_DIMENSIONS)]
    if as_base64:
        return base64.b64encode(array.array("f", values).tobytes()).decode()
    return values


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
