"""The user's own price file: what it says wins, and what is wrong in it is told before anything starts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import ConfigError, hub, init_telemetry, llm_call
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.records import Usage
from otel_genapp.testing import capture_telemetry
from tests.builders import START_NS, amendment, call

SOME = Usage(1000, 200, cache_read=300, cache_write=100, reasoning=50)
PARTS = (("cache_write_1h", 40),)


def written(folder: Path, text: str) -> Prices:
    """The prices of a file with this text, and of genai-prices."""
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return Prices(str(path))


def cost(prices: Prices, provider: str, model: str, **said: Any) -> int | None:
    return prices.priced(call(provider=provider, model=model, **{"usage": SOME, **said})).cost_nano_usd


def entry(model: str = "m", provider: str = "gigachat", **more: str) -> str:
    """One `[[price]]` of a dollar for a million tokens in and two for a million out, but for what is said."""
    said = {"input_per_million": "1", "output_per_million": "2", **more}
    keys = "".join(f"{key} = {value}\n" for key, value in said.items())
    return f'[[price]]\nprovider = "{provider}"\nmodel = "{model}"\n{keys}'


def test_every_kind_of_token(tmp_path: Path) -> None:
    """Each kind costs its own price, to the nano-dollar, and the record names file and content."""
    text = entry(
        cache_read_per_million="0.1",
        cache_write_per_million="1.25",
        cache_write_1h_per_million="2.5",
        reasoning_per_million="3",
        audio_input_per_million="7",
        audio_output_per_million="8",
    )
    prices = written(tmp_path, text)
    version = f"prices.toml sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    found = prices.priced(
        call(provider="gigachat", model="m", usage=SOME, priced_parts=(*PARTS, ("audio_output", 30)))
    )
    expected = 600 * 1000 + 300 * 100 + 60 * 1250 + 40 * 2500 + 120 * 2000 + 50 * 3000 + 30 * 8000
    assert (found.cost_nano_usd, found.price_version) == (expected, version)
    heard = {"usage": Usage(100, 10, reasoning=0), "priced_parts": (("audio_input", 60),)}
    assert cost(prices, "gigachat", "m", **heard) == 40 * 1000 + 60 * 7000 + 10 * 2000
    assert prices.tables()[0] == version


def test_kinds_without_a_price_cost_the_whole(tmp_path: Path) -> None:
    """Cached, written, thought and heard tokens cost what other input or output does; writes of an hour as writes."""
    prices = written(tmp_path, entry() + entry("w", cache_write_per_million="4"))
    assert cost(prices, "gigachat", "m", priced_parts=PARTS) == 1000 * 1000 + 200 * 2000
    assert cost(prices, "gigachat", "w", priced_parts=PARTS) == 900 * 1000 + 100 * 4000 + 200 * 2000
    heard = {"usage": Usage(100, 0), "priced_parts": (("audio_input", 60),)}
    assert cost(prices, "gigachat", "m", **heard) == 100 * 1000


def test_output_without_a_price(tmp_path: Path) -> None:
    """Embeddings need no price for output; a call with output has none then."""
    prices = written(tmp_path, '[[price]]\nprovider = "yandex"\nmodel = "emb"\ninput_per_million = 1\n')
    assert cost(prices, "yandex", "emb", usage=Usage(10)) == 10_000
    assert cost(prices, "yandex", "emb", usage=Usage(10, 1)) is None


def test_roubles(tmp_path: Path) -> None:
    """Prices in another currency are worth what the file says, exactly; an entry in dollars stays."""
    head = 'currency = "RUB"\nusd_per_unit = 0.0123456789\n'
    prices = written(tmp_path, head + entry(input_per_million="65.4321") + entry("usd", currency='"USD"'))
    # 65.4321 * 0.0123456789 = 0.80780369635269 dollars for a million tokens
    assert cost(prices, "gigachat", "m", usage=Usage(1_000_000_000, 0)) == 807_803_696_353
    assert cost(prices, "gigachat", "usd", usage=Usage(1000, 0)) == 1_000_000


def test_halves_go_to_the_even(tmp_path: Path) -> None:
    """Half a nano-dollar is rounded to the even one, so that roundings do not add up."""
    prices = written(tmp_path, entry(input_per_million="0.0005"))
    assert [cost(prices, "gigachat", "m", usage=Usage(tokens, 0)) for tokens in (1, 2, 3, 5)] == [0, 1, 2, 2]


def test_what_costs_nothing(tmp_path: Path) -> None:
    """A model priced at 0 costs 0 whatever it took and whatever its tokens are."""
    prices = written(tmp_path, entry("*", "ollama", input_per_million="0", output_per_million="0.0"))
    for said in ({}, {"usage": Usage()}, {"priced_parts": PARTS}):
        assert cost(prices, "ollama", "gpt-4o", **said) == 0
    assert cost(prices, "vllm", "gpt-4o") is None


def test_the_file_wins_over_the_library(tmp_path: Path) -> None:
    """What an entry says of a model holds instead of the public price, and only for what it names."""
    prices = written(tmp_path, entry("gpt-4o", "openai", input_per_million="1.5"))
    usage = Usage(1000, 0)
    assert cost(prices, "openai", "gpt-4o", usage=usage) == 1_500_000
    assert cost(prices, "openai", "gpt-4o-mini", usage=usage) == 150_000
    assert cost(prices, "openai", "router", response_model="gpt-4o", usage=usage) == 1_500_000
    assert cost(prices, "openai", "gpt-4o", service_tier="priority", usage=usage) == 4_250_000


def test_the_most_exact_entry_wins(tmp_path: Path) -> None:
    """A whole name comes before a pattern, a long pattern before a short one, in any order and case."""
    prices = written(
        tmp_path,
        entry("*", input_per_million="1")
        + entry("GigaChat-2*", input_per_million="2")
        + entry("GigaChat-2-Max", input_per_million="3")
        + entry("*-pro", input_per_million="4"),
    )
    named = ("other", "GIGACHAT-2", "gigachat-2-max", "x-Pro", "gigachat-2-pro")
    found = [cost(prices, "gigachat", model, usage=Usage(1, 0)) for model in named]
    assert found == [1000, 2000, 3000, 4000, 2000]


def test_patterns_are_plain(tmp_path: Path) -> None:
    """Only `*` is special in a model's name, and providers go by the name of the label."""
    prices = written(tmp_path, entry("a.b[1]?*", "mistral"))
    assert cost(prices, "mistral_ai", "a.b[1]?z") is not None
    assert cost(prices, "mistral_ai", "axb[1]?z") is None
    assert cost(prices, "mistral_ai", "x a.b[1]?z") is None


