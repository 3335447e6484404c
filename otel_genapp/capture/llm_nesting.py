"""What nested LLM calls hand to the one around them, in the terms of opentelemetry-util-genai.

The outer call leaves a data object in the context; an inner one, of ours or of an instrumentation
that uses util-genai, makes no span and writes its numbers there. Tokens, cost and tools of several
inner calls add up; where the outer call says a number itself, the larger of the two counts, as a
sum it repeats and as a part it does not see.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from otel_genapp import semconv
from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.quiet import quiet

_guarded = quiet("capture")

INFERENCE_CONTEXT_KEY: Final = "opentelemetry.genai.client.inference.context"
"""opentelemetry-util-genai's `CLIENT_INFERENCE_CONTEXT_KEY`, a plain string by its protocol."""

EMBEDDING_CONTEXT_KEY: Final = "opentelemetry.genai.client.embedding.context"
"""The same of embeddings."""

# Field of util-genai's InferenceData -> field of LLMOutcome.
_COUNTS: Final = (
    ("usage_input_tokens", "input_tokens"),
    ("usage_output_tokens", "output_tokens"),
    ("usage_cache_read_input_tokens", "cache_read_tokens"),
    ("usage_cache_write_input_tokens", "cache_write_tokens"),
    ("usage_reasoning_output_tokens", "reasoning_tokens"),
)
_WORDS: Final = (
    ("response_model", "response_model"),
    ("response_id", "response_id"),
    ("response_time_to_first_chunk", "first_token_s"),
)
_PARTS: Final = (
    (semconv.CACHE_WRITE_1H_TOKENS, "cache_write_1h_tokens"),
    (semconv.AUDIO_INPUT_TOKENS, "audio_input_tokens"),
    (semconv.AUDIO_OUTPUT_TOKENS, "audio_output_tokens"),
)
_adding = threading.Lock()  # inner calls may run side by side


@dataclass(slots=True)
class _OwnInferenceData:
    """What nested calls of ours fill where util-genai, whose type it would be, is not installed."""

    usage_input_tokens: int | None = None
    usage_output_tokens: int | None = None
    usage_cache_read_input_tokens: int | None = None
    usage_cache_write_input_tokens: int | None = None
    usage_reasoning_output_tokens: int | None = None
    response_model: str | None = None
    response_id: str | None = None
    response_time_to_first_chunk: float | None = None
    response_finish_reasons: list[str] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def publish(outcome: LLMOutcome, data: Any) -> None:
    """Hand what an inner call knows to the outer one."""
    with _adding:
        for theirs, ours in _COUNTS:
            value = getattr(outcome, ours)
            if value is not None:
                setattr(data, theirs, (getattr(data, theirs, None) or 0) + value)
        for theirs, ours in _WORDS:
            value = getattr(outcome, ours)
            if value is not None:
                setattr(data, theirs, value)
        if outcome.finish_reasons:
            data.response_finish_reasons = list(outcome.finish_reasons)
        attributes = getattr(data, "attributes", None)
        if isinstance(attributes, dict):
            _publish_attributes(outcome, attributes)


def _publish_attributes(outcome: LLMOutcome, attributes: dict[str, Any]) -> None:
    """What has no field of its own in the outer call's data."""
    names = (*attributes.get(semconv.TOOL_NAMES, ()), *outcome.tool_names)
    if names:
        attributes[semconv.TOOL_NAMES] = names
        attributes[semconv.TOOL_CALL_COUNT] = len(names)
    if outcome.cost_usd is not None:
        attributes[semconv.COST_USD] = attributes.get(semconv.COST_USD, 0.0) + outcome.cost_usd
    if outcome.attempts:
        attributes[semconv.ATTEMPTS] = (*attributes.get(semconv.ATTEMPTS, ()), *outcome.attempts)
    for key, name in _PARTS:
        value = getattr(outcome, name)
        if value:
            attributes[key] = attributes.get(key, 0) + value
    if outcome.service_tier is not None:
        attributes[semconv.SERVICE_TIER] = outcome.service_tier
    for key, value in outcome.extra.items():
        attributes.setdefault(key, value)


def fill(outcome: LLMOutcome, data: Any) -> None:
    """Take what inner calls published into the outer one's outcome."""
    for theirs, ours in _COUNTS:
        setattr(outcome, ours, _larger(getattr(outcome, ours), getattr(data, theirs, None)))
    for theirs, ours in _WORDS:
        if getattr(outcome, ours) is None:
            setattr(outcome, ours, getattr(data, theirs, None))
    if not outcome.finish_reasons:
        outcome.finish_reasons = tuple(getattr(data, "response_finish_reasons", None) or ())
    attributes = getattr(data, "attributes", None) or {}
    names = attributes.get(semconv.TOOL_NAMES, ())
    if len(names) > len(outcome.tool_names):
        outcome.tool_names[:] = names
    outcome.cost_usd = _larger(outcome.cost_usd, attributes.get(semconv.COST_USD))
    outcome.attempts.extend(attributes.get(semconv.ATTEMPTS, ()))
    for key, name in _PARTS:
        setattr(outcome, name, _larger(getattr(outcome, name), attributes.get(key)))
    if outcome.service_tier is None:
        outcome.service_tier = attributes.get(semconv.SERVICE_TIER)
    for key, value in attributes.items():
        if key.startswith("http.response."):
            outcome.extra.setdefault(key, value)


@functools.cache
def inference_data() -> Callable[[], Any]:
    """util-genai's own type where it is installed: its nested calls look for exactly that."""
    if importlib.util.find_spec("opentelemetry.util.genai") is not None:
        with _guarded:
            from opentelemetry.util.genai.invocation import InferenceData

            return InferenceData
    return _OwnInferenceData


def _larger(own: Any, inner: Any) -> Any:
    return inner if own is None else own if inner is None else max(own, inner)
