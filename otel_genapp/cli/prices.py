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

from otel_genapp.config import price_file_path
from otel_genapp.pipeline.dialects.providers import provider_in
from otel_genapp.pipeline.price_file import PriceEntry, PriceFile
from otel_genapp.pipeline.price_library import PROVIDERS
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.pipeline.tariff import KINDS, Step, Tariff

_TIERS = ("", "flex", "priority", "fast", "batch")
"""The tiers asked for; the standard one is empty."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One tariff to show."""

    provider: str
    model: str
    tier: str
    starts: date
    tariff: Tariff
    version: str

    def as_dict(self, step: Step) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "service_tier": self.tier or "standard",
            "from": None if self.starts == date.min else self.starts.isoformat(),
            "above_input_tokens": step.above,
            "usd_per_million": {kind: float(price) for kind, price in step.usd_per_million.items()},
            "table": self.version,
        }

    def as_text(self, step: Step) -> str:
        prices = ", ".join(
            f"{kind} {float(step.usd_per_million[kind]):.12g}"
            for kind in KINDS
            if kind in step.usd_per_million
        )
        starts = "" if self.starts == date.min else f" from {self.starts.isoformat()}"
        above = f" above {step.above} input tokens" if step.above else ""
        named = f"{self.provider} {self.model} {self.tier or 'standard'}{starts}{above}"
        return f"{named}: {prices} ({self.version})"


def add_command(commands: Any) -> None:
    """Add `prices` to the parser's commands."""
    parser = commands.add_parser(
        "prices", help="check price tables", description="Looks into the price tables."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="check the price file and show what models cost",
        description="Checks the price file and shows what models cost today, in US dollars a million "
        "tokens. Exit code 1 when a model has no price, 2 when the file is wrong.",
    )
    check.add_argument("models", nargs="*", metavar="MODEL", help="a model; without any, the whole file")
    check.add_argument("--provider", help="gen_ai.provider.name; without it every provider is asked")
    check.add_argument("--file", help="the price file (default: GENAPP_PRICES)")
    check.add_argument("--json", action="store_true", help="print JSON instead of lines")
    check.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check and show; 0 if every model named has a price, 1 if not.

    Raises:
        ConfigError: the price file is wrong.
    """
    path = given.file or price_file_path()
    prices = Prices(PriceFile(path) if path else None)
    provider = None if given.provider is None else provider_in(given.provider) or given.provider
    rows = list(
        _named(prices, given.models, provider=provider) if given.models else _listed(prices, provider)
    )
    missing = [model for model in given.models if not any(row.model == model for row in rows)]
    for note in _notes(prices, missing):
        sys.stderr.write(f"otel-genapp: {note}\n")
    if given.json:
        shown = [row.as_dict(step) for row in rows for step in row.tariff.steps]
        answer = {"tables": prices.tables, "prices": shown, "unpriced": missing}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"tables: {', '.join(prices.tables) or 'none'}\n")
        sys.stdout.writelines(f"{row.as_text(step)}\n" for row in rows for step in row.tariff.steps)
    return 1 if missing else 0


def _listed(prices: Prices, provider: str | None) -> Iterator[_Row]:
    """Every entry of the file, in the order they are looked at."""
    for entry in _entries(prices):
        if provider is None or entry.provider == provider:
            version = prices.file.version if prices.file is not None else ""
            yield _Row(entry.provider, entry.model, entry.tier, entry.starts, entry.tariff, version)


def _named(prices: Prices, models: list[str], *, provider: str | None) -> Iterator[_Row]:
    """What the models cost now, at the provider or at all that are known, in every tier with a price."""
    entries = _entries(prices)
    providers = [provider] if provider else sorted({*PROVIDERS, *(entry.provider for entry in entries)})
    tiers = list(dict.fromkeys((*_TIERS, *(entry.tier for entry in entries))))
    now_ns = time.time_ns()
    for model in dict.fromkeys(models):
        for each in providers:
            for tier in tiers:
                found = prices.tariff((each, model, None, tier), now_ns)
                if found is not None:
                    yield _Row(each, model, tier, date.min, found.tariff, found.version)


def _entries(prices: Prices) -> tuple[PriceEntry, ...]:
    return prices.file.entries if prices.file is not None else ()


def _notes(prices: Prices, missing: list[str]) -> Iterator[str]:
    if prices.file is None:
        yield "no price file: give --file or set GENAPP_PRICES"
    if not prices.library.version:
        yield "genai-prices is not installed; run: pip install 'otel-genapp[cost]'"
    if prices.library.problem is not None:
        yield prices.library.problem
    for model in missing:
        yield f"{model} has no price"
