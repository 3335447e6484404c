"""What an LLM call costs: the user's own price file first, then the tables of genai-prices.

A price is exact or there is none: unknown models, usages, tiers and parts without a price of
their own leave the cost unknown. It is worked out by the pipeline's thread, never the host's.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from importlib import metadata

from otel_genapp.pipeline.price_file import PriceFile
from otel_genapp.pipeline.price_library import DISTRIBUTION, Day, PriceLibrary
from otel_genapp.pipeline.rates import Rates, tier_of
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMAmendment, LLMCall, UsageRecord

DAYS_KEPT = 4096
"""Resolved prices kept, one for each model, tier and day."""
CALLS_KEPT = 10_000
"""Calls remembered whose amendments have no price of their own."""
_DAY_NS = 86_400 * 10**9

_guarded = quiet("pipeline")


class Prices:
    """The price tables of one telemetry. Used by one thread at a time, the one that folds.

    Raises:
        ConfigError: the price file cannot be read or has an entry that cannot work.
    """

    def __init__(self, path: str = "") -> None:
        self.file = PriceFile.read(path) if path else None
        self._library: PriceLibrary | None = None
        self._library_asked = False
        self._days: dict[tuple[str, str, str | None, str | None, int], Day] = {}
        self._unlike: dict[str, None] = {}

    def prepare(self) -> None:
        """Load the library now, on the thread that starts telemetry: a quarter of a second, where it is installed.

        It imports httpx2. Done by a thread of ours later, that could meet the application's own
        imports, or a fork, whose child would wait for the import for ever.
        """
        with _guarded:
            self._opened()

    def priced(self, record: UsageRecord) -> UsageRecord:
        """The record with `cost_nano_usd` and `price_version`, or as it is where there is no price."""
        with _guarded:
            return self._priced(record)
        return record

    def rates(
        self,
        provider: str,
        model: str,
        *,
        response_model: str | None = None,
        tier: str | None = None,
        at_ns: int,
    ) -> Rates | None:
        """The rates for a call made at `at_ns` (UTC nanoseconds) and served as `tier`, if there are any."""
        day, moment_ns = divmod(at_ns, _DAY_NS)
        key = (provider, model, response_model, tier, day)
        found = self._days.get(key)
        if found is None:
            if len(self._days) >= DAYS_KEPT:
                self._days.clear()  # they are found again in less time than it takes to age them out one by one
            found = self._days[key] = self._day(
                provider, model, response_model=response_model, tier=tier_of(tier), day=day
            )
        rates = None
        for start_ns, candidate in found:
            if start_ns > moment_ns:
                break
            rates = candidate
        return rates

    def tables(self) -> list[str]:
        """The tables in use with their versions; the first that knows a call prices it."""
        found = [self.file.version] if self.file is not None else []
        version = self._library_version()
        return found if version is None else [*found, version]

    @property
    def has_library(self) -> bool:
        """Whether the tables of genai-prices are there, loaded or not."""
        return self._library_version() is not None

    @property
    def problem(self) -> str | None:
        """Why calls have no price, where no table is in use at all."""
        if self.tables():
            return None
        return "calls are not priced: pip install 'otel-genapp[cost]', or name a file in prices"

    def _priced(self, record: UsageRecord) -> UsageRecord:
        if record.cost_nano_usd is not None:
            self._set_apart(record)
            return record
        if isinstance(record, LLMAmendment):
            if record.call_id in self._unlike:
                return record
            rates = self.rates(record.provider, record.model, at_ns=record.at_ns)
            cost = None if rates is None else rates.added_cost(record.usage)
        else:
            if record.priced_parts or tier_of(record.service_tier):
                self._set_apart(record)
            rates = self.rates(
                record.provider,
                record.model,
                response_model=record.response_model,
                tier=record.service_tier,
                at_ns=record.started_at_ns,
            )
            cost = None if rates is None else rates.cost(record.usage, record.priced_parts)
        if rates is None or cost is None:
            return record
        return dataclasses.replace(record, cost_nano_usd=cost, price_version=rates.version)

    def _set_apart(self, record: UsageRecord) -> None:
        """Remember a call whose further tokens a plain price would not fit, or are paid already."""
        if isinstance(record, LLMCall):
            self._unlike[record.call_id] = None
            if len(self._unlike) > CALLS_KEPT:
                del self._unlike[next(iter(self._unlike))]

    def _day(self, provider: str, model: str, *, response_model: str | None, tier: str, day: int) -> Day:
        if self.file is not None:
            models = (model,) if response_model is None else (model, response_model)
            own = self.file.rates(provider, models, tier=tier, day=day)
            if own is not None:
                return ((0, own),)
        library = self._opened()
        if library is None:
            return ((0, None),)
        return library.day(provider, model, response_model=response_model, tier=tier, day=day)

    def _library_version(self) -> str | None:
        if self._library_asked:
            return self._library.version if self._library is not None else None
        with suppress(metadata.PackageNotFoundError):
            return f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}"
        return None

    def _opened(self) -> PriceLibrary | None:
        if not self._library_asked:
            # Before the import: a child forked in the middle of it must not wait for it for ever.
            self._library_asked = True
            self._library = PriceLibrary.open()
        return self._library
