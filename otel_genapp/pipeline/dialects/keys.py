"""The normalisation table: for each fact its current name and the others that may carry it.

The first valid value in the order given here wins; the current name is always the first. Where it
is a number for money or tokens, names that only repeat a part of another one are left out on
purpose: `gen_ai.aggregated_usage.*`, `gen_ai.usage.raw` and `gen_ai.usage.experimental.*` are sums
or raw copies, `langsmith.trace.session_id` is a project.
"""

from __future__ import annotations

from otel_genapp import semconv

USAGE_DETAILS = "langfuse.observation.usage_details"
COST_DETAILS = "langfuse.observation.cost_details"
INVOCATION_PARAMETERS = "llm.invocation_parameters"
OPENAI_TIER = "openai.response.service_tier"
"""The conventions' name for what OpenAI says; ours is for every provider."""
FIRST_CHUNK_MS = ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk")
SERVER_FIRST_CHUNK = "gen_ai.server.time_to_first_token"
STRANDS = "strands-agents"
"""The provider strands names: itself. Its time to the first token is in milliseconds."""

Names = tuple[str, tuple[str, ...]]
"""(current name, other names in the order they are asked)"""

TOKENS: tuple[Names, ...] = (
    (
        semconv.INPUT_TOKENS,
        (
            "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
            "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens",
            USAGE_DETAILS, "llm.usage.prompt_tokens", "decision.token_count.input",
        ),
    ),
    (
        semconv.OUTPUT_TOKENS,
        (
            "gen_ai.usage.completion_tokens", "llm.token_count.completion",
            "ai.usage.outputTokens", "ai.usage.completionTokens",
            USAGE_DETAILS, "llm.usage.completion_tokens", "decision.token_count.output",
        ),
    ),
    (
        semconv.CACHE_READ_TOKENS,
        (
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input",
            "ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens",
            "gen_ai.usage.details.cache_read_tokens",
            "gen_ai.usage.prompt_tokens_details.cached_tokens",
            "gen_ai.usage.input_tokens.cached", USAGE_DETAILS,
        ),
    ),
    (
        semconv.CACHE_WRITE_TOKENS,
        (
            "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.cache_write_input_tokens", "llm.token_count.prompt_details.cache_write",
            "ai.usage.inputTokenDetails.cacheWriteTokens", "gen_ai.usage.details.cache_write_tokens",
            "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
            "gen_ai.usage.input_tokens.cache_write", USAGE_DETAILS,
        ),
    ),
    (
        semconv.REASONING_TOKENS,
        (
            "gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
            "ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens",
            "gen_ai.usage.details.reasoning_tokens",
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
            "gen_ai.usage.output_tokens.reasoning", USAGE_DETAILS,
        ),
    ),
    (
        semconv.AUDIO_INPUT_TOKENS,
        (
            "llm.token_count.prompt_details.audio", "gen_ai.usage.details.input_audio_tokens",
            "gen_ai.usage.prompt_tokens_details.audio_tokens", USAGE_DETAILS,
        ),
    ),
    (
        semconv.AUDIO_OUTPUT_TOKENS,
        (
            "llm.token_count.completion_details.audio", "gen_ai.usage.details.output_audio_tokens",
            "gen_ai.usage.completion_tokens_details.audio_tokens", USAGE_DETAILS,
        ),
    ),
    (
        semconv.CACHE_WRITE_1H_TOKENS,
        ("anthropic.usage.cache_creation.ephemeral_1h_input_tokens", USAGE_DETAILS),
    ),
)  # fmt: skip

