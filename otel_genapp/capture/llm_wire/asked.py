"""What a request to a model says: the model, whether it streams, whether it offers tools."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from otel_genapp import foreign_json, semconv
from otel_genapp.capture.llm_wire.routes import COHERE_OR_OPENAI, Route
from otel_genapp.context import clean_id

BODY_LIMIT_BYTES = 256 * 1024
"""A longer body is not parsed: what is needed is looked for in its text."""

_MODEL = re.compile(rb'(?<!\\)"(?:model|modelUri)"\s*:\s*"([^"\\]{1,256})"')
_STREAM = re.compile(rb'(?<!\\)"stream"\s*:\s*true')
_TOOLS = re.compile(rb'(?<!\\)"(?:tools|functions|toolConfig)"\s*:\s*[\[{]')

_MEMBERS = ("model", "messages", "message", "prompt", "input", "query", "max_tokens")
_REQUEST_ATTRIBUTES = (
    ("max_tokens", semconv.REQUEST_MAX_TOKENS),
    ("max_completion_tokens", semconv.REQUEST_MAX_TOKENS),
    ("max_output_tokens", semconv.REQUEST_MAX_TOKENS),
    ("temperature", semconv.REQUEST_TEMPERATURE),
    ("top_p", semconv.REQUEST_TOP_P),
    ("top_k", semconv.REQUEST_TOP_K),
    ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY),
    ("seed", semconv.REQUEST_SEED),
)


@dataclass(slots=True)
class Asked:
    """One request to a model, as far as it matters for reading the answer and naming the call."""

    family: str
    operation: str
    provider: str
    model: str
    stream: bool = False
    tools: bool = True
    choices: int = 1
    extra: dict[str, Any] = field(default_factory=dict)
    """Further attributes the span starts with."""


def asked(route: Route, body: bytes | None) -> Asked | None:
    """What the request says, or None when its body shows that it is no call to a model.

    `body` is None where it is not at hand (a stream, a form): the URL has to do.
    """
    parsed = _parsed(body)
    if parsed is None:
        return _from_text(route, body or b"")
    if route.fits is not None and not route.fits(parsed):
        return None
    said = parsed.get("model") or parsed.get("modelUri")
    family, provider = _cohere_or_openai(route, parsed)
    extra: dict[str, Any] = {}
    for key, attribute in _REQUEST_ATTRIBUTES:
        value = parsed.get(key)
        if type(value) is int or type(value) is float:
            extra[attribute] = value
    choices = parsed.get("n")
    choices = choices if type(choices) is int and 1 < choices <= 1024 else 1
    if choices != 1:
        extra[semconv.REQUEST_CHOICE_COUNT] = choices
    conversation = parsed.get("conversation") if family == "responses" else None
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str) and conversation:
        extra[semconv.CONVERSATION_ID] = conversation[:256]
    stream = _streams(route, family, parsed=parsed)
    if stream:
        extra[semconv.REQUEST_STREAM] = True
    return Asked(
        family,
        route.operation,
        provider,
        (clean_id(said) if isinstance(said, str) else None) or route.model or "unknown",
        stream=stream,
        tools=any(parsed.get(key) for key in ("tools", "functions", "toolConfig")),
        choices=choices,
        extra=extra,
    )


def _cohere_or_openai(route: Route, body: dict[str, Any]) -> tuple[str, str]:
    """Family and provider; one path is shared by two families."""
    if route.family != COHERE_OR_OPENAI:
        return route.family, route.provider
    if "message" in body:
        return "cohere", route.provider
    return "openai", "openai" if route.provider == "cohere" else route.provider


def _streams(route: Route, family: str, *, parsed: dict[str, Any]) -> bool:
    if route.stream is not None:
        return route.stream
    said = parsed.get("stream")
    if said is None and family == "ollama":  # streams unless told not to
        return route.operation != "embeddings"
    if family == "yandex":
        options = parsed.get("completionOptions")
        return isinstance(options, dict) and options.get("stream") is True
    return said is True


def _parsed(body: bytes | None) -> dict[str, Any] | None:
    if body is None or body.lstrip()[:1] != b"{" or len(body) > BODY_LIMIT_BYTES:
        return None
    try:
        parsed = foreign_json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _from_text(route: Route, body: bytes) -> Asked | None:
    """The same from a body too long to parse, or not JSON at all."""
    named = {key: None for key in _MEMBERS if b'"%b"' % key.encode() in body}
    if route.fits is not None and not route.fits(named):
        return None
    family, provider = _cohere_or_openai(route, named)
    model = _MODEL.search(body)
    stream = route.stream if route.stream is not None else _STREAM.search(body) is not None
    return Asked(
        family,
        route.operation,
        provider,
        (clean_id(model[1].decode("utf-8", "replace")) if model else None) or route.model or "unknown",
        stream=stream,
        tools=_TOOLS.search(body) is not None or not body,
        extra={semconv.REQUEST_STREAM: True} if stream else {},
    )
