"""What a model's tokens cost: exact arithmetic in whole nano-dollars, no tables and no I/O.

A count that contains another (`input` the cached tokens, `output` the reasoning) is charged for
the rest only, and every token once. What cannot be told is None: null rather than wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from otel_genapp.records import Usage

KINDS = (
    "input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "audio_input", "audio_output",
)  # fmt: skip
"""Kinds of tokens that may have a price of their own."""

_NANO_PER_TOKEN = 1000
"""Nano-dollars a token at one dollar a million tokens."""


@dataclass(frozen=True, slots=True)
class Step:
    """US dollars a million tokens, by kind; holds for calls with more than `above` input tokens."""

    above: int
    usd_per_million: Mapping[str, Fraction]


class Tariff:
    """The prices of one model, one service tier and one time.

    `steps` begin with that of 0 input tokens and rise; the last one below a call's input holds for
    all of its tokens. The kind `input` must have a price. `cache_read`, `cache_write` and
    `reasoning` cost what they are part of where they have none of their own, `output` is free where
    it has none; a call with tokens of another kind without a price has no price.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        prices = [price for step in steps for price in step.usd_per_million.values()]
        self._is_free = not any(prices)
        self._knows_output = all("output" in step.usd_per_million for step in steps)
        self._charges_output = any(step.usd_per_million.get("output") for step in steps)
        self._has_reasoning = any("reasoning" in step.usd_per_million for step in steps)
        self._unit = math.lcm(*((price * _NANO_PER_TOKEN).denominator for price in prices))
        """Parts of a nano-dollar in which every price is a whole number."""
        self._rates = tuple((step.above, self._in_units(step.usd_per_million)) for step in steps)

    @property
    def is_linear(self) -> bool:
        """Whether a token costs the same however many there are."""
        return len(self.steps) == 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tariff) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self._rates)

    def cost_nano_usd(
        self, usage: Usage, parts: tuple[tuple[str, int], ...] = (), *, calls: int = 1
    ) -> int | None:
        """The cost of a call with this usage, to the nearest nano-dollar, ties to even.

        `parts` are tokens that `usage` does not tell apart (`LLMCall.priced_parts`). `calls` is how
        many were summed up in `usage`: each would have its own step.
        """
        if self._is_free:
            return 0
        counts = self._counts(usage, parts)
        if counts is None or usage.input is None:
            return None
        steps = iter(self._rates)
        _, rates = next(steps)
        for above, of_step in steps:
            if usage.input > above:
                if calls > 1:
                    return None
                rates = of_step
        total = 0
        for count, rate in zip(counts, rates, strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
        return _nearest(total, self._unit)

    def _counts(self, usage: Usage, parts: tuple[tuple[str, int], ...]) -> tuple[int, ...] | None:
        """Tokens of each of KINDS with none in two; None where they are unknown or contradict each other."""
        output = usage.output
        if output is None:
            if self._charges_output:
                return None
            output = 0
        read, write = usage.cache_read or 0, usage.cache_write or 0
        kept_an_hour = heard = spoken = 0
        for part, tokens in parts:
            if part == "cache_write_1h":
                kept_an_hour += tokens
            elif part == "audio_input":
                heard += tokens
            elif part == "audio_output":
                spoken += tokens
            else:
                return None
        thought = 0
        if self._has_reasoning and output:
            if usage.reasoning is None:
                return None
            thought = usage.reasoning
        if (heard and (read or write)) or (thought and spoken):
            return None  # nobody says how much of the one is the other
        counts = (
            (usage.input or 0) - read - write - heard,
            output - thought - spoken,
            read,
            write - kept_an_hour,
            kept_an_hour,
            thought,
            heard,
            spoken,
        )
        return counts if min(counts) >= 0 else None

    def _in_units(self, prices: Mapping[str, Fraction]) -> tuple[int | None, ...]:
        """Units a token of each of KINDS; None for what has no price."""
        whole = {kind: int(price * _NANO_PER_TOKEN * self._unit) for kind, price in prices.items()}
        for part, of in (("cache_read", "input"), ("cache_write", "input"), ("reasoning", "output")):
            if of in whole:
                whole.setdefault(part, whole[of])
        return tuple(whole.get(kind) for kind in KINDS)


def _nearest(total: int, unit: int) -> int:
    whole, rest = divmod(total, unit)
    return whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1))
