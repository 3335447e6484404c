"""What calls cost by the tables of genai-prices, against sums made by hand and its own arithmetic."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import genai_prices
import pytest

from otel_genapp import semconv
from otel_genapp.pipeline import pricing
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.records import LLMCall, Usage
from tests.builders import amendment, call

VERSION = f"genai-prices {genai_prices.__version__}"


def at(day: str) -> int:
    """UTC nanoseconds of an ISO time."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


NOW_NS = at("2026-11-02T12:00")


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def priced(prices: Prices, provider: str, model: str, usage: Usage, **said: Any) -> int | None:
    """The cost of a call, and that nothing else of it changes."""
    asked = call(provider=provider, model=model, usage=usage, **{"started_at_ns": NOW_NS, **said})
    found = prices.priced(asked)
    assert isinstance(found, LLMCall)
    version = None if found.cost_nano_usd is None else VERSION
    assert found == dataclasses.replace(asked, cost_nano_usd=found.cost_nano_usd, price_version=version)
    return found.cost_nano_usd


# Nano-dollars a token: 1000 times the dollars per million tokens.
BY_HAND = (
    pytest.param("openai", "gpt-4o", Usage(1000, 200), {}, 1000 * 2500 + 200 * 10_000, id="plain"),
    pytest.param(
        "openai", "gpt-4o", Usage(1000, 200, cache_read=600), {},
        400 * 2500 + 600 * 1250 + 200 * 10_000, id="cached read",
    ),
    pytest.param(
        "openai", "gpt-5", Usage(1000, 200, reasoning=150), {}, 1000 * 1250 + 200 * 10_000, id="reasoning in output"
    ),
    pytest.param(
        "openrouter", "perplexity/sonar-deep-research", Usage(1000, 200, reasoning=150), {},
        1000 * 2000 + 50 * 8000 + 150 * 3000, id="reasoning apart",
    ),
    pytest.param(
        "anthropic", "claude-sonnet-4-5", Usage(1000, 100, cache_read=200, cache_write=300), {},
        500 * 3000 + 200 * 300 + 300 * 3750 + 100 * 15_000, id="cache write",
    ),
    pytest.param(
        "anthropic", "claude-sonnet-4-5", Usage(1000, 100, cache_read=200, cache_write=300),
        {"priced_parts": (("cache_write_1h", 120),)},
        500 * 3000 + 200 * 300 + 180 * 3750 + 120 * 6000 + 100 * 15_000, id="cache write of an hour",
    ),
    pytest.param(
        "anthropic", "claude-sonnet-4-5", Usage(200_000, 100), {}, 200_000 * 3000 + 100 * 15_000, id="below the step"
    ),
    pytest.param(
        "anthropic", "claude-sonnet-4-5", Usage(200_001, 100, cache_read=1), {},
        200_000 * 6000 + 600 + 100 * 22_500, id="long context",
    ),
    pytest.param(
        "gcp.gemini", "gemini-2.5-pro", Usage(200_001, 100), {}, 200_001 * 2500 + 100 * 15_000, id="long prompt"
    ),
    pytest.param(
        "gcp.vertex_ai", "gemini-2.5-flash", Usage(1000, 100), {"priced_parts": (("audio_input", 400),)},
        600 * 300 + 400 * 1000 + 100 * 2500, id="heard",
    ),
    pytest.param(
        "openai", "gpt-audio", Usage(1000, 100), {"priced_parts": (("audio_input", 400), ("audio_output", 90))},
        600 * 2500 + 400 * 32_000 + 10 * 10_000 + 90 * 64_000, id="heard and spoken",
    ),
    pytest.param("openai", "text-embedding-3-small", Usage(1000), {}, 1000 * 20, id="embedding, output unknown"),
    pytest.param("openai", "text-embedding-3-small", Usage(1000, 0), {}, 1000 * 20, id="embedding, output 0"),
    pytest.param(
        "perplexity", "sonar", Usage(10, 20), {}, 10 * 1000 + 20 * 1000 + 12_000_000, id="a fee for each request"
    ),
    pytest.param(
        "openai", "gpt-4o", Usage(1000, 200), {"service_tier": "priority"}, 1000 * 4250 + 200 * 17_000, id="priority"
    ),
    pytest.param(
        "openai", "gpt-4o", Usage(1000, 200), {"service_tier": "batch"}, 1000 * 1250 + 200 * 5000, id="batch"
    ),
    pytest.param(
        "openai", "gpt-4o", Usage(1000, 200), {"service_tier": "default"}, 1000 * 2500 + 200 * 10_000, id="default tier"
    ),
    pytest.param(
        "anthropic", "claude-opus-4-1", Usage(10, 1), {"service_tier": "STANDARD"}, 10 * 15_000 + 75_000, id="standard"
    ),
    pytest.param(
        "azure.ai.openai", "gpt-4", Usage(1000, 200), {"response_model": "gpt-4o-2024-11-20"},
        1000 * 2500 + 200 * 10_000, id="a deployment named after another model",
    ),
    pytest.param(
        "openrouter", "openrouter/auto", Usage(1000, 200), {"response_model": "openai/gpt-4o"},
        1000 * 2500 + 200 * 10_000, id="the model that answered",
    ),
    pytest.param("gcp.gemini", "models/gemini-2.5-flash", Usage(10, 0), {}, 10 * 300, id="as the API lists it"),
    pytest.param("openrouter", "deepseek/deepseek-r1:free", Usage(), {}, 0, id="free, whatever it took"),
    pytest.param("openai", "gpt-4o", Usage(0, 0), {}, 0, id="no tokens"),
    pytest.param("openai", "gpt-4o", Usage(10, 2), {"status": semconv.FAIL}, 10 * 2500 + 2 * 10_000, id="failed"),
    pytest.param(
        "aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", Usage(10, 1), {}, 10 * 3000 + 15_000, id="bedrock"
    ),
)  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usage", "said", "cost"), BY_HAND)
def test_costs_by_hand(
    prices: Prices, provider: str, model: str, usage: Usage, said: dict[str, Any], cost: int
) -> None:
    """Each kind of token costs what the provider's list says, and none is paid for twice."""
    assert priced(prices, provider, model, usage, **said) == cost


