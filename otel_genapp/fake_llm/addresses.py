"""Which address speaks which protocol, and what an address says itself: the model, that it streams."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from otel_genapp.fake_llm import anthropic, gemini, responses
from otel_genapp.fake_llm.chat import AZURE, CHAT
from otel_genapp.fake_llm.completions import COMPLETIONS
from otel_genapp.fake_llm.embeddings import EMBEDDINGS
from otel_genapp.fake_llm.requests import BadRequestError, LLMRequest, Turn, conversation_tokens
from otel_genapp.fake_llm.wire_format import WireFormat, dump

_PLAIN = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/embeddings": EMBEDDINGS,
    "/responses": responses.RESPONSES,
    "/messages": anthropic.ANTHROPIC,
}
_AZURE = re.compile(r"/openai/deployments/([^/]+)(/chat/completions|/completions|/embeddings)")
_GEMINI = re.compile(r"/(?:v1(?:alpha|beta)?/)?models/([^/:]+):(\w+)")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request to a model goes; `model` and `stream` as far as the address says them."""

    protocol: WireFormat
    model: str | None = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Where a prompt's tokens are counted, which is no inference."""

    turns: Callable[[Mapping[str, Any]], tuple[Turn, ...]]
    named: str
    """The member of the answer that holds the count."""
    error: Callable[[int, str], bytes]


_COUNTERS = {
    "/messages/count_tokens": TokenCount(anthropic.turns, "input_tokens", anthropic.error),
    "/responses/input_tokens": TokenCount(responses.turns, "input_tokens", CHAT.error),
}
_GEMINI_COUNTER = TokenCount(gemini.turns, "totalTokens", gemini.error)


def find(path: str, query: str = "") -> Address | TokenCount | None:
    """What a POST to `path` is; None where nothing is."""
    plain = path.removeprefix("/v1")
    if plain in _PLAIN:
        return Address(_PLAIN[plain])
    if plain in _COUNTERS:
        return _COUNTERS[plain]
    options = parse_qs(query)
    if (azure := _AZURE.fullmatch(path)) is not None and "api-version" in options:
        chosen = _PLAIN[azure[2]]
        return Address(AZURE if chosen is CHAT else chosen, unquote(azure[1]))
    if (google := _GEMINI.fullmatch(path)) is not None:
        model, verb = unquote(google[1]), google[2]
        if verb == "generateContent":
            return Address(gemini.GEMINI, model, stream=False)
        if verb == "streamGenerateContent":
            events = options.get("alt") == ["sse"]
            return Address(gemini.GEMINI if events else gemini.GEMINI_ARRAY, model, stream=True)
        if verb == "countTokens":
            return _GEMINI_COUNTER
    return None


def read_request(address: Address, payload: bytes, *, number: int, headers: Mapping[str, str]) -> LLMRequest:
    """The request in `payload`.

    Raises:
        BadRequestError: the payload is not what the API takes.
    """
    body = _object(payload)
    model = address.model or body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("you must provide a model parameter")
    protocol = address.protocol
    turns = protocol.turns(body)
    stream = address.stream if address.stream is not None else bool(body.get("stream"))
    return LLMRequest(
        number=number,
        protocol=protocol.name,
        operation=protocol.operation,
        model=model,
        stream=stream and protocol.stream is not None,
        turns=turns,
        body=body,
        headers=headers,
    )


def count(counter: TokenCount, payload: bytes) -> tuple[int, bytes]:
    """Status and body of an answer that only counts the prompt."""
    try:
        body = _object(payload)
        # Gemini takes the whole request too, wrapped.
        inner = body.get("generateContentRequest")
        turns = counter.turns(inner if isinstance(inner, dict) else body)
    except BadRequestError as error:
        return 400, counter.error(400, str(error))
    return 200, dump({counter.named: conversation_tokens(turns)})


def _object(payload: bytes) -> dict[str, Any]:
    try:
        body = json.loads(payload)
    except ValueError:
        raise BadRequestError("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body of the request must be a JSON object.")
    return body
