"""What spans of different instrumentations say, in one vocabulary."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_genapp import semconv
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.dialects import Facts, classify, is_dialect_scope, read
from otel_genapp.records import TOKEN_LIMIT, Usage, whole_tokens

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


ALIASES = [
    ({semconv.PROVIDER: "openai"}, "openai"),
    ({"gen_ai.system": "anthropic"}, "anthropic"),
    ({semconv.PROVIDER: "groq", "gen_ai.system": "openai"}, "groq"),
    ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
    ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
    ({"gen_ai.system": "gemini"}, "gcp.gemini"),
    ({"gen_ai.system": "xai"}, "x_ai"),
    ({semconv.PROVIDER: "Bedrock"}, "aws.bedrock"),
    ({semconv.PROVIDER: "house-made"}, "house-made"),
    ({semconv.PROVIDER: ""}, None),
    ({}, None),
]


@pytest.mark.parametrize(("attributes", "provider"), ALIASES)
def test_provider(attributes: dict[str, object], provider: str | None) -> None:
    """Providers have one name each, whatever the instrumentation calls them."""
    assert read(attributes).provider == provider


def test_everything_a_span_says() -> None:
    """Each fact is read from its attribute."""
    attributes = {
        semconv.OPERATION: "chat",
        semconv.PROVIDER: "openai",
        semconv.REQUEST_MODEL: "gpt-5",
        semconv.RESPONSE_MODEL: "gpt-5-2026-08-01",
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.FINISH_REASONS: ("tool_calls",),
        semconv.FIRST_CHUNK_S: 0.25,
        semconv.TOOL_NAMES: ("search", "buy"),
        semconv.COST_USD: 0.002,
        semconv.LLM_STATUS: "cancelled",
        semconv.ERROR_TYPE: "CancelledError",
        semconv.SESSION_ID: "s1",
        semconv.CONVERSATION_ID: "other",
        semconv.USER_ID: "u1",
        semconv.CORRELATION_ID: "c-1",
        semconv.INPUT_TOKENS: 3,
    }
    assert read(attributes) == Facts(
        provider="openai",
        model="gpt-5",
        operation="chat",
        usage=Usage(input=3),
        response_model="gpt-5-2026-08-01",
        response_id="chatcmpl-1",
        finish_reasons=("tool_calls",),
        first_token_ms=250.0,
        tool_calls=2,
        tool_names=("search", "buy"),
        cost_nano_usd=2_000_000,
        status="cancelled",
        error_type="CancelledError",
        session_id="s1",
        user_id="u1",
        correlation_id="c-1",
    )


def test_nothing_said() -> None:
    """A span that says nothing leaves every fact open."""
    assert read({}) == Facts(provider=None, model=None, operation=None, usage=Usage())


@pytest.mark.parametrize(
    ("attributes", "calls"),
    [
        ({semconv.TOOL_CALL_COUNT: 3, semconv.TOOL_NAMES: ("a",)}, 3),
        ({semconv.TOOL_NAMES: ("a", "a")}, 2),
        ({semconv.TOOL_CALL_COUNT: 10**400, semconv.TOOL_NAMES: ("a",)}, 1),
        ({semconv.FINISH_REASONS: ["stop", "tool_use"]}, 1),
        ({semconv.FINISH_REASONS: "function_call"}, 1),
        ({semconv.FINISH_REASONS: ("stop",)}, 0),
    ],
)
def test_tool_calls(attributes: dict[str, object], calls: int) -> None:
    """Tool calls are the count, else the names, else a finish reason that says there was one."""
    assert read(attributes).tool_calls == calls


@pytest.mark.parametrize("value", [True, -1.0, math.nan, math.inf, 10**400, "0.5", None, (1,)])
def test_unusable_seconds_and_dollars(value: object) -> None:
    """What is no time or no price is unknown."""
    found = read({semconv.FIRST_CHUNK_S: value, semconv.COST_USD: value})
    assert (found.first_token_ms, found.cost_nano_usd) == (None, None)


def test_texts_are_bounded_and_clean() -> None:
    """Ids and names are cut, lone surrogates replaced, and what is no text is left out."""
    found = read(
        {
            semconv.SESSION_ID: "s" * 10_000,
            semconv.RESPONSE_ID: "answer \ud800",
            semconv.TOOL_NAMES: ("\udfffx", 5, *("y" * 1000,) * 500),
        }
    )
    assert (found.session_id, found.response_id) == ("s" * 256, "answer ?")
    assert found.tool_names == ("?x", *("y" * 256,) * 126)


CLASSES = [
    ({semconv.OPERATION: "chat"}, "llm"),
    ({semconv.OPERATION: "embeddings"}, "llm"),
    ({semconv.OPERATION: "invoke_agent", semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, "agent"),
    ({semconv.OPERATION: "execute_tool", semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, None),
    ({semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, "llm"),
    ({semconv.RESPONSE_MODEL: "m", "gen_ai.usage.completion_tokens": 1}, "llm"),
    ({semconv.REQUEST_MODEL: "m"}, None),
    ({semconv.INPUT_TOKENS: 1}, None),
    ({semconv.OPERATION: {"name": "chat"}}, None),
    ({semconv.OPERATION: ["chat"]}, None),
    ({}, None),
]


@pytest.mark.parametrize(("attributes", "expected"), CLASSES)
def test_classes(attributes: dict[str, Any], expected: str | None) -> None:
    """The operation decides; without one a model with tokens makes an LLM span."""
    assert classify(attributes) == expected


def test_scopes_that_name_their_kind_late() -> None:
    """The known genai instrumentations and their parts, nothing else."""
    scopes = (
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.util.genai.handler",
        "com.anthropic.sdk.python",
        "opentelemetry.instrumentation.httpx",
        "shop",
        "",
    )
    assert [is_dialect_scope(scope) for scope in scopes] == [True] * 4 + [False] * 3


KEYS = sorted(
    {
        value
        for name, value in vars(semconv).items()
        if name.isupper() and isinstance(value, str) and ("gen_ai" in value or "genapp" in value)
    }
    | {key for _, keys in dialects._TOKENS for key in keys}
    | {semconv.SESSION_ID, semconv.USER_ID, semconv.ERROR_TYPE, "gen_ai.system"}
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.sampled_from(["chat", "12", "9" * 5000, "invoke_agent"]),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS,
    lambda deeper: st.lists(deeper).map(tuple) | st.lists(deeper) | st.dictionaries(st.text(), deeper),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_attributes_can_be_read(attributes: dict[str, Any]) -> None:
    """No attribute mapping makes reading raise, and what is read is in bounds."""
    classify(attributes)
    found = read(attributes)
    counts = [count for _, count in found.usage.by_type() if count is not None]
    assert all(0 <= count <= 3 * TOKEN_LIMIT for count in (*counts, found.tool_calls))
    texts = (found.model, found.provider, found.session_id, *found.tool_names, *found.finish_reasons)
    assert all(text is None or len(text.encode()) <= 4 * 256 for text in texts)
