"""pydantic-ai and logfire."""

from __future__ import annotations

from otel_genapp.records import Usage
from tests.dialect_spans.span import DialectSpan, facts, tool_messages

PYDANTIC = (
    DialectSpan(
        id="pydantic-ai 1: chat",
        scope="pydantic-ai",
        span_class="llm",
        start={
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "google",
            "gen_ai.request.model": "gemini-3-pro",
            "logfire.span_type": "span",
        },
        end={
            "gen_ai.response.model": "gemini-3-pro-001",
            "gen_ai.response.finish_reasons": ("tool_call",),
            "gen_ai.output.messages": tool_messages("find"),
            "operation.cost": 0.001,
            "gen_ai.usage.input_tokens": 57,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.details.cache_read_tokens": 32,
            "gen_ai.usage.details.cache_write_tokens": 2,
            "gen_ai.usage.details.reasoning_tokens": 1,
            "gen_ai.usage.details.input_audio_tokens": 6,
        },
        facts=facts(
            Usage(input=57, output=5, cache_read=32, cache_write=2, reasoning=1),
            provider="gcp.gemini",
            model="gemini-3-pro",
            operation="chat",
            response_model="gemini-3-pro-001",
            finish_reasons=("tool_call",),
            tool_calls=1,
            tool_names=("find",),
            cost_nano_usd=1_000_000,
            priced_parts=(("audio_input", 6),),
        ),
    ),
    DialectSpan(
        id="pydantic-ai 1: agent",
        scope="pydantic-ai",
        span_class="agent",
        start={"model_name": "gemini-3-pro", "agent_name": "clerk", "logfire.msg": "clerk run"},
        end={
            "gen_ai.usage.input_tokens": 113,
            "gen_ai.usage.output_tokens": 11,
            "gen_ai.usage.details.cache_read_tokens": 32,
        },
        facts=facts(
            Usage(input=113, output=11, cache_read=32), model="gemini-3-pro", operation="invoke_agent"
        ),
    ),
    DialectSpan(
        id="pydantic-ai 2: agent",
        scope="pydantic-ai",
        span_class="agent",
        start={
            "model_name": "gemini-3-pro",
            "agent_name": "clerk",
            "gen_ai.agent.name": "clerk",
            "gen_ai.agent.call.id": "r-1",
            "gen_ai.conversation.id": "c-pa",
            "gen_ai.operation.name": "invoke_agent",
        },
        end={"gen_ai.aggregated_usage.input_tokens": 113, "gen_ai.aggregated_usage.output_tokens": 11},
        facts=facts(model="gemini-3-pro", operation="invoke_agent", session_id="c-pa"),
    ),
    DialectSpan(
        id="pydantic-ai tool without an operation",
        scope="pydantic-ai",
        span_class=None,
        start={"gen_ai.tool.name": "find", "gen_ai.tool.call.id": "call_1"},
        facts=facts(),
    ),
    DialectSpan(
        id="logfire openai",
        scope="logfire.openai",
        span_class="llm",
        start={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "logfire.span_type": "span",
            "request_data": '{"model": "gpt-5"}',
        },
        end={
            "gen_ai.response.model": "gpt-5-2026-08-01",
            "gen_ai.usage.input_tokens": 8,
            "gen_ai.usage.output_tokens": 1,
            "operation.cost": 0.002,
        },
        facts=facts(
            Usage(input=8, output=1),
            provider="openai",
            model="gpt-5",
            operation="chat",
            response_model="gpt-5-2026-08-01",
            cost_nano_usd=2_000_000,
        ),
    ),
    DialectSpan(
        id="logfire's log of a stream",
        scope="logfire.openai",
        span_class="agent",
        start={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "logfire.span_type": "log",
            "duration": 1.5,
        },
        facts=facts(provider="openai", model="gpt-5", operation="chat"),
    ),
)
