"""The user's own price file: prices of models no table knows, contract prices, local models.

    currency = "RUB"          # of the whole file; USD unless said
    usd_per_unit = 0.0125     # what one unit of it is worth

    [[price]]
    provider = "gigachat"     # as in the label `provider`
    model = "GigaChat-2*"     # `*` stands for any text
    input_per_million = 1.2
    output_per_million = 3.4

A kind of token without a price of its own costs what the whole costs: cached tokens as input,
reasoning as output, cache writes of an hour as other cache writes.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from otel_genapp.errors import ConfigError
from otel_genapp.pipeline.dialects.providers import provider_in
from otel_genapp.pipeline.rates import Rates, TokenPrices, tier_of

SIZE_LIMIT = 1_000_000
_PRICE_LIMIT = Decimal(10**9)
_PLACES = 12
_EXACT = Context(prec=80)
"""Room for a price times a rate, to the last digit."""
_EPOCH = date(1970, 1, 1)
ANY_TIER = "*"

_PRICES = {
    "input_per_million": "input",
    "output_per_million": "output",
    "cache_read_per_million": "cache_read",
    "cache_write_per_million": "cache_write",
    "cache_write_1h_per_million": "cache_write_1h",
    "reasoning_per_million": "reasoning",
    "audio_input_per_million": "audio_input",
    "audio_output_per_million": "audio_output",
}
_KEYS = ("provider", "model", *_PRICES, "currency", "service_tier", "from")
_FILE_KEYS = ("currency", "usd_per_unit", "price")


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """One `[[price]]` of a file."""

    provider: str
    model: str
    tier: str
    """Of calls served so; empty: the standard tier, `*`: any."""
    since: date | None
    """The first UTC day it holds; None: always."""
    rates: Rates
    pattern: re.Pattern[str]

    def applies(self, *, tier: str, day: int) -> bool:
        """Whether it holds for a call of this tier on this day since the epoch (UTC)."""
        return self.tier in {tier, ANY_TIER} and (self.since is None or (self.since - _EPOCH).days <= day)


class PriceFile:
    """The entries of a file that was read and checked as a whole."""

    def __init__(self, entries: Sequence[PriceEntry], version: str) -> None:
        self.version = version
        """The file's name and the start of its content's SHA-256."""
        self.entries = tuple(entries)
        self._by_weight = sorted(entries, key=_weight, reverse=True)

    @classmethod
    def read(cls, path: str) -> PriceFile:
        """Read and check the file at `path`.

        Raises:
            ConfigError: it cannot be read or an entry cannot work; the message says where and what to write.
        """
        try:
            with Path(path).expanduser().open("rb") as file:
                content = file.read(SIZE_LIMIT + 1)
        except (OSError, RuntimeError, ValueError) as error:  # no such file, no such home, no name at all
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"prices: {path!r} cannot be read ({reason}); give the path of a TOML file, or none"
            ) from None
        if len(content) > SIZE_LIMIT:
            raise ConfigError(f"prices: {path!r} has over {SIZE_LIMIT} bytes; is it a price file?")
        try:
            table = tomllib.loads(content.decode("utf-8"), parse_float=Decimal)
        except RecursionError:
            raise ConfigError(f"prices: {path!r} is nested too deeply for a price file") from None
        except ValueError as error:  # TOML's and UTF-8's, and numbers of thousands of digits
            raise ConfigError(f"prices: {path!r} is not TOML in UTF-8: {str(error)[:200]}") from None
        version = f"{Path(path).name[:64]} sha256:{hashlib.sha256(content).hexdigest()[:8]}"
        return cls(_Reading(path, table, version=version).entries(), version)

    def rates(self, provider: str, models: Sequence[str], *, tier: str, day: int) -> Rates | None:
        """The rates for the first of `models` that an entry names; the most exact entry wins."""
        for model in models:
            for entry in self._by_weight:
                if (
                    entry.provider == provider
                    and entry.pattern.fullmatch(model)
                    and entry.applies(tier=tier, day=day)
                ):
                    return entry.rates
        return None


def _weight(entry: PriceEntry) -> tuple[bool, int, bool, date]:
    """Whole names before patterns, long patterns before short, a tier before any, late before early."""
    return "*" not in entry.model, len(entry.model), entry.tier != ANY_TIER, entry.since or date.min


class _Reading:
    """A file's content on its way to entries; what is wrong is told with file, entry and key."""

    def __init__(self, path: str, table: Mapping[str, Any], *, version: str) -> None:
        self._path = path
        self._table = table
        self._version = version
        self._where = f"prices: {path!r}"
        self._currency = "USD"
        self._usd_per_unit = Decimal(1)

    def entries(self) -> list[PriceEntry]:
        self._know(self._table, _FILE_KEYS)
        self._read_currency()
        listed = self._table.get("price")
        if not isinstance(listed, list) or not listed or not all(isinstance(row, dict) for row in listed):
            raise self._wrong(
                "has no [[price]] entry; write [[price]] with provider, model, input_per_million"
            )
        found: dict[tuple[Any, ...], PriceEntry] = {}
        for number, row in enumerate(listed, 1):
            named = f" ({row.get('provider')!s:.64} / {row.get('model')!s:.64})"
            self._where = f"prices: {self._path!r}, [[price]] {number}{named}"
            entry = self._entry(row)
            key = (entry.provider, entry.model.lower(), entry.tier, entry.since)
            if found.setdefault(key, entry) is not entry:
                raise self._wrong(
                    "says once more what an entry above says; remove one, or give them different from dates"
                )
        return list(found.values())

    def _entry(self, row: Mapping[str, Any]) -> PriceEntry:
        self._know(row, _KEYS)
        provider, model = self._text(row, "provider"), self._text(row, "model")
        currency = row.get("currency", self._currency)
        if currency not in ("USD", self._currency):
            raise self._wrong(
                f"currency is {currency!r:.64}, which cannot be added up with US dollars; write prices in USD, "
                f"or at the top of the file currency = {str(currency)[:16]!r} and usd_per_unit"
            )
        rate = Decimal(1) if currency == "USD" else self._usd_per_unit
        prices = {
            kind: _EXACT.multiply(self._number(row[key], key, most=_PRICE_LIMIT), rate)
            for key, kind in _PRICES.items()
            if key in row
        }
        if "input" not in prices:
            raise self._wrong("has no input_per_million; write 0 for a model that costs nothing")
        said_tier = self._text(row, "service_tier") if "service_tier" in row else ""
        pattern = re.compile(".*".join(map(re.escape, re.split(r"\*+", model))), re.IGNORECASE | re.DOTALL)
        return PriceEntry(
            provider=provider_in(provider) or provider,
            model=model,
            tier=tier_of(said_tier),
            since=self._date(row["from"]) if "from" in row else None,
            rates=Rates((_filled(prices),), version=self._version),
            pattern=pattern,
        )

    def _read_currency(self) -> None:
        currency = self._table.get("currency", "USD")
        if not isinstance(currency, str) or not currency.strip():
            raise self._wrong(f'currency must be text such as "USD", got {currency!r:.64}')
        if "usd_per_unit" in self._table:
            if currency == "USD":
                raise self._wrong(
                    'usd_per_unit is for another currency; add e.g. currency = "RUB", or remove it'
                )
            rate = self._number(self._table["usd_per_unit"], "usd_per_unit", most=Decimal(10**6))
            if not rate:
                raise self._wrong("usd_per_unit must be above 0: what one unit is worth in US dollars")
            self._usd_per_unit = rate
        elif currency != "USD":
            raise self._wrong(
                f"currency is {currency!r:.64} without a rate; add usd_per_unit = … (what one unit is worth in "
                "US dollars), or write prices in USD"
            )
        self._currency = currency

    def _number(self, value: object, key: str, *, most: Decimal) -> Decimal:
        number = value if isinstance(value, Decimal) else None
        if type(value) is int:
            number = Decimal(value)
        if number is None or not number.is_finite() or not 0 <= number <= most or _places(number) > _PLACES:
            raise self._wrong(
                f"{key} must be a number from 0 to {most} with at most {_PLACES} decimals, got {value!s:.64}"
            )
        return number

    def _text(self, row: Mapping[str, Any], key: str) -> str:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip() or len(value) > 256 or not value.isprintable():
            given = "nothing" if value is None else f"{value!r:.64}"
            raise self._wrong(f"{key} must be text of 1 to 256 characters, got {given}")
        return value.strip()

    def _date(self, value: object) -> date:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        if isinstance(value, str):
            try:
                return date.fromisoformat(value)
            except ValueError:
                pass
        raise self._wrong(f"from must be a day such as 2026-01-31, got {value!s:.64}")

    def _know(self, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                raise self._wrong(f"has an unknown key {key[:64]!r}; known are {', '.join(known)}")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._where}: {what}")


def _places(number: Decimal) -> int:
    """Digits after the point."""
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _filled(prices: Mapping[str, Decimal]) -> TokenPrices:
    """The prices with those of the whole where a part has none."""
    put_in, got_out = prices["input"], prices.get("output")
    written = prices.get("cache_write", put_in)
    return TokenPrices(
        input=put_in,
        output=got_out,
        cache_read=prices.get("cache_read", put_in),
        cache_write=written,
        cache_write_1h=prices.get("cache_write_1h", written),
        reasoning=prices.get("reasoning"),
        audio_input=prices.get("audio_input", put_in),
        audio_output=prices.get("audio_output"),
    )
