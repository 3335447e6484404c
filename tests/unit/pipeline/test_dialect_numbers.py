"""Numbers of spans: tokens, seconds and dollars in all the shapes they are written in."""

from __future__ import annotations

import json
import math

import pytest

from otel_genapp import semconv
from otel_genapp.pipeline.dialects import read
from otel_genapp.records import Usage, whole_tokens

NUMBERS = [
    pytest.param(0, 0, id="zero"),
    pytest.param(12, 12, id="whole"),
    pytest.param(12.0, 12, id="whole float"),
    pytest.param("12", 12, id="digits"),
    pytest.param(1_000_000_000, 1_000_000_000, id="limit"),
    pytest.param(1_000_000_001, None, id="over the limit"),
    pytest.param(None, None, id="none"),
    pytest.param(True, None, id="bool"),
    pytest.param(-1, None, id="negative"),
    pytest.param(-0.5, None, id="negative float"),
    pytest.param(12.5, None, id="fraction"),
    pytest.param(math.nan, None, id="nan"),
    pytest.param(math.inf, None, id="inf"),
    pytest.param(1e999, None, id="1e999"),
    pytest.param(1e300, None, id="huge float"),
    pytest.param(10**400, None, id="huge int"),
    pytest.param("", None, id="empty"),
    pytest.param("1e3", None, id="exponent text"),
    pytest.param(" 12", None, id="space"),
    pytest.param("-12", None, id="negative text"),
    pytest.param("١٢", None, id="arabic digits"),
    pytest.param("9" * 5000, None, id="5000 digits"),
    pytest.param(b"12", None, id="bytes"),
    pytest.param([12], None, id="list"),
    pytest.param((1, 2), None, id="tuple"),
    pytest.param({"tokens": 12}, None, id="dict"),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_numbers(value: object, expected: int | None) -> None:
    """A count is a whole number from 0 to 1e9 in whatever type; anything else is unknown, never a guess."""
    found = read({semconv.INPUT_TOKENS: value, semconv.OUTPUT_TOKENS: 5})
    assert whole_tokens(value) == expected
    assert found.usage == Usage(input=expected, output=5)
    assert found.invalid_numbers == (0 if expected is not None or value is None else 1)


WRAPPED = [
    pytest.param({"intValue": "3"}, 3, id="otlp int"),
    pytest.param({"intValue": 3}, 3, id="otlp whole int"),
    pytest.param({"doubleValue": 3.0}, 3, id="otlp double"),
    pytest.param('{"intValue": "3"}', 3, id="otlp json"),
    pytest.param('{"stringValue": "3"}', 3, id="otlp text"),
    pytest.param('{"intValue": "-3"}', None, id="negative"),
    pytest.param('{"doubleValue": NaN}', None, id="nan"),
    pytest.param('{"boolValue": true}', None, id="bool"),
    pytest.param('{"intValue": "3", "doubleValue": 4}', None, id="two numbers"),
    pytest.param('{"intValue": ', None, id="broken json"),
    pytest.param("{" * 60_000, None, id="deep json"),
]


@pytest.mark.parametrize("key", [semconv.OUTPUT_TOKENS, "llm.token_count.completion"])
@pytest.mark.parametrize(("value", "expected"), WRAPPED)
def test_numbers_of_exporters(key: str, value: object, expected: int | None) -> None:
    """A number inside of OTLP's JSON is read, and what is none is counted, under any name."""
    found = read({key: value})
    assert (found.usage, found.invalid_numbers) == (Usage(output=expected), int(expected is None))


def test_the_next_name_stands_in_for_an_invalid_number() -> None:
    """A name whose number is none is counted and passed over, one that comes after the first valid is not."""
    found = read({semconv.INPUT_TOKENS: -1, "llm.token_count.prompt": math.nan, "ai.usage.tokens": 7})
    assert (found.usage, found.invalid_numbers) == (Usage(input=7), 2)
    found = read({"gen_ai.usage.prompt_tokens": 7, "llm.token_count.prompt": True})
    assert (found.usage, found.invalid_numbers) == (Usage(input=7), 0)


def test_invalid_parts_are_counted() -> None:
    """A part with a price of its own that is no number is left out and counted."""
    found = read({semconv.AUDIO_INPUT_TOKENS: -1, semconv.AUDIO_OUTPUT_TOKENS: 2})
    assert (found.priced_parts, found.invalid_numbers) == ((("audio_output", 2),), 1)


NO_TOKENS = [
    "gen_ai.aggregated_usage.input_tokens",
    "gen_ai.aggregated_usage.output_tokens",
    "gen_ai.usage.details.input_tokens",
    "gen_ai.usage.experimental.system_instruction_tokens",
    "gen_ai.usage.input_token_details",
    "gen_ai.usage.raw",
    "gen_ai.usage.total_tokens",
    "llm.token_count.total",
    "llm.usage.total_tokens",
    "ai.usage.totalTokens",
]


@pytest.mark.parametrize("key", NO_TOKENS)
def test_sums_and_copies_are_no_tokens(key: str) -> None:
    """Names that repeat other ones add nothing, next to them or alone."""
    assert read({key: 500}).usage == Usage()
    assert read({key: 500, "gen_ai.usage.prompt_tokens": 7}) == read({"gen_ai.usage.prompt_tokens": 7})


LANGFUSE = [
    ({"input": 3, "input_cached_tokens": 40, "output": 5, "total": 48}, Usage(43, 5, 40), 0),
    ({"input": 3, "input_cache_read": 40, "input_cache_creation": 7}, Usage(50, None, 40, 7), 0),
    ({"input": 3, "input_cache_creation_5m": 4, "input_cache_creation_1h": 2}, Usage(9, None, None, 6), 0),
    (
        {"input": 3, "input_cache_creation": 0, "input_ephemeral_5m_input_tokens": 4},
        Usage(7, None, None, 4),
        0,
    ),
    ({"input": 3, "input_cache_creation": 0}, Usage(3, None, None, 0), 0),
    ({"input": 3, "input_cache_write": 7, "output": None}, Usage(10, None, None, 7), 0),
    (
        {
            "input_tokens": 3,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 7,
            "output_tokens": 5,
        },
        Usage(50, 5, 40, 7),
        0,
    ),
    ({"prompt_tokens": 50, "completion_tokens": 5, "cache_read_input_tokens": 40}, Usage(50, 5, 40), 0),
    (
        {
            "input_tokens": 50,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 6},
        },
        Usage(50, 9, 40, None, 6),
        0,
    ),
    ({"prompt_tokens": 50, "prompt_tokens_details": {"cached_tokens": -1}}, Usage(50), 1),
    ({"input": 3, "input_cached_tokens": True, "output": 5}, Usage(None, 5), 1),
    ({"input": "3", "output": -1}, Usage(3), 1),
    ({"total": 9}, Usage(), 0),
    ({}, Usage(), 0),
    ([3, 4], Usage(), 1),
]