TEXTS: tuple[Names, ...] = (
    (
        semconv.PROVIDER,
        ("gen_ai.system", "llm.provider", "llm.system", "ai.model.provider", "decision.provider"),
    ),
    (
        semconv.REQUEST_MODEL,
        (
            "llm.request.model_name", "ai.model.id", "langfuse.observation.model.name",
            INVOCATION_PARAMETERS, "embedding.model_name", "llm.model_name", "model_name",
            "decision.request.model_name", "decision.model_name",
        ),
    ),
    (
        semconv.RESPONSE_MODEL,
        (
            "llm.response.model_name", "ai.response.model", "llm.model_name",
            "decision.response.model_name",
        ),
    ),
    (semconv.RESPONSE_ID, ("ai.response.id",)),
    (
        semconv.SESSION_ID,
        (
            "langfuse.session.id", semconv.CONVERSATION_ID,
            "traceloop.association.properties.session_id",
            "traceloop.association.properties.conversation_id",
            "traceloop.association.properties.thread_id",
            "traceloop.association.properties.chat_id",
            "ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.threadId",
            "ai.settings.context.sessionId", "ai.settings.context.threadId",
            "langfuse.trace.metadata.langfuse_session_id",
            "langsmith.metadata.session_id", "langsmith.metadata.conversation_id",
            "langsmith.metadata.thread_id",
            "gcp.vertex.agent.session_id", "gen_ai.agent.session_id", "gen_ai.session.id",
        ),
    ),
    (semconv.USER_ID, semconv.USER_ID_ALIASES),
    (
        semconv.SERVICE_TIER,
        (
            OPENAI_TIER, "gen_ai.openai.response.service_tier",
            "anthropic.response.service_tier",
        ),
    ),
)  # fmt: skip

FINISHES: Names = (
    semconv.FINISH_REASONS,
    (
        "gen_ai.response.finish_reason", "llm.finish_reason", "llm.response.finish_reason",
        "llm.response.stop_reason", "gen_ai.response.stop_reason",
        "ai.response.finishReason", "ai.finishReason", "gen_ai.finishReason",
        "anthropic.message.stop_reason",
    ),
)  # fmt: skip

SECONDS: Names = (
    semconv.FIRST_CHUNK_S,
    (
        "gen_ai.client.operation.time_to_first_chunk", *FIRST_CHUNK_MS,
        "gen_ai.response.time_to_first_token", SERVER_FIRST_CHUNK,
    ),
)  # fmt: skip

DOLLARS: Names = (
    semconv.COST_USD,
    (
        "operation.cost", "gen_ai.usage.cost", "llm.cost.total", COST_DETAILS,
        "gen_ai.cost.total_cost", "litellm.cost.total_cost",
    ),
)  # fmt: skip

TOOL_CALLS = ("ai.response.toolCalls", "gen_ai.response.tool_calls", "gen_ai.output.messages")
"""JSON in which the tools a model asked for are named."""

INDEXED_TOOL_NAMES = (
    ("llm.output_messages.", ".tool_call.function.name"),
    ("gen_ai.completion.", ".name"),
)
"""Start and end of the names of OpenInference and OpenLLMetry, one for each call of a tool."""

MODEL_KEYS = frozenset({
    *(key for current, others in TEXTS if current in {semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL}
      for key in (current, *others)),
}) - {INVOCATION_PARAMETERS}  # fmt: skip
TOKEN_KEYS = frozenset({key for current, others in TOKENS for key in (current, *others)})

_TABLE = (*TOKENS, *TEXTS, FINISHES, SECONDS, DOLLARS)
CURRENT = frozenset(current for current, _ in _TABLE) | {
    semconv.CONVERSATION_ID, OPENAI_TIER,
}  # fmt: skip
"""The names of the table the facts are read by."""

CURRENT_NAMES: dict[str, tuple[str, ...]] = {
    key: tuple(current for current, others in _TABLE if key in others)
    for _, all_others in _TABLE
    for key in all_others
    if key not in CURRENT
}
"""Other name -> the current names it may stand for."""

SESSION_KEYS = (semconv.SESSION_ID, *dict(TEXTS)[semconv.SESSION_ID])
"""All the attributes that may name a span's session."""
FOREIGN = CURRENT_NAMES.keys() | set(TOOL_CALLS)
"""All other names: a span without any of them needs no translation."""
