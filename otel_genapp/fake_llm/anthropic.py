"""Anthropic's Messages. `input_tokens` leaves out what was read from and written to the cache.

A stream tells usage twice: `message_start` what is known by then, and `message_delta` all of it,
which overrides. Tokens written to the cache are known only at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otel_genapp.fake_llm.answers import Answer, NoUsage
from otel_genapp.fake_llm.requests import BadRequestError, LLMRequest, Turn, content_text, message_turns
from otel_genapp.fake_llm.wire_format import (
    Piece,
    Stream,
    Tokens,
    Told,
    WireFormat,
    arguments_of,
    dump,
    event,
    finish_of,
    text_of,
    words_of,
)

_PREFIX = "msg_"
_ERROR_TYPES = {
    200: "overloaded_error",  # inside a good answer
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def turns(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The system prompt and the messages.

    Raises:
        BadRequestError: there are no messages.
    """
    system = content_text(body.get("system"))
    return (*((Turn("system", system),) if system else ()), *message_turns(body))


def error(status: int, message: str) -> bytes:
    """Anthropic's error body for a status; 200 stands for an error inside a good answer."""
    return dump(
        {"type": "error", "error": {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}}
    )


def _turns_of_an_answer(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    if not isinstance(body.get("max_tokens"), int):
        raise BadRequestError("max_tokens: Field required")
    return turns(body)


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    usage, told = _usage(request, answer)
    message = _message(request, response_id)
    message["content"] = list(_blocks(request, answer, response_id=response_id))
    message["stop_reason"] = finish_of(answer, "anthropic")
    return Piece(dump(message if usage is None else {**message, "usage": usage}), told)


def _stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    usage, told = _usage(request, answer)
    message = _message(request, response_id)
    told_first: Told = {}
    if usage is not None:
        first = {**usage, "cache_creation_input_tokens": 0, "output_tokens": 1}
        del first["output_tokens_details"]
        message["usage"] = first
        written = told["cache_write"]
        told_first = {**told, "input": told["input"] - written, "cache_write": 0, "output": 1}
        told_first.pop("reasoning", None)
    events = [Piece(_event("message_start", {"message": message}), told_first)]
    for place, block in enumerate(_blocks(request, answer, response_id=response_id)):
        events += [Piece(data) for data in _block_events(place, block)]
    events.insert(2, Piece(_event("ping", {})))
    delta: dict[str, Any] = {"delta": {"stop_reason": finish_of(answer, "anthropic"), "stop_sequence": None}}
    if usage is not None:
        delta["usage"] = usage
    events.append(Piece(_event("message_delta", delta), told))
    message_of_fault = getattr(answer.fault, "message", "")
    return Stream(
        events=tuple(events),
        last=Piece(_event("message_stop", {})),
        error=Piece(event(error(200, message_of_fault), name="error")),
    )


def _message(request: LLMRequest, response_id: str) -> dict[str, Any]:
    return {
        "id": response_id,
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(request: LLMRequest, answer: Answer, *, response_id: str) -> Iterator[dict[str, Any]]:
    text = text_of(request, answer)
    if text is not None:
        yield {"type": "text", "text": text}
    for place, tool in enumerate(answer.tools):
        tool_id = f"toolu_{response_id.removeprefix(_PREFIX)}_{place}"
        yield {"type": "tool_use", "id": tool_id, "name": tool.name, "input": arguments_of(tool)}


def _block_events(place: int, block: dict[str, Any]) -> Iterator[bytes]:
    is_text = block["type"] == "text"
    begun = {**block, "text": ""} if is_text else {**block, "input": {}}
    yield _event("content_block_start", {"index": place, "content_block": begun})
    if is_text:
        deltas = [{"type": "text_delta", "text": word} for word in words_of(block["text"])]
    else:
        arguments = dump(block["input"]).decode()
        half = (len(arguments) + 1) // 2
        pieces = ("", arguments[:half], arguments[half:])
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    for delta in deltas:
        yield _event("content_block_delta", {"index": place, "delta": delta})
    yield _event("content_block_stop", {"index": place})


def _event(name: str, rest: dict[str, Any]) -> bytes:
    return event({"type": name, **rest}, name=name)


def _usage(request: LLMRequest, answer: Answer) -> tuple[dict[str, Any] | None, Told]:
    if isinstance(answer.fault, NoUsage):
        return None, {}
    tokens = Tokens.of(request, answer)
    usage = {
        "input_tokens": tokens.input - tokens.cached - tokens.cache_write,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.output,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        "service_tier": "standard",
    }
    return usage, tokens.told("input", "output", "cached", "cache_write", "reasoning")


ANTHROPIC = WireFormat(
    name="anthropic",
    operation="chat",
    id_prefix=_PREFIX,
    turns=_turns_of_an_answer,
    whole=_whole,
    stream=_stream,
    error=error,
    headers=lambda request_id, _elapsed_ms: {"request-id": request_id},
)
