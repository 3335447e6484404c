"""`otel-genapp prices check`: what tokens cost, by the price file and by genai-prices as installed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from otel_genapp.config import said_by_environment
from otel_genapp.pipeline.dialects.providers import provider_in
from otel_genapp.pipeline.price_file import PriceEntry
from otel_genapp.pipeline.price_library import DISTRIBUTION, PROVIDERS
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.pipeline.rates import KINDS, Rates, TokenPrices

_TIERS = ("", "flex", "priority", "fast", "batch")
"""The tiers asked for; the standard one is empty."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The rates of one model in one tier."""

    provider: str
    model: str
    tier: str
    since: date | None
    rates: Rates

    def as_dict(self, band: TokenPrices) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "service_tier": self.tier or "standard",
            "from": self.since.isoformat() if self.since is not None else None,
            "over_input_tokens": band.over,
            "usd_per_million": {kind: float(price) for kind, price in _told(band)},
            "usd_per_request": float(self.rates.usd_per_request),
            "table": self.rates.version,
        }

    def as_text(self, band: TokenPrices) -> str:
        prices = [f"{kind} {float(price):.12g}" for kind, price in _told(band)]
        if self.rates.usd_per_request:
            prices.append(f"a request {float(self.rates.usd_per_request):.12g}")
        since = f" from {self.since.isoformat()}" if self.since is not None else ""
        over = f" over {band.over} input tokens" if band.over else ""
        named = f"{self.provider} {self.model} {self.tier or 'standard'}{since}{over}"
        return f"{named}: {', '.join(prices)} ({self.rates.version})"


def add_command(commands: Any) -> None:
    """Add `prices` to the parser's commands."""
    parser = commands.add_parser(
        "prices", help="check price tables", description="Looks into the price tables."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="check the price file and show what models cost",
        description="Checks the price file and shows what models cost now, in US dollars a million tokens. "
        "Exit code 1 when a model named has no price, 2 when the file is wrong.",
    )
    check.add_argument("models", nargs="*", metavar="MODEL", help="a model; without any, all of the file")
    check.add_argument("--provider", help="gen_ai.provider.name; without it every provider is asked")
    check.add_argument("--file", help="the price file (default: GENAPP_PRICES)")
    check.add_argument("--json", action="store_true", help="print JSON instead of lines")
    check.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check and show; 0 if every model named has a price, 1 if not.

    Raises:
        ConfigError: the price file is wrong.
    """
    prices = Prices(given.file or said_by_environment("prices"))
    provider = None if given.provider is None else provider_in(given.provider) or given.provider
    rows = list(
        _named(prices, given.models, provider=provider) if given.models else _listed(prices, provider)
    )
    found = {row.model for row in rows}
    missing = [model for model in dict.fromkeys(given.models) if model not in found]
    for note in _notes(prices, missing):
        sys.stderr.write(f"otel-genapp: {note}\n")
    if given.json:
        shown = [row.as_dict(band) for row in rows for band in row.rates.bands]
        answer = {"tables": prices.tables(), "prices": shown, "unpriced": missing}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"tables: {', '.join(prices.tables()) or 'none'}\n")
        sys.stdout.writelines(f"{row.as_text(band)}\n" for row in rows for band in row.rates.bands)
    return 1 if missing else 0


def _told(band: TokenPrices) -> Iterator[tuple[str, Any]]:
    """(kind, US dollars a million) of the kinds that have a price."""
    for kind in KINDS:
        price = getattr(band, kind)
        if price is not None:
            yield kind, price


def _listed(prices: Prices, provider: str | None) -> Iterator[_Row]:
    """Every entry of the file, as it stands there."""
    for entry in _entries(prices):
        if provider is None or entry.provider == provider:
            yield _Row(entry.provider, entry.model, entry.tier, entry.since, entry.rates)


def _named(prices: Prices, models: list[str], *, provider: str | None) -> Iterator[_Row]:
    """What the models cost now, at the provider or at all that are known, in every tier with a price."""
    entries = _entries(prices)
    providers = [provider] if provider else sorted({*PROVIDERS, *(entry.provider for entry in entries)})
    tiers = tuple(dict.fromkeys((*_TIERS, *(entry.tier for entry in entries))))
    now_ns = time.time_ns()
    for model in dict.fromkeys(models):
        for each in providers:
            for tier in tiers:
                rates = prices.rates(each, model, tier=tier, at_ns=now_ns)
                if rates is not None:
                    yield _Row(each, model, tier, None, rates)


def _entries(prices: Prices) -> tuple[PriceEntry, ...]:
    return prices.file.entries if prices.file is not None else ()


def _notes(prices: Prices, missing: list[str]) -> Iterator[str]:
    if prices.file is None:
        yield "no price file: give --file or set GENAPP_PRICES"
    if not prices.has_library:
        yield f"{DISTRIBUTION} is not installed; run: pip install 'otel-genapp[cost]'"
    if prices.problem is not None:
        yield prices.problem
    for model in missing:
        yield f"{model} has no price"
