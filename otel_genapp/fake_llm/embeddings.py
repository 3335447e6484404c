"""OpenAI's embeddings; vectors follow from the text alone."""

from __future__ import annotations

import array
import base64
import zlib
from typing import Any

from otel_genapp.fake_llm import openai
from otel_genapp.fake_llm.answers import Answer, NoUsage
from otel_genapp.fake_llm.requests import LLMRequest, input_turns
from otel_genapp.fake_llm.wire_format import Piece, Tokens, WireFormat, dump

_DIMENSIONS = 8


def _whole(request: LLMRequest, answer: Answer, *, response_id: str) -> Piece:  # noqa: ARG001 - it has no id
    as_base64 = request.body.get("encoding_format") == "base64"
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, as_base64=as_base64)}
            for index, text in enumerate(request.inputs)
        ],
        "model": request.model,
    }
    if isinstance(answer.fault, NoUsage):
        return Piece(dump(body))
    tokens = Tokens.of(request, answer)
    body["usage"] = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
    return Piece(dump(body), tokens.told("input"))


def _vector(text: str, *, as_base64: bool) -> list[float] | str:
    values = [zlib.crc32(f"{place}:{text}".encode()) / 0xFFFFFFFF for place in range(_DIMENSIONS)]
    if as_base64:
        return base64.b64encode(array.array("f", values).tobytes()).decode()
    return values


EMBEDDINGS = WireFormat(
    name="embeddings",
    operation="embeddings",
    id_prefix="",
    turns=lambda body: input_turns(body.get("input"), "input"),
    whole=_whole,
    stream=None,
    error=openai.error,
    headers=openai.headers,
    names_answers=False,
    calls_tools=False,
)