def test_prices_from_a_day_on(tmp_path: Path) -> None:
    """The latest entry that had begun by the call's UTC day holds; before the first the library does."""
    prices = written(
        tmp_path,
        entry("gpt-4o", "openai", input_per_million="9", **{"from": "2026-01-01"})
        + entry("gpt-4o", "openai", input_per_million="8", **{"from": '"2026-06-01"'}),
    )

    def on(moment: str) -> int | None:
        at_ns = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 10**9
        return cost(prices, "openai", "gpt-4o", usage=Usage(1, 0), started_at_ns=at_ns)

    moments = ("2025-12-31T23:59:59", "2026-01-01", "2026-05-31T23:59:59", "2026-06-01")
    assert [on(moment) for moment in moments] == [2500, 9000, 9000, 8000]


def test_service_tiers(tmp_path: Path) -> None:
    """An entry is for the standard tier, for the one it names, or for any."""
    prices = written(
        tmp_path,
        entry("m") + entry("m", input_per_million="5", service_tier='"Flex"')
        + entry("any", input_per_million="6", service_tier='"*"'),
    )  # fmt: skip
    tiers = (None, "default", "flex", "auto")
    found = [cost(prices, "gigachat", "m", usage=Usage(1, 0), service_tier=tier) for tier in tiers]
    assert found == [1000, 1000, 5000, None]
    assert cost(prices, "gigachat", "any", usage=Usage(1, 0), service_tier="auto") == 6000


def test_further_tokens(tmp_path: Path) -> None:
    """An amendment is priced by the file too."""
    prices = written(tmp_path, entry())
    found = prices.priced(amendment(provider="gigachat", model="m", usage=Usage(10, 1), at_ns=START_NS))
    assert found.cost_nano_usd == 12_000