SOME = Usage(1000, 200)
UNPRICED = (
    *(
        pytest.param(provider, "gpt-4o", SOME, {}, id=f"gpt-4o at {provider}")
        for provider in ("unknown", "vllm", "ollama", "litellm", "github", "google", "azure", "")
    ),
    pytest.param("openai", "gpt-4o-of-tomorrow", SOME, {}, id="unknown model"),
    pytest.param("openai", "claude-sonnet-4-5", SOME, {}, id="another provider's model"),
    pytest.param("openai", "gpt-4o", Usage(), {}, id="usage unknown"),
    pytest.param("openai", "gpt-4o", Usage(output=5), {}, id="input unknown"),
    pytest.param("openai", "gpt-4o", Usage(input=5), {}, id="output unknown"),
    pytest.param("openai", "gpt-4o", Usage(5, 5, cache_read=6), {}, id="more cached than input"),
    pytest.param("openai", "gpt-4o", Usage(), {"status": semconv.FAIL}, id="failed without usage"),
    pytest.param("openai", "gpt-4o", SOME, {"service_tier": "flex"}, id="tier without a price"),
    pytest.param("openai", "gpt-4o", SOME, {"service_tier": "auto"}, id="tier left to the provider"),
    pytest.param(
        "openai", "gpt-4o", SOME, {"service_tier": "priority", "started_at_ns": at("2026-01-01")},
        id="tier without a price then",
    ),
    pytest.param("anthropic", "claude-opus-4-1", SOME, {"service_tier": "priority"}, id="anthropic's priority"),
    pytest.param("azure.ai.openai", "gpt-4o", SOME, {"service_tier": "priority"}, id="tier of a borrowed table"),
    pytest.param("openai", "gpt-4o", SOME, {"priced_parts": (("audio_input", 5),)}, id="audio without a price"),
    pytest.param("openai", "gpt-4o", SOME, {"priced_parts": (("audio_output", 5),)}, id="speech without a price"),
    pytest.param("openai", "gpt-audio", SOME, {}, id="a model that speaks, nobody says how much"),
    pytest.param(
        "openai", "gpt-4o-realtime-preview", Usage(9, 5, cache_read=3), {"priced_parts": (("audio_input", 5),)},
        id="audio that may be cached",
    ),
    pytest.param(
        "aws.bedrock", "anthropic.claude-3-5-sonnet-20241022-v2:0", Usage(9, 5, cache_write=3),
        {"priced_parts": (("cache_write_1h", 3),)}, id="an hour without a price",
    ),
    pytest.param(
        "anthropic", "claude-sonnet-4-5", Usage(9, 5, cache_write=3), {"priced_parts": (("cache_write_1h", 4),)},
        id="more for an hour than written",
    ),
    pytest.param("gcp.gemini", "gemini-2.5-flash-image", SOME, {}, id="images have a price of their own"),
    pytest.param("openrouter", "perplexity/sonar-deep-research", SOME, {}, id="reasoning unknown"),
    pytest.param("perplexity", "sonar-deep-research", Usage(9, 9, reasoning=1), {}, id="citations unknown"),
    pytest.param("openai", "whisper-1", SOME, {}, id="priced by the hour"),
    pytest.param(
        "aws.bedrock", "arn:aws:bedrock:us-east-1:1:custom-model/amazon.nova-micro-v1:0/x", SOME, {},
        id="own capacity",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usage", "said"), UNPRICED)
def test_null_rather_than_wrong(
    prices: Prices, provider: str, model: str, usage: Usage, said: dict[str, Any]
) -> None:
    """What the provider's own table does not say for sure has no price."""
    assert priced(prices, provider, model, usage, **said) is None


@pytest.mark.parametrize("cost", [0, 7])
def test_a_cost_that_was_given_stays(prices: Prices, cost: int) -> None:
    """What the application says a call cost is not worked out again, and names no table."""
    given = call(model="gpt-4o", cost_nano_usd=cost)
    assert prices.priced(given) is given


def test_prices_of_the_day(prices: Prices) -> None:
    """A call costs what it cost on its own UTC day, whenever it is priced."""
    usage = Usage(1000, 0)
    days = ("2025-06-09T23:59:59", "2025-06-10T00:00", "2026-11-01")
    found = [priced(prices, "openai", "o3", usage, started_at_ns=at(day)) for day in days]
    assert found == [1000 * 10_000, 1000 * 2000, 1000 * 2000]


def test_prices_of_the_hour(prices: Prices) -> None:
    """Off-peak prices begin and end to the second, within one day's resolved rates."""
    moments = ("00:00", "00:29:59", "00:30", "16:29:59", "16:30", "23:59:59")
    found = [
        priced(prices, "deepseek", "deepseek-chat", Usage(1000, 0), started_at_ns=at(f"2026-11-02T{moment}"))
        for moment in moments
    ]
    assert found == [135_000, 135_000, 270_000, 270_000, 135_000, 135_000]


FURTHER = (
    pytest.param({"usage": Usage(10)}, 10 * 2500, id="input"),
    pytest.param({"usage": Usage(output=3, reasoning=2)}, 3 * 10_000, id="output"),
    pytest.param({"usage": Usage(10, cache_read=10)}, 10 * 1250, id="cached input"),
    pytest.param({"usage": Usage(reasoning=4)}, 0, id="only what was paid for as output"),
    pytest.param({"usage": Usage(cache_read=4)}, None, id="cached after all: takes something back"),
    pytest.param({"usage": Usage()}, None, id="no tokens"),
    pytest.param({"model": "claude-sonnet-4-5", "provider": "anthropic"}, None, id="not linear"),
    pytest.param({"model": "unknown"}, None, id="unknown model"),
    pytest.param({"model": "gpt-audio"}, None, id="may have been speech"),
    pytest.param({"cost_nano_usd": 5}, 5, id="given"),
)


@pytest.mark.parametrize(("said", "cost"), FURTHER)
def test_further_tokens(prices: Prices, said: dict[str, Any], cost: int | None) -> None:
    """Tokens that became known later cost what they add, where that does not depend on the others."""
    further = amendment("later", at_ns=NOW_NS, **{"model": "gpt-4o", **said})
    found = prices.priced(further)
    version = VERSION if cost is not None and "cost_nano_usd" not in said else None
    assert found == dataclasses.replace(further, cost_nano_usd=cost, price_version=version)


@pytest.mark.parametrize(
    "said",
    [
        {"cost_nano_usd": 5},
        {"service_tier": "priority"},
        {"usage": Usage(9, 5, cache_write=3), "priced_parts": (("cache_write_1h", 3),)},
    ],
    ids=["paid by the application", "another tier", "parts"],
)
def test_further_tokens_of_calls_unlike_others(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain price does not fit further tokens of a call that had none; such calls are not kept for ever."""
    monkeypatch.setattr(pricing, "CALLS_KEPT", 2)
    prices = Prices()
    further = amendment("1", model="gpt-4o", at_ns=NOW_NS)
    prices.priced(call("1", model="gpt-4o", started_at_ns=NOW_NS, **said))
    assert prices.priced(further) is further
    for number in range(2):
        prices.priced(call(f"other {number}", cost_nano_usd=1))
    assert prices.priced(further).cost_nano_usd == 10 * 2500


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new names and days leave no more behind than the limit says."""
    monkeypatch.setattr(pricing, "DAYS_KEPT", 10)
    prices = Prices()
    for number in range(25):
        prices.priced(call(model=f"model {number}"))
        assert priced(prices, "openai", "gpt-4o", Usage(1, 0), started_at_ns=NOW_NS + number * 86_400 * 10**9)
        assert len(prices._days) <= 10


def test_the_model_that_answered_is_billed() -> None:
    """An alias that stands for a dearer dated model costs what that one does."""
    alias = Prices().priced(call(model="gpt-4o", response_model="gpt-4o-2024-05-13", usage=Usage(1000, 100)))
    dated = Prices().priced(call(model="gpt-4o-2024-05-13", usage=Usage(1000, 100)))
    plain = Prices().priced(call(model="gpt-4o", usage=Usage(1000, 100)))
    assert alias.cost_nano_usd == dated.cost_nano_usd == 6_500_000
    assert plain.cost_nano_usd == 3_500_000
