"""OpenAI's Responses: typed events, the whole answer once more in the last one.

A `finish_reason` of `length` makes the answer `incomplete`, one of `error` makes it `failed`; both
still say their tokens.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from otel_genapp.fake_llm import openai
from otel_genapp.fake_llm.answers import Answer, ErrorInStream, NoUsage
from otel_genapp.fake_llm.requests import LLMRequest, Turn, content_text, input_turns
from otel_genapp.fake_llm.wire_format import (
    Piece,
    Stream,
    Tokens,
    Told,
    WireFormat,
    dump,
    event,
    text_of,
    words_of,
)

_PREFIX = "resp_"
_ENDS = {"length": "incomplete", "error": "failed"}
_FAILED = "The fake server was told to fail."


def turns(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The instructions and the input, which is a text or a list of items.

    Raises:
        BadRequestError: there is no input.
    """
    given = body.get("input")
    instructions = body.get("instructions")
    system = (Turn("system", instructions),) if isinstance(instructions, str) else ()
    if isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        items = tuple(Turn(str(item.get("role")), content_text(item.get("content"))) for item in given)
        return (*system, *items)
    return (*system, *input_turns(given, "input"))


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    body, told = _response(request, answer, response_id=response_id)
    return Piece(dump(body), told)


def _failure(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    body, _ = _response(request, answer, response_id=response_id)
    message = answer.fault.message if isinstance(answer.fault, ErrorInStream) else _FAILED
    failed = {"status": "failed", "error": {"code": "server_error", "message": message}, "output": []}
    return Piece(dump({**body, **failed, "usage": None}))


def _stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    whole, told = _response(request, answer, response_id=response_id)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
    begun["incomplete_details"] = None
    said = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for place, item in enumerate(whole["output"]):
        said += _message_events(place, item) if item["type"] == "message" else _call_events(place, item)
    numbers = itertools.count()
    events = tuple(_event(f"response.{name}", rest, number=next(numbers)) for name, rest in said)
    last = _event(f"response.{whole['status']}", {"response": whole}, number=next(numbers))
    fault = answer.fault
    message, place = (fault.message, fault.after_chunks) if isinstance(fault, ErrorInStream) else ("", 0)
    error = {"code": "server_error", "message": message, "param": None}
    return Stream(
        events=events,
        last=Piece(last.data, told),
        error=_event("error", error, number=min(place, len(events))),
    )


def _response(request: LLMRequest, answer: Answer, *, response_id: str) -> tuple[dict[str, Any], Told]:
    status = _ENDS.get(answer.finish_reason or "", "completed")
    usage, told = _usage(request, answer)
    body = {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": {"code": "server_error", "message": _FAILED} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.body.get("instructions"),
        "metadata": request.body.get("metadata") or {},
        "model": request.model,
        "output": list(_output(request, answer, response_id=response_id)),
        "parallel_tool_calls": True,
        "previous_response_id": request.body.get("previous_response_id"),
        "service_tier": "default",
        "store": request.body.get("store", True),
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": request.body.get("tools") or [],
        "top_p": 1.0,
        "usage": usage,
        "user": request.body.get("user"),
    }
    return body, told


def _output(request: LLMRequest, answer: Answer, *, response_id: str) -> Iterator[dict[str, Any]]:
    tag = response_id.removeprefix(_PREFIX)
    text = text_of(request, answer)
    if text is not None:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        yield {
            "id": f"item_{tag}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }
    for place, tool in enumerate(answer.tools):
        yield {
            "id": f"fc_{tag}_{place}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{tag}_{place}",
            "name": tool.name,
            "arguments": tool.arguments,
        }


def _message_events(place: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    part = item["content"][0]
    at = {"item_id": item["id"], "output_index": place, "content_index": 0}
    begun = {"output_index": place, "item": {**item, "status": "in_progress", "content": []}}
    return [
        ("output_item.added", begun),
        ("content_part.added", {**at, "part": {**part, "text": ""}}),
        *(("output_text.delta", {**at, "delta": word, "logprobs": []}) for word in words_of(part["text"])),
        ("output_text.done", {**at, "text": part["text"], "logprobs": []}),
        ("content_part.done", {**at, "part": part}),
        ("output_item.done", {"output_index": place, "item": item}),
    ]


def _call_events(place: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    at = {"item_id": item["id"], "output_index": place}
    arguments = item["arguments"]
    half = (len(arguments) + 1) // 2
    begun = {**item, "status": "in_progress", "arguments": ""}
    return [
        ("output_item.added", {"output_index": place, "item": begun}),
        ("function_call_arguments.delta", {**at, "delta": arguments[:half]}),
        ("function_call_arguments.delta", {**at, "delta": arguments[half:]}),
        ("function_call_arguments.done", {**at, "name": item["name"], "arguments": arguments}),
        ("output_item.done", {"output_index": place, "item": item}),
    ]


def _event(name: str, rest: dict[str, Any], *, number: int) -> Piece:
    return Piece(event({"type": name, "sequence_number": number, **rest}, name=name))


def _usage(request: LLMRequest, answer: Answer) -> tuple[dict[str, Any] | None, Told]:
    if isinstance(answer.fault, NoUsage):
        return None, {}
    tokens = Tokens.of(request, answer)
    usage = {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.cache_write},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }
    return usage, tokens.told("input", "output", "cached", "cache_write", "reasoning")


RESPONSES = WireFormat(
    name="responses",
    operation="chat",
    id_prefix=_PREFIX,
    turns=turns,
    whole=_whole,
    stream=_stream,
    error=openai.error,
    failure=_failure,
    headers=openai.headers,
)
