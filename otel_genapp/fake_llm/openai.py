"""What the OpenAI protocols share: headers, errors, the list of models, streams that tell usage when asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otel_genapp.fake_llm.answers import Answer, NoUsage
from otel_genapp.fake_llm.requests import LLMRequest
from otel_genapp.fake_llm.wire_format import Piece, Stream, Told, dump, event

MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-small")

_DONE = b"data: [DONE]\n\n"
_ERROR_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def headers(request_id: str, elapsed_ms: int) -> dict[str, str]:
    """The headers OpenAI names an answer, its time and what is left of the limits with."""
    return {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "198500",
        "x-request-id": request_id,
        "openai-version": "2020-10-01",
        "openai-processing-ms": str(elapsed_ms),
    }


def error(status: int, message: str) -> bytes:
    """OpenAI's error body for a status; 200 stands for an error inside a good answer."""
    kind, code = _ERROR_TYPES.get(status, ("server_error", None))
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def models() -> bytes:
    """The body of the list of models."""
    listed = [
        {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"} for name in MODELS
    ]
    return dump({"object": "list", "data": listed})


def tells_usage(request: LLMRequest, answer: Answer) -> bool:
    """Whether the answer says its tokens."""
    return request.include_usage and not isinstance(answer.fault, NoUsage)


def stream_of(
    head: dict[str, Any], choices: Iterable[dict[str, Any]], *, usage: dict[str, Any] | None, told: Told
) -> Stream:
    """Chunks with a choice each, if there is `usage` a last one with that, and `[DONE]`."""
    tail: dict[str, Any] = {"usage": None} if usage is not None else {}
    events = [Piece(event({**head, "choices": [choice], **tail})) for choice in choices]
    if usage is not None:
        events.append(Piece(event({**head, "choices": [], "usage": usage}), told))
    return Stream(events=tuple(events), last=Piece(_DONE), error=Piece(b""))


def error_event(answer: Answer) -> Piece:
    """The error of a stream, where the answer has one in it."""
    message = getattr(answer.fault, "message", "")
    return Piece(event(error(200, message)))
