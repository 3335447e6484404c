"""What an instrumentation's span says about an LLM call, whatever words it uses.

One table: for each fact the attributes that may carry it, the first valid one wins. Sources: the
OpenTelemetry GenAI conventions (current names first, then the names they replaced).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from otel_genapp import semconv
from otel_genapp.context import clean_id
from otel_genapp.records import Usage, whole_tokens

SpanClass = Literal["llm", "agent"]

_LLM_OPERATIONS = frozenset({
    "chat", "generate_content", "text_completion", "embeddings", "completion", "embedding",
})  # fmt: skip
_AGENT_OPERATIONS = frozenset({"invoke_agent", "invoke_workflow", "create_agent"})

_MODEL = (semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL)
_PROVIDER = (semconv.PROVIDER, "gen_ai.system")
_TOKENS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("input", (semconv.INPUT_TOKENS, "gen_ai.usage.prompt_tokens")),
    ("output", (semconv.OUTPUT_TOKENS, "gen_ai.usage.completion_tokens")),
    ("cache_read", (semconv.CACHE_READ_TOKENS, "gen_ai.usage.cache_read_input_tokens")),
    (
        "cache_write",
        (
            semconv.CACHE_WRITE_TOKENS,
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ),
    ),
    ("reasoning", (semconv.REASONING_TOKENS, "gen_ai.usage.reasoning_tokens")),
)
_PROVIDER_ALIASES = {
    "az.ai.openai": "azure.ai.openai", "azure": "azure.ai.openai", "az.ai.inference": "azure.ai.inference",
    "vertex_ai": "gcp.vertex_ai", "vertexai": "gcp.vertex_ai", "gemini": "gcp.gemini",
    "google": "gcp.gemini", "google_genai": "gcp.gen_ai", "xai": "x_ai", "bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock", "mistralai": "mistral_ai", "mistral": "mistral_ai",
    "watsonx": "ibm.watsonx.ai", "together": "together_ai",
}  # fmt: skip

_SCOPES = (
    "opentelemetry.instrumentation.genai", "opentelemetry.util.genai", "com.anthropic.sdk.python",
    "opentelemetry.instrumentation.openai", "opentelemetry.instrumentation.anthropic",
    "opentelemetry.instrumentation.langchain",
)  # fmt: skip
"""Instrumentation scopes that may name the kind of a span after its start."""

_DOLLAR_LIMIT = 1e6
_SECONDS_LIMIT = 1e9
_TEXTS_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Facts:
    """What one finished span says of its LLM call; None and empty where it says nothing."""

    provider: str | None
    model: str | None
    operation: str | None
    usage: Usage
    invalid_numbers: int = 0
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    first_token_ms: float | None = None
    tool_calls: int = 0
    tool_names: tuple[str, ...] = ()
    cost_nano_usd: int | None = None
    status: str | None = None
    error_type: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None


def is_dialect_scope(scope: str) -> bool:
    """Whether spans of this instrumentation scope are kept from sampling until they end."""
    return scope.startswith(_SCOPES)


def classify(attributes: Mapping[str, Any]) -> SpanClass | None:
    """`llm` for a call to a model, `agent` for a span that may sum calls up, None for others."""
    operation = attributes.get(semconv.OPERATION)
    if isinstance(operation, str):
        if operation in _LLM_OPERATIONS:
            return "llm"
        return "agent" if operation in _AGENT_OPERATIONS else None
    if any(key in attributes for key in _MODEL) and any(
        key in attributes for _, keys in _TOKENS for key in keys
    ):
        return "llm"
    return None


def read(attributes: Mapping[str, Any]) -> Facts:
    """The facts of a finished LLM or agent span."""
    usage, invalid = _usage(attributes)
    tool_names = _texts(attributes.get(semconv.TOOL_NAMES))
    finish_reasons = _texts(attributes.get(semconv.FINISH_REASONS))
    tool_calls = whole_tokens(attributes.get(semconv.TOOL_CALL_COUNT))
    if tool_calls is None:
        asked = {"tool_calls", "tool_call", "tool_use", "function_call"}
        tool_calls = len(tool_names) or int(any(reason in asked for reason in finish_reasons))
    first_chunk_s = attributes.get(semconv.FIRST_CHUNK_S)
    provider = _text(attributes, *_PROVIDER)
    return Facts(
        provider=_PROVIDER_ALIASES.get(provider.lower(), provider) if provider else None,
        model=_text(attributes, *_MODEL),
        operation=_text(attributes, semconv.OPERATION),
        usage=usage,
        invalid_numbers=invalid,
        response_model=_text(attributes, semconv.RESPONSE_MODEL),
        response_id=_text(attributes, semconv.RESPONSE_ID),
        finish_reasons=finish_reasons,
        first_token_ms=_milliseconds(first_chunk_s),
        tool_calls=tool_calls,
        tool_names=tool_names,
        cost_nano_usd=_nano_usd(attributes.get(semconv.COST_USD)),
        status=_text(attributes, semconv.LLM_STATUS),
        error_type=_text(attributes, semconv.ERROR_TYPE),
        session_id=_text(attributes, semconv.SESSION_ID, semconv.CONVERSATION_ID),
        user_id=_text(attributes, semconv.USER_ID),
        correlation_id=_text(attributes, semconv.CORRELATION_ID),
    )


def _usage(attributes: Mapping[str, Any]) -> tuple[Usage, int]:
    found: dict[str, int | None] = {}
    invalid = 0
    for name, keys in _TOKENS:
        found[name] = None
        for key in keys:
            value = attributes.get(key)
            if value is None:
                continue
            tokens = whole_tokens(value)
            if tokens is not None:
                found[name] = tokens
                break
            invalid += 1
    cached = (found["cache_read"] or 0) + (found["cache_write"] or 0)
    if found["input"] is not None and cached > found["input"]:
        # An instrumentation that reports the input without its cached part.
        found["input"] += cached
    return Usage(**found), invalid


def _milliseconds(seconds: object) -> float | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return seconds * 1e3 if 0 <= seconds <= _SECONDS_LIMIT else None


def _nano_usd(dollars: object) -> int | None:
    if isinstance(dollars, bool) or not isinstance(dollars, int | float):
        return None
    return round(dollars * 1e9) if 0 <= dollars <= _DOLLAR_LIMIT else None


def _text(attributes: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value:
            return clean_id(value)
    return None


def _texts(value: object) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Sequence):
        return ()
    texts = (clean_id(item) for item in islice(items, _TEXTS_LIMIT) if isinstance(item, str))
    return tuple(text for text in texts if text is not None)