GOOD = entry()
BAD = (
    ("", "has no [[price]] entry; write [[price]]"),
    ("price = 3", "has no [[price]] entry"),
    ("[[price]", "is not TOML in UTF-8"),
    ("a = " + "[" * 5000, "nested too deeply"),
    ("a = " + "9" * 5000, "is not TOML"),
    (b"\xff\xfe", "is not TOML in UTF-8"),
    ("x = 1\n" + GOOD, "has an unknown key 'x'; known are currency, usd_per_unit, price"),
    (GOOD + "inputs = 1", "[[price]] 1 (gigachat / m): has an unknown key 'inputs'; known are provider,"),
    (
        GOOD + entry("n", input_per_million='"1"'),
        "[[price]] 2 (gigachat / n): input_per_million must be a number",
    ),
    (
        entry(input_per_million="-1"),
        "input_per_million must be a number from 0 to 1000000000 with at most 12",
    ),
    (entry(input_per_million="nan"), "got NaN"),
    (entry(output_per_million="inf"), "output_per_million must be a number"),
    (entry(output_per_million="true"), "got True"),
    (entry(output_per_million="1e10"), "output_per_million must be a number"),
    (entry(output_per_million="0.0000000000001"), "with at most 12 decimals"),
    ('[[price]]\nprovider = "p"\nmodel = "m"', "has no input_per_million; write 0 for"),
    (
        '[[price]]\nmodel = "m"\ninput_per_million = 1',
        "provider must be text of 1 to 256 characters, got nothing",
    ),
    (entry(provider=" "), "provider must be text"),
    (
        '[[price]]\nprovider = "p"\nmodel = 5\ninput_per_million = 1',
        "model must be text of 1 to 256 characters, got 5",
    ),
    (
        GOOD + GOOD.replace('"m"', '"M"'),
        "[[price]] 2 (gigachat / M): says once more what an entry above says",
    ),
    (entry(**{"from": "2026"}), "from must be a day such as 2026-01-31, got 2026"),
    (entry(**{"from": '"soon"'}), "from must be a day such as 2026-01-31, got soon"),
    (entry(**{"from": "2026-01-01T00:00:00Z"}), "from must be a day"),
    (entry(service_tier="1"), "service_tier must be text"),
    (
        entry(currency='"RUB"'),
        "currency is 'RUB', which cannot be added up with US dollars; write prices in USD",
    ),
    (entry(currency="[1]"), "currency is [1]"),
    ('currency = "RUB"\n' + GOOD, "currency is 'RUB' without a rate; add usd_per_unit"),
    ("currency = 5\n" + GOOD, "currency must be text"),
    ("usd_per_unit = 2\n" + GOOD, "usd_per_unit is for another currency"),
    ('currency = "RUB"\nusd_per_unit = 0\n' + GOOD, "usd_per_unit must be above 0"),
    ('currency = "RUB"\nusd_per_unit = "x"\n' + GOOD, "usd_per_unit must be a number from 0"),
    ("#" * 1_000_001, "has over 1000000 bytes"),
)


@pytest.mark.parametrize(("content", "told"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_told(content: str | bytes, told: str, tmp_path: Path) -> None:
    """The message names the file, the entry, the key, the value and what to write."""
    path = tmp_path / "prices.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        Prices(str(path))
    assert str(caught.value).startswith(f"prices: {str(path)!r}")
    assert told in str(caught.value)


@pytest.mark.parametrize("path", ["missing.toml", ".", "a\0b"])
def test_what_cannot_be_read(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, a directory and an impossible name are wrong settings."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Prices(path)


def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    """`init_telemetry` refuses, and nothing has begun."""
    path = tmp_path / "prices.toml"
    path.write_text(entry(currency='"EUR"'))
    with pytest.raises(ConfigError, match="EUR"):
        init_telemetry("shop-bot", prices=str(path))
    assert hub.active is None


def test_a_call_from_the_application_to_the_session(tmp_path: Path) -> None:
    """Sessions, totals, metrics and status say what a call cost and by which table."""
    path = tmp_path / "prices.toml"
    path.write_text(entry("GigaChat-2*"))
    with capture_telemetry(prices=str(path)) as got:
        for model in ("GigaChat-2-Max", "unheard-of"):
            with llm_call(model, provider="gigachat", session_id="anna") as made:
                made.usage(input=1000, output=200)
        session = got.session("anna")
        assert session is not None
        priced = session["requests"][1]
        assert (priced["cost_usd"], priced["price_version"]) == (0.0014, got.telemetry.status()["prices"][0])
        assert (session["cost_usd"], session["priced_cost_usd"], session["unpriced_requests"]) == (
            None,
            0.0014,
            1,
        )
        labels = {"provider": "gigachat", "model": "GigaChat-2-Max"}
        assert got.value("genapp_llm_cost_usd_total", **labels) == 0.0014
        assert got.value("genapp_llm_unpriced_requests_total") == 1
        assert got.telemetry.totals()["priced_cost_usd"] == 0.0014
