"""The facts of a finished span, read by the current names of the conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_genapp import semconv
from otel_genapp.context import user_id_of
from otel_genapp.hub import CallOutcome
from otel_genapp.pipeline.dialects.keys import FOREIGN, OPENAI_TIER
from otel_genapp.pipeline.dialects.kinds import FOREIGN_KINDS, operation_kind
from otel_genapp.pipeline.dialects.providers import provider_in
from otel_genapp.pipeline.dialects.translation import translated
from otel_genapp.pipeline.dialects.values import milliseconds_in, nano_usd_in, text_in, texts_in, tokens_in
from otel_genapp.records import TOKEN_LIMIT, Usage, whole_tokens

_FOREIGN = frozenset(FOREIGN | FOREIGN_KINDS)
_USAGE = (
    semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS, semconv.CACHE_READ_TOKENS,
    semconv.CACHE_WRITE_TOKENS, semconv.REASONING_TOKENS,
)  # fmt: skip
_PRICED_PARTS = (
    (semconv.AUDIO_INPUT_TOKENS, "audio_input"),
    (semconv.AUDIO_OUTPUT_TOKENS, "audio_output"),
    (semconv.CACHE_WRITE_1H_TOKENS, "cache_write_1h"),
)
_ASKED_FOR_TOOLS = frozenset(
    {"tool_calls", "tool_call", "tool_use", "tool-calls", "function_call", "TOOL_CALL", "TOOL_CALLS"}
)


@dataclass(slots=True)
class Facts:
    """What one finished span says of its LLM call; None and empty where it says nothing.

    Never changed once it is made; not frozen, which would triple what making one costs.
    """

    provider: str | None
    model: str | None
    operation: str | None
    usage: Usage
    invalid_numbers: int = 0
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    """As the provider sent them."""
    first_token_ms: float | None = None
    tool_calls: int = 0
    tool_names: tuple[str, ...] = ()
    cost_nano_usd: int | None = None
    status: str | None = None
    error_type: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None
    attempts: tuple[str, ...] = ()
    """Status of each HTTP attempt, in order."""
    service_tier: str | None = None
    priced_parts: tuple[tuple[str, int], ...] = ()
    """Tokens with a price of their own: `audio_input`, `audio_output`, `cache_write_1h`."""


def read(attributes: Mapping[str, Any]) -> Facts:
    """The facts of a finished LLM or agent span.

    The model is the one asked for; the one that answered only where no attribute names the former.
    `usage.input` includes what was read from and written to a cache.
    """
    invalid = 0
    foreign = _FOREIGN.intersection(attributes)
    if not foreign:
        kind = operation_kind(attributes.get(semconv.OPERATION))
        operation = None if kind is None else kind.operation
    else:
        attributes, invalid = translated(attributes, foreign)
        operation = None
    get = attributes.get
    usage, wrong = _usage(get)
    priced_parts, wrong_parts = _priced_parts(get)
    response_model = text_in(get(semconv.RESPONSE_MODEL))
    finish_reasons = _texts(get(semconv.FINISH_REASONS))
    tool_names = _texts(get(semconv.TOOL_NAMES))
    tool_calls = whole_tokens(get(semconv.TOOL_CALL_COUNT))
    if tool_calls is None:
        tool_calls = len(tool_names) or int(not _ASKED_FOR_TOOLS.isdisjoint(finish_reasons))
    return Facts(
        provider_in(get(semconv.PROVIDER)),
        text_in(get(semconv.REQUEST_MODEL)) or response_model,
        operation or text_in(get(semconv.OPERATION)),
        usage,
        invalid + wrong + wrong_parts,
        response_model,
        text_in(get(semconv.RESPONSE_ID)),
        finish_reasons,
        milliseconds_in(get(semconv.FIRST_CHUNK_S)),
        tool_calls,
        tool_names,
        nano_usd_in(get(semconv.COST_USD)),
        text_in(get(semconv.LLM_STATUS)),
        text_in(get(semconv.ERROR_TYPE)),
        text_in(get(semconv.SESSION_ID)) or text_in(get(semconv.CONVERSATION_ID)),
        user_id_of(text_in(get(semconv.USER_ID))),
        text_in(get(semconv.CORRELATION_ID)),
        _texts(get(semconv.ATTEMPTS)),
        text_in(get(semconv.SERVICE_TIER)) or text_in(get(OPENAI_TIER)),
        priced_parts,
    )


def told(
    outcome: CallOutcome, started: Mapping[str, Any], *, status: str | None, error_type: str | None
) -> Facts:
    """The same of a span whose maker tells `outcome` instead of having it read; `started` are its first attributes."""
    get = started.get
    tokens, cache_read, cache_write = (
        outcome.input_tokens, outcome.cache_read_tokens, outcome.cache_write_tokens,
    )  # fmt: skip
    if tokens is not None and (cache_read or cache_write):
        cached = (cache_read or 0) + (cache_write or 0)
        tokens = tokens + cached if cached > tokens else tokens
    tool_names = tuple(outcome.tool_names)
    parts: tuple[tuple[str, int], ...] = ()
    if outcome.audio_input_tokens:
        parts = (("audio_input", outcome.audio_input_tokens),)
    if outcome.audio_output_tokens:
        parts += (("audio_output", outcome.audio_output_tokens),)
    if outcome.cache_write_1h_tokens:
        parts += (("cache_write_1h", outcome.cache_write_1h_tokens),)
    return Facts(
        get(semconv.PROVIDER),
        get(semconv.REQUEST_MODEL),
        get(semconv.OPERATION),
        Usage(tokens, outcome.output_tokens, cache_read, cache_write, outcome.reasoning_tokens),
        0,
        outcome.response_model,
        outcome.response_id,
        outcome.finish_reasons,
        None if outcome.first_token_s is None else outcome.first_token_s * 1e3,
        len(tool_names) or int(not _ASKED_FOR_TOOLS.isdisjoint(outcome.finish_reasons)),
        tool_names,
        None if outcome.cost_usd is None else nano_usd_in(outcome.cost_usd),
        status,
        error_type,
        text_in(get(semconv.SESSION_ID)) or text_in(get(semconv.CONVERSATION_ID)),
        user_id_of(text_in(get(semconv.USER_ID))),
        text_in(get(semconv.CORRELATION_ID)),
        tuple(outcome.attempts),
        outcome.service_tier,
        parts,
    )


def _usage(get: Callable[[str], Any]) -> tuple[Usage, int]:
    counts = []
    invalid = 0
    for key in _USAGE:
        value = get(key)
        if value is not None and not (type(value) is int and 0 <= value <= TOKEN_LIMIT):
            value = tokens_in(value)
            invalid += value is None
        counts.append(value)
    tokens, _, cache_read, cache_write, _ = counts
    cached = (cache_read or 0) + (cache_write or 0)
    if tokens is not None and cached > tokens:
        # An instrumentation that reports the input without its cached part.
        counts[0] = tokens + cached
    return Usage(*counts), invalid


def _texts(value: object) -> tuple[str, ...]:
    return () if value is None else texts_in(value)


def _priced_parts(get: Callable[[str], Any]) -> tuple[tuple[tuple[str, int], ...], int]:
    parts: tuple[tuple[str, int], ...] = ()
    invalid = 0
    for key, name in _PRICED_PARTS:
        value = get(key)
        if value is not None:
            tokens = tokens_in(value)
            if tokens:
                parts += ((name, tokens),)
            invalid += tokens is None
    return parts, invalid
