"""The tables of genai-prices: their arithmetic, and when and where they are loaded."""

from __future__ import annotations

import random
import sys
import threading
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

import genai_prices
import pytest
from genai_prices.data import providers as tables
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

from otel_genapp import llm_call
from otel_genapp.pipeline.price_library import PROVIDERS, PriceLibrary
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.records import Usage, UsageRecord
from otel_genapp.testing import capture_telemetry
from tests.builders import call


def at(day: str) -> int:
    """UTC nanoseconds of an ISO time."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


def usage_of(seed: random.Random) -> tuple[Usage, tuple[tuple[str, int], ...], dict[str, int]]:
    """A random usage as ours and as the library's."""
    size = seed.choice((10, 5000, 1_500_000))
    read, write, heard = (seed.choice((0, 0, 0, seed.randrange(size))) for _ in range(3))
    hour = seed.choice((0, 0, seed.randint(0, write)))
    spoken, reasoning, rest = (seed.randrange(size) for _ in range(3))
    spoken = seed.choice((0, 0, 0, spoken))
    total_in, total_out = read + write + heard + seed.randrange(size), spoken + reasoning + rest
    parts = (("cache_write_1h", hour), ("audio_input", heard), ("audio_output", spoken))
    theirs = {
        "input_tokens": total_in, "output_tokens": total_out, "cache_read_tokens": read,
        "cache_write_tokens": write, "cache_write_1h_tokens": hour, "input_audio_tokens": heard,
        "output_audio_tokens": spoken, "output_reasoning_tokens": reasoning,
    }  # fmt: skip
    usage = Usage(total_in, total_out, read or None, write or None, reasoning)
    return usage, tuple((name, tokens) for name, tokens in parts if tokens), theirs


CONTEXTS = {
    None: None, "default": {"service_tier": "default"}, "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"}, "batch": {"processing": "batch"},
}  # fmt: skip


def test_the_arithmetic_is_the_librarys() -> None:
    """Over random usages of every model of every table, tier and day, the sums are the library's own."""
    seed = random.Random(7)  # noqa: S311 - repeatable on purpose
    prices = Prices()
    by_id = {table.id: table for table in tables}
    compared, tiered = 0, 0
    for provider, table_id in sorted(PROVIDERS.items()):
        for model in [model.id for model in by_id[table_id].models] * 6:
            usage, parts, theirs = usage_of(seed)
            tier = seed.choice((None, None, None, *CONTEXTS))
            moment_ns = at(
                seed.choice(("2024-12-31", "2025-08-01T03:10", "2026-06-01T17:00", "2026-11-20T05:00"))
            )
            asked = call(
                provider=provider, model=model, usage=usage, priced_parts=parts, service_tier=tier,
                started_at_ns=moment_ns,
            )  # fmt: skip
            ours = prices.priced(asked).cost_nano_usd
            if ours is None:
                continue
            expected = genai_prices.calc_price(
                genai_prices.Usage(**theirs),
                model,
                provider_id=table_id,
                genai_request_timestamp=datetime.fromtimestamp(moment_ns // 10**9, tz=UTC),
                price_context=CONTEXTS[tier],
            ).total_price
            nano = int((expected * Decimal(10**9)).to_integral_value(ROUND_HALF_EVEN))
            assert (asked, ours) == (asked, nano)
            compared += 1
            tiered += tier not in {None, "default"}
    assert compared > 3000
    assert tiered > 20


def test_every_provider_is_in_the_tables() -> None:
    """No name leads to a table that is not there."""
    assert set(PROVIDERS.values()) <= {table.id for table in tables}


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where genai-prices is not installed calls have no price, and it is said why."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    prices = Prices()
    asked = call(model="gpt-4o")
    assert prices.priced(asked) is asked
    assert (prices.tables(), prices.has_library) == ([], False)
    assert prices.problem is not None
    assert "pip install 'otel-genapp[cost]'" in prices.problem


@pytest.mark.expected_own_errors
def test_an_own_error_costs_the_price_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in the pricing, the record goes on as it was."""

    def broken() -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(PriceLibrary, "open", broken)
    prices = Prices()
    asked = call(model="gpt-4o")
    assert prices.priced(asked) is asked
    assert prices.priced(asked) is asked
    assert prices.tables() == []


def test_a_fork_while_the_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that begins inside the import does not try it again, where it could wait for ever."""
    asked = call(model="gpt-4o")
    inside: list[UsageRecord] = []

    def slow() -> None:
        inside.append(prices.priced(asked))

    monkeypatch.setattr(PriceLibrary, "open", slow)
    prices = Prices()
    prices.priced(asked)
    assert inside == [asked]


def test_the_library_is_loaded_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported by the thread that starts telemetry, once, and not by one that could meet others' imports."""
    loaded: list[str] = []

    def counted() -> None:
        loaded.append(threading.current_thread().name)

    monkeypatch.setattr(PriceLibrary, "open", counted)
    with capture_telemetry() as got:
        assert loaded == [threading.current_thread().name]
        with llm_call("gpt-4o", provider="openai"):
            pass
        assert got.telemetry.totals()["unpriced_requests"] == 1
        assert got.telemetry.status()["prices"] == []
    assert len(loaded) == 1


def test_a_model_priced_by_its_output_only() -> None:
    """Where the table has no price for the input, the call has none."""
    unusual = ModelInfo(id="odd", match=ClauseEquals(equals="odd"), prices=ModelPrice(output_mtok=Decimal(1)))
    table = Provider(id="openai", name="OpenAI", api_pattern="x", models=[unusual])
    library = PriceLibrary([table], "1")
    assert library.day("openai", "odd", response_model=None, tier="", day=20_000) == ((0, None),)
