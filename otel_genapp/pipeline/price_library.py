"""The price tables of the library genai-prices, as it is installed: nothing is ever fetched.

A call is priced by its own provider's table only, and only where the table has a price for
everything the call used. Fees per web search and the like are no part of it: nobody counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from otel_genapp.pipeline.rates import Rates, TokenPrices

DISTRIBUTION = "genai-prices"

PROVIDERS = {
    "anthropic": "anthropic",
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare",
    "cohere": "cohere",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together_ai": "together",
    "voyage": "voyageai",
    "x_ai": "x-ai",
    "zai": "zai",
}
"""`gen_ai.provider.name` -> the library's id. Others are not priced by somebody else's table."""

_DEPLOYMENTS = frozenset({"azure.ai.inference", "azure.ai.openai"})
"""Where the model asked for is a name the user gave to a deployment."""

_OWN_CAPACITY = ("custom-model", "imported-model", "provisioned-model")
"""Bedrock resources that name a model and are billed by the hour."""

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
_APART = frozenset({
    "cache_audio_read_mtok",  # a call with audio and cached input is not priced at all
    "code_executions_kcount", "social_searches_kcount", "storage_searches_kcount", "web_searches_kcount",
})  # fmt: skip
"""Prices of what the tokens of a call do not depend on."""
_PER_THOUSAND_REQUESTS = "requests_kcount"

_ANY_DAY = date(1970, 1, 2)

_FREE = ":free"
"""End of the ids of models that cost nothing; other models without prices are of unknown price."""

Day = tuple[tuple[int, Rates | None], ...]
"""The rates of a UTC day, each with the nanosecond of the day they start at."""


class PriceLibrary:
    """The tables of an installed genai-prices."""

    def __init__(self, providers: Iterable[Any], version: str) -> None:
        self._providers = list(providers)
        self._by_id = {provider.id: provider for provider in self._providers}
        self.version = f"{DISTRIBUTION} {version}"

    @classmethod
    def open(cls) -> PriceLibrary | None:
        """The installed tables, or None without them. Heavy: a quarter of a second, 30 MB."""
        try:
            from genai_prices import __version__
            from genai_prices.data import providers
        except ImportError:
            return None
        return cls(providers, __version__)

    def day(self, provider: str, model: str, *, response_model: str | None, tier: str, day: int) -> Day:
        """The rates of a model on a day since the epoch (UTC); None stands for unpriced."""
        found = self._model(provider, model, response_model=response_model)
        if found is None:
            return ((0, None),)
        info, is_own = found
        begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        return tuple(
            (
                at_ns,
                self._rates(info, begin + timedelta(microseconds=at_ns // 1000), tier=tier, is_own=is_own),
            )
            for at_ns in _changes(info)
        )

    def _model(self, provider: str, model: str, *, response_model: str | None) -> tuple[Any, bool] | None:
        """The model's entry, and whether it is in the provider's own table."""
        table = self._by_id.get(PROVIDERS.get(provider, ""))
        if table is None:
            return None
        # The model that answered is the one billed: the one asked for may stand for several.
        named: tuple[str | None, ...] = (response_model, model)
        if provider in _DEPLOYMENTS and response_model is not None:
            named = (response_model,)
        borrowed = None
        for name in named:
            if name is None or (table.id == "aws" and any(part in name for part in _OWN_CAPACITY)):
                continue
            if table.id == "google":
                name = name.removeprefix("models/")  # noqa: PLW2901 - the same model, as its API lists it
            # The library's own look-up keeps every name it was ever asked for.
            info = table.find_model(name, all_providers=self._providers)
            if info is not None and any(info is own for own in table.models):
                return info, True
            borrowed = borrowed or (None if info is None else (info, False))
        return borrowed

    def _rates(self, info: Any, moment: datetime, *, tier: str, is_own: bool) -> Rates | None:
        context = None
        if tier:
            context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
            # A borrowed table says nothing of the lender's tiers.
            if not is_own or not any(
                variant.when == context and (variant.constraint is None or variant.constraint.active(moment))
                for variant in info.price_variants or ()
            ):
                return None
        prices = info.get_prices(moment, context)
        stated = {name: price for name, price in vars(prices).items() if price is not None}
        if not stated:
            free = TokenPrices(input=Decimal(0), output=Decimal(0))
            return Rates((free,), version=self.version) if info.id.endswith(_FREE) else None
        per_thousand = stated.pop(_PER_THOUSAND_REQUESTS, Decimal(0))
        if "input_mtok" not in stated or not stated.keys() <= _KINDS.keys() | _APART:
            return None  # also priced by something that records do not have: images, pages, seconds
        by_kind = {_KINDS[name]: price for name, price in stated.items() if name in _KINDS}
        starts = sorted({tier.start for price in by_kind.values() for tier in getattr(price, "tiers", ())})
        bands = [_band(by_kind, start) for start in (0, *(start for start in starts if start))]
        return Rates(bands, version=self.version, usd_per_request=per_thousand / 1000)


def _band(by_kind: Mapping[str, Any], start: int) -> TokenPrices:
    """The prices from this many input tokens on.

    What the tables do not name costs what it is part of, by their convention, and output nothing
    (embeddings). Audio and cache writes of an hour stay without a price: they never cost the same.
    """
    prices = {kind: _price_over(price, start) for kind, price in by_kind.items()}
    prices.setdefault("cache_read", prices["input"])
    prices.setdefault("cache_write", prices["input"])
    prices.setdefault("output", Decimal(0))
    return TokenPrices(**prices, over=start)


def _price_over(price: Any, start: int) -> Decimal:
    """The price per million for calls with more input tokens than `start`, up to the next start."""
    found: Decimal = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if tier.start <= start:
            found = tier.price
    return found


def _changes(info: Any) -> list[int]:
    """The nanoseconds of the day at which another price may begin to hold (off-peak prices)."""
    moments = {0}
    conditions = info.prices if isinstance(info.prices, list) else []
    for condition in (*conditions, *(info.price_variants or ())):
        for edge in ("start_time", "end_time"):
            time = getattr(condition.constraint, edge, None)
            if time is not None:
                utc = datetime.combine(_ANY_DAY, time, time.tzinfo or UTC).astimezone(UTC)
                whole_s = (utc.hour * 60 + utc.minute) * 60 + utc.second
                moments.add(whole_s * 10**9 + utc.microsecond * 1000)
    return sorted(moments)
