"""langfuse's JSON of usage and cost, in the terms of the conventions.

Its own buckets exclude each other: `input` is what neither `input_cached_tokens` nor any other
`input_…` counts. Its OpenAI integration hands on what the API said instead, where the input
includes the cached part and details are nested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from otel_genapp import semconv
from otel_genapp.pipeline.dialects.values import json_in, nano_usd_in, tokens_in

_CACHE_READ = (
    "input_cached_tokens", "input_cache_read", "input_cache_read_tokens", "cache_read_input_tokens",
)  # fmt: skip
_CACHE_WRITE = (
    "input_cache_creation", "input_cache_creation_5m", "input_cache_creation_1h",
    "input_cache_creation_tokens", "input_cache_write", "input_cache_write_tokens",
    "cache_creation_input_tokens",
)  # fmt: skip
_CACHE_WRITE_BY_AGE = ("input_ephemeral_5m_input_tokens", "input_ephemeral_1h_input_tokens")
_INCLUSIVE_INPUT = ("prompt_tokens", "input_tokens")
_INCLUSIVE_OUTPUT = ("completion_tokens", "output_tokens")
_COST_TOTAL = "total"


def usage_in(value: object) -> tuple[dict[str, int], int]:
    """Tokens by their current attribute names, and how many of the numbers were none."""
    if value is None:
        return {}, 0
    details = json_in(value)
    if not isinstance(details, Mapping):
        return {}, 1
    sides = _Side(details, "input"), _Side(details, "output")
    found = {
        semconv.INPUT_TOKENS: sides[0].total(_INCLUSIVE_INPUT),
        semconv.OUTPUT_TOKENS: sides[1].total(_INCLUSIVE_OUTPUT),
        semconv.CACHE_READ_TOKENS: sides[0].part(_CACHE_READ, nested=("cached_tokens",)),
        semconv.CACHE_WRITE_TOKENS: sides[0].part(
            _CACHE_WRITE_BY_AGE if _is_split(details) else _CACHE_WRITE,
            nested=("cache_write_tokens", "cache_creation_tokens"),
        ),
        semconv.REASONING_TOKENS: sides[1].part(
            ("output_reasoning_tokens", "output_reasoning"), nested=("reasoning_tokens",)
        ),
        semconv.AUDIO_INPUT_TOKENS: sides[0].part(
            ("input_audio_tokens", "input_audio"), nested=("audio_tokens",)
        ),
        semconv.AUDIO_OUTPUT_TOKENS: sides[1].part(
            ("output_audio_tokens", "output_audio"), nested=("audio_tokens",)
        ),
        semconv.CACHE_WRITE_1H_TOKENS: sides[0].part(
            ("input_cache_creation_1h", "input_ephemeral_1h_input_tokens")
        ),
    }
    known = {key: tokens for key, tokens in found.items() if tokens is not None}
    return known, sum(side.invalid for side in sides)


def cost_in(value: object) -> float | None:
    """US dollars: the total, else the sum of the parts; None unless all of them are prices."""
    costs = json_in(value)
    if not isinstance(costs, Mapping) or not costs:
        return None
    parts = [costs[_COST_TOTAL]] if _COST_TOTAL in costs else list(costs.values())
    return None if any(nano_usd_in(part) is None for part in parts) else float(sum(parts))


def _is_split(details: Mapping[Any, Any]) -> bool:
    """Whether what was written to the cache is told by its age only: langchain says 0 for the whole then."""
    return any(key in details for key in _CACHE_WRITE_BY_AGE) and not details.get(_CACHE_WRITE[0])


class _Side:
    """The numbers of the input or the output, each looked at once."""

    def __init__(self, details: Mapping[Any, Any], name: str) -> None:
        self.invalid = 0
        self._flat: dict[str, int | None] = {}
        self._nested: dict[str, int | None] = {}
        self._names_parts = False
        for key, value in _of_side(details, name):
            if isinstance(value, Mapping) and key.endswith("_details"):
                self._names_parts = True
                self._nested.update(self._numbers(value))
            else:
                self._flat.update(self._numbers({key: value}))

    def total(self, inclusive: tuple[str, ...]) -> int | None:
        """All tokens of this side, or None where one of the numbers they add up from is none."""
        for key in inclusive:
            if key in self._flat and (self._names_parts or key == inclusive[0]):
                return self._flat[key]
        return _sum(self._flat.values())

    def part(self, flat: tuple[str, ...], *, nested: tuple[str, ...] = ()) -> int | None:
        """The tokens under any of these names."""
        found = [self._flat[key] for key in flat if key in self._flat]
        return _sum(found or [self._nested[key] for key in nested if key in self._nested])

    def _numbers(self, values: Mapping[Any, Any]) -> Iterator[tuple[str, int | None]]:
        for key, value in values.items():
            if value is None or isinstance(value, Mapping):
                continue
            tokens = tokens_in(value)
            self.invalid += tokens is None
            yield key, tokens


def _of_side(details: Mapping[Any, Any], name: str) -> Iterator[tuple[str, Any]]:
    """The entries of `details` that count input or output tokens, by the words the APIs use."""
    words = ("input", "prompt", "cache_") if name == "input" else ("output", "completion", "candidates")
    return ((key, value) for key, value in details.items() if isinstance(key, str) and key.startswith(words))


def _sum(counts: Collection[int | None]) -> int | None:
    known = [tokens for tokens in counts if tokens is not None]
    return sum(known) if known and len(known) == len(counts) else None