@pytest.mark.parametrize(("details", "usage", "invalid"), LANGFUSE)
def test_usage_in_json(details: object, usage: Usage, invalid: int) -> None:
    """Buckets that exclude each other add up; what an API said already includes its parts."""
    for value in (json.dumps(details), json.dumps(json.dumps(details)), details):
        found = read({"langfuse.observation.usage_details": value})
        assert (found.usage, found.invalid_numbers) == (usage, invalid)


COSTS = [
    ('{"total": 0.5, "input": 0.25}', 500_000_000),
    ('{"input": 0.25, "output": 0.125}', 375_000_000),
    ('{"input": 0.25, "output": "much"}', None),
    ('{"input": true}', None),
    ('{"input": 1' + "0" * 400 + "}", None),
    ("{}", None),
    ("[1]", None),
    ("0.5", None),
]


@pytest.mark.parametrize(("details", "nano_usd"), COSTS)
def test_cost_in_json(details: str, nano_usd: int | None) -> None:
    """The total is the cost, else the sum of the parts, if all of them are prices."""
    assert read({"langfuse.observation.cost_details": details}).cost_nano_usd == nano_usd


USAGES = [
    pytest.param(
        {
            semconv.INPUT_TOKENS: 100,
            semconv.OUTPUT_TOKENS: 20,
            semconv.CACHE_READ_TOKENS: 64,
            semconv.CACHE_WRITE_TOKENS: 8,
            semconv.REASONING_TOKENS: 5,
        },
        Usage(input=100, output=20, cache_read=64, cache_write=8, reasoning=5),
        id="current names",
    ),
    pytest.param(
        {
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.cache_read_input_tokens": 64,
            "gen_ai.usage.cache_creation_input_tokens": 8,
            "gen_ai.usage.reasoning_tokens": 5,
        },
        Usage(input=100, output=20, cache_read=64, cache_write=8, reasoning=5),
        id="old names",
    ),
    pytest.param(
        {semconv.INPUT_TOKENS: 7, "gen_ai.usage.prompt_tokens": 100},
        Usage(input=7),
        id="current before old",
    ),
    pytest.param(
        {semconv.INPUT_TOKENS: "many", "gen_ai.usage.prompt_tokens": 100},
        Usage(input=100),
        id="valid before invalid",
    ),
    pytest.param(
        {semconv.INPUT_TOKENS: 100, semconv.CACHE_READ_TOKENS: 60, semconv.CACHE_WRITE_TOKENS: 40},
        Usage(input=100, cache_read=60, cache_write=40),
        id="input is all cached",
    ),
    pytest.param(
        {
            semconv.INPUT_TOKENS: 10,
            semconv.CACHE_READ_TOKENS: 60,
            "gen_ai.usage.cache_creation.input_tokens": 40,
        },
        Usage(input=110, cache_read=60, cache_write=40),
        id="input without its cached part",
    ),
    pytest.param({semconv.CACHE_READ_TOKENS: 60}, Usage(cache_read=60), id="cache alone invents no input"),
    pytest.param({semconv.INPUT_TOKENS: 0, semconv.OUTPUT_TOKENS: 0}, Usage(input=0, output=0), id="zeros"),
]


