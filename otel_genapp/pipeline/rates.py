"""What tokens cost: prices per million as exact integers, and the cost of a usage in nano-dollars."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction

from otel_genapp.records import Usage

NANO_PER_TOKEN = 1000
"""Nano-dollars a token costs at one US dollar per million."""

Parts = tuple[tuple[str, int], ...]
"""Tokens with a price of their own, as in `LLMCall.priced_parts`."""


_STANDARD_TIERS = frozenset({"", "default", "on_demand", "standard"})


def tier_of(said: str | None) -> str:
    """The service tier as price tables name it; empty for the standard one, or where nobody said any."""
    if said is None:
        return ""
    tier = said.strip().lower()
    return "" if tier in _STANDARD_TIERS else tier


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """US dollars per million tokens of each kind, from `over` input tokens on.

    None for `reasoning`: as any output. None elsewhere: the table has no price for the kind.
    """

    input: Decimal
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    over: int = 0
    """These prices hold for calls with more input tokens than this."""


KINDS = tuple(field.name for field in fields(TokenPrices) if field.name != "over")


@dataclass(frozen=True, slots=True)
class _Band:
    """`TokenPrices` as whole numbers of `1 / Rates._scale` nano-dollars per token."""

    input: int
    output: int | None
    cache_read: int | None
    cache_write: int | None
    cache_write_1h: int | None
    reasoning: int | None
    audio_input: int | None
    audio_output: int | None


class Rates:
    """The prices of one model at one time in one service tier, and the table they are from.

    `bands` begins with the prices from 0 input tokens on; a call's whole input decides which of
    them hold for all of its tokens, as providers with long-context prices have it.
    """

    def __init__(
        self, bands: Sequence[TokenPrices], *, version: str, usd_per_request: Decimal = Decimal(0)
    ) -> None:
        self.bands = tuple(bands)
        self.version = version
        self.usd_per_request = usd_per_request
        fee = Fraction(usd_per_request) * 10**9
        exact = [[_per_token(getattr(band, kind)) for kind in KINDS] for band in self.bands]
        rates = [rate for band in exact for rate in band if rate is not None]
        self._scale = math.lcm(fee.denominator, *(rate.denominator for rate in rates))
        self._fee = int(fee * self._scale)
        self._bands = tuple(
            _Band(int(put_in * self._scale), *(_scaled(rate, self._scale) for rate in others))
            for put_in, *others in exact
            if put_in is not None
        )
        self._starts = tuple(band.over for band in self.bands[1:])
        self._free = not any(rates) and not fee

    def cost(self, usage: Usage, parts: Parts = ()) -> int | None:
        """Nano-dollars of a call, half to even; None where a number or a price is missing."""
        if self._free:
            return 0
        tokens = usage.input
        if tokens is None:
            return None
        band = self._bands[bisect_left(self._starts, tokens)]
        put_in = _input_cost(band, usage, parts=parts)
        if put_in is None:
            return None
        got_out = _output_cost(band, usage, parts=parts)
        return None if got_out is None else self._whole(put_in + got_out + self._fee)

    def added_cost(self, usage: Usage) -> int | None:
        """Nano-dollars that further tokens of a call add to it; None where that is not linear.

        `usage` is a residual: what is missing adds nothing. None too where it takes something
        back, since what was counted stays counted.
        """
        band = self._bands[0]
        if not usage.has_tokens or self._starts or band.audio_output is not None:
            return None
        total = 0
        for tokens, rate, whole in (
            (usage.input, band.input, 0),
            (usage.cache_read, band.cache_read, band.input),
            (usage.cache_write, band.cache_write, band.input),
            (usage.output, band.output, 0),
            (usage.reasoning, band.output if band.reasoning is None else band.reasoning, band.output or 0),
        ):
            if tokens:
                if rate is None:
                    return None
                total += tokens * (rate - whole)
        return self._whole(total) if total >= 0 else None

    def _whole(self, scaled: int) -> int:
        whole, rest = divmod(scaled, self._scale)
        return whole + (2 * rest > self._scale or (2 * rest == self._scale and whole % 2))


def _per_token(price: Decimal | None) -> Fraction | None:
    return None if price is None else Fraction(price) * NANO_PER_TOKEN


def _scaled(rate: Fraction | None, scale: int) -> int | None:
    return None if rate is None else int(rate * scale)


def _input_cost(band: _Band, usage: Usage, *, parts: Parts) -> int | None:
    """Cost of the input, of which the cached, the written and the heard tokens are parts."""
    tokens, read, write = usage.input or 0, usage.cache_read or 0, usage.cache_write or 0
    kept_an_hour = heard = 0
    for name, number in parts:
        if name == "cache_write_1h":
            kept_an_hour = number
        elif name == "audio_input":
            heard = number
    plain = tokens - read - write - heard
    # Nobody says how much of what was heard came from the cache.
    if plain < 0 or kept_an_hour > write or (heard and (read or write)):
        return None
    total = plain * band.input
    if not (read or write or heard):
        return total
    for number, rate in (
        (read, band.cache_read),
        (write - kept_an_hour, band.cache_write),
        (kept_an_hour, band.cache_write_1h),
        (heard, band.audio_input),
    ):
        if number:
            if rate is None:
                return None
            total += number * rate
    return total


def _output_cost(band: _Band, usage: Usage, *, parts: Parts) -> int | None:
    """Cost of the output, of which the reasoning and the spoken tokens are parts."""
    tokens = usage.output
    if tokens is None:
        return None if band.output else 0
    if not tokens:
        return 0
    if band.output is None:
        return None
    total = tokens * band.output
    if band.reasoning is not None:
        reasoning = usage.reasoning
        if reasoning is None or reasoning > tokens:
            return None
        total += reasoning * (band.reasoning - band.output)
    spoken = 0
    for name, number in parts:
        if name == "audio_output":
            spoken = number
    if spoken:
        if band.audio_output is None or spoken > tokens:
            return None
        total += spoken * (band.audio_output - band.output)
    elif band.audio_output is not None and not any(name == "audio_input" for name, _ in parts):
        return None  # a model that speaks, and nobody says how much of the output was speech
    return total
