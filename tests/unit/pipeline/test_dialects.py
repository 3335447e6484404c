"""What spans of different instrumentations say, in one vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_genapp import semconv
from otel_genapp.pipeline.dialects import Facts, classify, is_dialect_scope, keys, kinds, read
from otel_genapp.records import TOKEN_LIMIT, Usage

ALIASES = [
    ({semconv.PROVIDER: "openai"}, "openai"),
    ({"gen_ai.system": "anthropic"}, "anthropic"),
    ({semconv.PROVIDER: "groq", "gen_ai.system": "openai"}, "groq"),
    ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
    ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
    ({"gen_ai.system": "gemini"}, "gcp.gemini"),
    ({"gen_ai.system": "xai"}, "x_ai"),
    ({semconv.PROVIDER: "Bedrock"}, "aws.bedrock"),
    ({"gen_ai.system": "OpenAI"}, "openai"),
    ({"gen_ai.system": "openai.chat"}, "openai"),
    ({"ai.model.provider": "openai.responses"}, "openai"),
    ({"ai.model.provider": "google.generative-ai"}, "gcp.gemini"),
    ({"ai.model.provider": "google.vertex.chat"}, "gcp.vertex_ai"),
    ({"ai.model.provider": "amazon-bedrock"}, "aws.bedrock"),
    ({"ai.model.provider": "deepinfra.chat"}, "deepinfra"),
    ({"llm.system": "mistralai", "llm.provider": "azure"}, "azure.ai.openai"),
    ({semconv.PROVIDER: "azure.ai.foundry"}, "azure.ai.foundry"),
    ({semconv.PROVIDER: "house-made"}, "house-made"),
    ({semconv.PROVIDER: "House.Made"}, "House.Made"),
    ({semconv.PROVIDER: ".chat"}, ".chat"),
    ({semconv.PROVIDER: 5, "gen_ai.system": "groq"}, "groq"),
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


SESSIONS = (
    "session.id",
    "langfuse.session.id",
    "gen_ai.conversation.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.thread_id",
    "traceloop.association.properties.chat_id",
    "ai.telemetry.metadata.sessionId",
    "ai.telemetry.metadata.threadId",
    "langfuse.trace.metadata.langfuse_session_id",
    "gcp.vertex.agent.session_id",
    "gen_ai.agent.session_id",
)
USERS = (
    "user.id",
    "langfuse.user.id",
    "enduser.id",
    "gen_ai.user",
    "gen_ai.request.user",
    "llm.user",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
)
MODELS = (
    "gen_ai.request.model",
    "llm.request.model_name",
    "ai.model.id",
    "langfuse.observation.model.name",
    "embedding.model_name",
    "llm.model_name",
    "model_name",
    "gen_ai.response.model",
)


@pytest.mark.parametrize(("names", "fact"), [(SESSIONS, "session_id"), (USERS, "user_id"), (MODELS, "model")])
def test_the_first_name_wins(names: tuple[str, ...], fact: str) -> None:
    """Of several names for a fact the first that says something counts, in whatever order they were set."""
    for position in range(len(names)):
        said = {name: f"by {name}" for name in reversed(names[position:])}
        assert getattr(read(said), fact) == f"by {names[position]}"
        assert getattr(read({**said, **dict.fromkeys(names[:position], "")}), fact) == f"by {names[position]}"


def test_the_model_that_answered_is_not_the_one_asked_for() -> None:
    """The request's model counts wherever it is named, also in JSON next to a name that means the answer's."""
    answered = {"llm.model_name": "gpt-5-2026", semconv.RESPONSE_MODEL: "gpt-5-2026"}
    asked = {"llm.invocation_parameters": '{"model": "gpt-5", "tools": []}'}
    assert read({**answered, **asked}).model == "gpt-5"
    assert read({**answered, "llm.invocation_parameters": "{broken"}).model == "gpt-5-2026"
    assert read({semconv.RESPONSE_MODEL: "gpt-5-2026"}).model == "gpt-5-2026"


def test_a_langsmith_project_is_no_session() -> None:
    """What langsmith calls a session is a project that all conversations share."""
    said = {
        "langsmith.trace.session_id": "p",
        "langsmith.trace.session_name": "default",
        "gen_ai.system": "x",
    }
    assert read(said).session_id is None


def test_what_our_own_spans_add() -> None:
    """Attempts, the tier and tokens with a price of their own are read as they are written."""
    said = {
        semconv.OPERATION: "chat",
        semconv.ATTEMPTS: ("429", "200"),
        semconv.SERVICE_TIER: "flex",
        semconv.CACHE_WRITE_1H_TOKENS: 3,
        semconv.AUDIO_OUTPUT_TOKENS: 0,
        semconv.AUDIO_INPUT_TOKENS: 2,
    }
    assert read(said) == Facts(
        provider=None,
        model=None,
        operation="chat",
        usage=Usage(),
        attempts=("429", "200"),
        service_tier="flex",
        priced_parts=(("audio_input", 2), ("cache_write_1h", 3)),
    )


OPERATIONS = [
    ({semconv.OPERATION: "generate_content"}, "generate_content"),
    ({semconv.OPERATION: "completion"}, "text_completion"),
    ({semconv.OPERATION: "embedding"}, "embeddings"),
    ({semconv.OPERATION: "summarize"}, "summarize"),
    ({"llm.request.type": "completion"}, "text_completion"),
    ({"llm.request.type": "completion", "litellm.call_id": "l"}, "chat"),
    ({"llm.request.type": "atext_completion", "litellm.call_id": "l"}, "text_completion"),
    ({"openinference.span.kind": "EMBEDDING"}, "embeddings"),
    ({"langfuse.observation.type": "embedding"}, "embeddings"),
    ({semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, None),
]


@pytest.mark.parametrize(("attributes", "operation"), OPERATIONS)
def test_operations(attributes: dict[str, Any], operation: str | None) -> None:
    """An operation has the conventions' name, and one they do not know its own."""
    assert read(attributes).operation == operation