@pytest.mark.parametrize(("attributes", "usage"), USAGES)
def test_usage(attributes: dict[str, object], usage: Usage) -> None:
    """Tokens are read under old and new names, and input always includes its cached part."""
    assert read(attributes).usage == usage


def test_seconds_and_dollars_under_other_names() -> None:
    """A current name with 0 comes before another name, one that says nothing does not."""
    others = {"gen_ai.response.time_to_first_token": 0.5, "operation.cost": 0.25}
    found = read({semconv.FIRST_CHUNK_S: 0.0, semconv.COST_USD: 0.0, **others})
    assert (found.first_token_ms, found.cost_nano_usd) == (0.0, 0)
    found = read({semconv.FIRST_CHUNK_S: -1, semconv.COST_USD: math.nan, **others})
    assert (found.first_token_ms, found.cost_nano_usd) == (500.0, 250_000_000)


FIRST_CHUNKS = [
    ({"ai.response.msToFirstChunk": 250}, 250.0),
    ({"ai.response.msToFirstChunk": True}, None),
    ({"gen_ai.server.time_to_first_token": 0.25}, 250.0),
    ({"gen_ai.server.time_to_first_token": 250, semconv.PROVIDER: "strands-agents"}, 250.0),
    ({"gen_ai.server.time_to_first_token": 250, "gen_ai.system": "strands-agents"}, 250.0),
]


@pytest.mark.parametrize(("said", "milliseconds"), FIRST_CHUNKS)
def test_units_of_the_first_chunk(said: dict[str, object], milliseconds: float | None) -> None:
    """Vercel and strands say milliseconds, all others seconds."""
    assert read(said).first_token_ms == milliseconds


@pytest.mark.parametrize("value", [True, -1.0, math.nan, math.inf, 10**400, "0.5", None, (1,)])
def test_unusable_seconds_and_dollars(value: object) -> None:
    """What is no time or no price is unknown."""
    found = read({semconv.FIRST_CHUNK_S: value, semconv.COST_USD: value})
    assert (found.first_token_ms, found.cost_nano_usd) == (None, None)
