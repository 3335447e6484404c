"""Gemini's generateContent: usage in every chunk, the last one is right.

Streams are server-sent events with `?alt=sse`, else one JSON array. Candidates leave the thoughts
out of their count. What is cached or thought is said only where there is any; writes never are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from otel_genapp.fake_llm.answers import Answer, NoUsage
from otel_genapp.fake_llm.requests import BadRequestError, LLMRequest, Turn, content_text
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

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def turns(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The system instruction and the contents.

    Raises:
        BadRequestError: there are no contents.
    """
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents or not all(isinstance(one, dict) for one in contents):
        raise BadRequestError("* GenerateContentRequest.contents: contents is not specified")
    instruction = body.get("systemInstruction")
    system = content_text(instruction.get("parts")) if isinstance(instruction, Mapping) else ""
    said = (Turn(str(one.get("role") or "user"), content_text(one.get("parts"))) for one in contents)
    return (*((Turn("system", system),) if system else ()), *said)


def error(status: int, message: str) -> bytes:
    """Google's error body for a status; 200 stands for an error inside a good answer."""
    code = 503 if status == 200 else status
    return dump({"error": {"code": code, "message": message, "status": _STATUSES.get(code, "INTERNAL")}})


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:
    text = text_of(request, answer)
    parts = [*([{"text": text}] if text is not None else []), *_calls(answer)]
    usage, told = _usage(request, answer)
    return Piece(
        dump(_chunk(request, parts, response_id=response_id, usage=usage, finish=_finish(answer))), told
    )


def _stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    said = [[{"text": word}] for word in words_of(text_of(request, answer))]
    if answer.tool_calls:
        said.append(list(_calls(answer)))
    chunks, told_by_chunk = [], []
    for place, parts in enumerate(said or [[{"text": ""}]], 1):
        is_last = place >= len(said)
        usage, told = _usage(request, answer, so_far=None if is_last else place)
        finish = _finish(answer) if is_last else None
        chunks.append(dump(_chunk(request, parts, response_id=response_id, usage=usage, finish=finish)))
        told_by_chunk.append(told)
    message = getattr(answer.fault, "message", "")
    pieces = [Piece(event(data), told) for data, told in zip(chunks, told_by_chunk, strict=True)]
    return Stream(events=tuple(pieces[:-1]), last=pieces[-1], error=Piece(event(error(200, message))))


def _array_stream(request: LLMRequest, answer: Answer, *, response_id: str) -> Stream:
    """The same chunks as the elements of one JSON array."""
    stream = _stream(request, answer, response_id=response_id)
    elements = [_element(piece, place) for place, piece in enumerate((*stream.events, stream.last))]
    *events, last = elements
    place = min(getattr(answer.fault, "after_chunks", 0), len(events))
    failed = _element(stream.error, place)
    return Stream(
        events=tuple(events),
        last=replace(last, data=last.data + b"\n]\n"),
        error=replace(failed, data=failed.data + b"\n]\n"),
        content_type="application/json; charset=UTF-8",
    )


def _element(piece: Piece, place: int) -> Piece:
    data = piece.data.removeprefix(b"data: ").rstrip(b"\n")
    return replace(piece, data=(b",\r\n" if place else b"[") + data)


def _chunk(
    request: LLMRequest,
    parts: list[dict[str, Any]],
    *,
    response_id: str,
    usage: dict[str, int] | None,
    finish: str | None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    body: dict[str, Any] = {"candidates": [candidate]}
    if usage is not None:
        body["usageMetadata"] = usage
    return {**body, "modelVersion": request.model, "responseId": response_id}


def _calls(answer: Answer) -> Iterator[dict[str, Any]]:
    for tool in answer.tools:
        yield {"functionCall": {"name": tool.name, "args": arguments_of(tool)}}


def _finish(answer: Answer) -> str:
    return finish_of(answer, "gemini")


def _usage(
    request: LLMRequest, answer: Answer, *, so_far: int | None = None
) -> tuple[dict[str, int] | None, Told]:
    """All of it, or what a chunk says that comes after `so_far` words."""
    if isinstance(answer.fault, NoUsage):
        return None, {}
    tokens = Tokens.of(request, answer)
    if so_far is not None:
        tokens = replace(tokens, output=tokens.reasoning + so_far)
    usage = {"promptTokenCount": tokens.input, "candidatesTokenCount": tokens.output - tokens.reasoning}
    if tokens.cached:
        usage["cachedContentTokenCount"] = tokens.cached
    if tokens.reasoning:
        usage["thoughtsTokenCount"] = tokens.reasoning
    usage["totalTokenCount"] = tokens.input + tokens.output
    return usage, tokens.told("input", "output", unless_zero=("cached", "reasoning"))


GEMINI = WireFormat(
    name="gemini",
    operation="generate_content",
    id_prefix="",
    turns=turns,
    whole=_whole,
    stream=_stream,
    error=error,
    headers=lambda _request_id, elapsed_ms: {"server-timing": f"gfet4t7; dur={elapsed_ms}"},
)
GEMINI_ARRAY = replace(GEMINI, stream=_array_stream)