CLASSES = [
    ({semconv.OPERATION: "chat"}, "llm"),
    ({semconv.OPERATION: "embeddings"}, "llm"),
    ({semconv.OPERATION: "Chat", semconv.REQUEST_MODEL: "m"}, "llm"),
    ({semconv.OPERATION: "summarize", semconv.REQUEST_MODEL: "m"}, None),
    ({semconv.OPERATION: "summarize", semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, "llm"),
    ({semconv.OPERATION: "summarize", "openinference.span.kind": "AGENT"}, "agent"),
    ({semconv.OPERATION: "chat", "openinference.span.kind": "AGENT"}, "llm"),
    ({semconv.OPERATION: "chat", "langsmith.span.kind": "prompt"}, None),
    ({semconv.OPERATION: "embeddings", "langsmith.span.kind": "retriever"}, None),
    ({semconv.OPERATION: "chat", "logfire.span_type": "log"}, "agent"),
    ({semconv.OPERATION: "chat", "logfire.span_type": ["log"]}, "llm"),
    ({"openinference.span.kind": "UNKNOWN", "llm.model_name": "m", "llm.token_count.prompt": 1}, "llm"),
    ({"openinference.span.kind": "UNKNOWN"}, None),
    ({"langfuse.observation.type": "event"}, None),
    ({"ai.operationId": "ai.streamObject.doStream"}, "llm"),
    ({"ai.operationId": "ai.streamObject"}, "agent"),
    ({"ai.operationId": "billing"}, None),
    ({"traceloop.span.kind": "task"}, "agent"),
    ({"traceloop.span.kind": "tool"}, None),
    ({"genkit:metadata:subtype": "flow"}, "agent"),
    ({"gen_ai.tool.name": "find", semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, None),
    ({"mcp.method.name": "tools/call", semconv.REQUEST_MODEL: "m", semconv.INPUT_TOKENS: 1}, None),
    ({"model_name": "m", semconv.INPUT_TOKENS: 1}, "llm"),
    ({"model_name": "m", "agent_name": "a", semconv.INPUT_TOKENS: 1}, "agent"),
    ({"langfuse.observation.usage_details": "{}", "langfuse.observation.model.name": "m"}, "llm"),
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
    """The known genai instrumentations and their parts, nothing that shares a prefix with them."""
    late = (
        "opentelemetry.instrumentation.openai",
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.genai.anthropic",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.util.genai.handler",
        "openinference.instrumentation.llama_index",
        "com.anthropic.sdk.python",
        "mistralai_sdk_tracer",
        "pydantic-ai",
        "logfire.openai",
        "ai",
        "gen_ai",
        "langfuse-sdk",
        "langsmith",
        "litellm",
        "strands.telemetry.tracer",
        "gcp.vertex.agent",
        "agent_framework",
        "autogen-core",
        "haystack",
        "vllm.llm_engine",
        "traceloop.tracer",
    )
    others = (
        "opentelemetry.instrumentation",
        "opentelemetry.instrumentation.httpx",
        "opentelemetry.instrumentation.sqlalchemy",
        "opentelemetry.instrumentation.openaiproxy",
        "ai2",
        "aiohttp",
        "shop.ai",
        "shop",
        ".",
        "",
    )
    assert [scope for scope in late if not is_dialect_scope(scope)] == []
    assert [scope for scope in others if is_dialect_scope(scope)] == []


CURRENT_KEYS = sorted(
    {
        value
        for name, value in vars(semconv).items()
        if name.isupper() and isinstance(value, str) and ("gen_ai" in value or "genapp" in value)
    }
    | {semconv.ERROR_TYPE, semconv.CORRELATION_ID}
    | keys.CURRENT
)
ALL_KEYS = [
    *CURRENT_KEYS,
    *sorted(keys.FOREIGN | kinds.FOREIGN_KINDS),
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
    "gen_ai.completion.0.tool_calls.0.name",
    "gen_ai.tool.name",
    "agent_name",
    "litellm.call_id",
    "logfire.span_type",
]
JSON_TEXTS = (
    '{"input": 1e400, "input_cached_tokens": [], "output_tokens_details": {"reasoning_tokens": {}}}',
    '[{"role": "assistant", "parts": [{"type": "tool_call", "name": 5}, 7]}, {"function": "name"}, null]',
    '{"model": ["gpt-5"], "total": NaN}',
    '{"intValue": {"intValue": "3"}}',
    '"\\ud800"',
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.sampled_from(["chat", "12", "9" * 5000, "invoke_agent", "LLM", "log", "[" * 9000, *JSON_TEXTS]),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS,
    lambda deeper: st.lists(deeper).map(tuple) | st.lists(deeper) | st.dictionaries(st.text(), deeper),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(ALL_KEYS), VALUES))
def test_any_attributes_can_be_read(attributes: dict[str, Any]) -> None:
    """No attribute mapping makes reading raise, and what is read is in bounds."""
    classify(attributes)
    found = read(attributes)
    counts = [count for _, count in found.usage.by_type() if count is not None]
    assert all(0 <= count <= 3 * TOKEN_LIMIT for count in (*counts, found.tool_calls))
    texts = (found.model, found.provider, found.session_id, *found.tool_names, *found.finish_reasons)
    assert all(text is None or len(text.encode()) <= 4 * 256 for text in texts)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(CURRENT_KEYS), VALUES))
def test_current_names_read_the_same_next_to_others(attributes: dict[str, Any]) -> None:
    """Other names that say nothing change no fact of a span in current names."""
    others = dict.fromkeys(keys.FOREIGN - keys.MODEL_KEYS)
    assert read({**others, **attributes}) == read(attributes)
