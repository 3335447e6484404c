"""langfuse, langsmith, strands, litellm, genkit."""

from __future__ import annotations

import json

from otel_genapp.records import Usage
from tests.dialect_spans.span import DialectSpan, facts

PLATFORMS = (
    DialectSpan(
        id="langfuse generation",
        scope="langfuse-sdk",
        span_class="llm",
        start={
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "claude-opus-5",
            "session.id": "s-lf",
            "user.id": "u-lf",
        },
        end={
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 3,
                    "input_cached_tokens": 40,
                    "input_cache_creation": 7,
                    "output": 4,
                    "output_reasoning_tokens": 1,
                    "total": 55,
                }
            ),
            "langfuse.observation.cost_details": '{"input": 0.25, "output": 0.5}',
        },
        facts=facts(
            Usage(input=50, output=5, cache_read=40, cache_write=7, reasoning=1),
            model="claude-opus-5",
            operation="chat",
            cost_nano_usd=750_000_000,
            session_id="s-lf",
            user_id="u-lf",
        ),
    ),
    DialectSpan(
        id="langfuse generation of its openai integration",
        scope="langfuse-sdk",
        span_class="llm",
        start={
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-5",
            "langfuse.session.id": "s-lf",
            "langfuse.user.id": "u-lf",
            "langfuse.trace.metadata.langfuse_session_id": "other",
        },
        end={
            "langfuse.observation.usage_details": json.dumps(
                {
                    "prompt_tokens": 50,
                    "completion_tokens": 9,
                    "total_tokens": 59,
                    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 2},
                }
            ),
            "langfuse.observation.cost_details": '{"total": 0.25, "input": 0.125}',
        },
        facts=facts(
            Usage(input=50, output=9, cache_read=40, reasoning=6),
            model="gpt-5",
            operation="chat",
            cost_nano_usd=250_000_000,
            session_id="s-lf",
            user_id="u-lf",
            priced_parts=(("audio_output", 2),),
        ),
    ),
    DialectSpan(
        id="langfuse embedding",
        scope="langfuse-sdk",
        span_class="llm",
        start={"langfuse.observation.type": "embedding", "langfuse.observation.model.name": "embed-3"},
        end={"langfuse.observation.usage_details": '{"input": 4}'},
        facts=facts(Usage(input=4), model="embed-3", operation="embeddings"),
    ),
    DialectSpan(
        id="langfuse span",
        scope="langfuse-sdk",
        span_class="agent",
        start={"langfuse.observation.type": "span", "session.id": "s-lf"},
        facts=facts(session_id="s-lf"),
    ),
    DialectSpan(
        id="langfuse tool",
        scope="langfuse-sdk",
        span_class=None,
        start={"langfuse.observation.type": "tool"},
        facts=facts(operation="execute_tool"),
    ),
    DialectSpan(
        id="langsmith llm",
        scope="langsmith",
        span_class="llm",
        start={
            "langsmith.span.kind": "llm",
            "langsmith.trace.session_id": "project-uuid",
            "langsmith.trace.session_name": "default",
            "langsmith.metadata.thread_id": "t-ls",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-5",
        },
        end={
            "gen_ai.usage.input_tokens": 15,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.total_tokens": 18,
            "gen_ai.usage.input_token_details": "{'cache_read': 8}",
        },
        facts=facts(
            Usage(input=15, output=3),
            provider="openai",
            model="gpt-5",
            operation="chat",
            session_id="t-ls",
        ),
    ),
    DialectSpan(
        id="langsmith prompt",
        scope="langsmith",
        span_class=None,
        start={
            "langsmith.span.kind": "prompt",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "langchain",
        },
        facts=facts(provider="langchain", operation="chat"),
    ),
    DialectSpan(
        id="strands chat",
        scope="strands.telemetry.tracer",
        span_class="llm",
        start={
            "gen_ai.event.start_time": "2026-11-20T10:00:00+00:00",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "strands-agents",
            "gen_ai.request.model": "us.anthropic.claude-opus-5",
            "session.id": "s-st",
        },
        end={
            "gen_ai.usage.prompt_tokens": 50,
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.total_tokens": 55,
            "gen_ai.usage.cache_read_input_tokens": 40,
            "gen_ai.usage.cache_write_input_tokens": 7,
            "gen_ai.server.time_to_first_token": 250,
            "gen_ai.server.request.duration": 900,
        },
        facts=facts(
            Usage(input=50, output=5, cache_read=40, cache_write=7),
            provider="strands-agents",
            model="us.anthropic.claude-opus-5",
            operation="chat",
            first_token_ms=250.0,
            session_id="s-st",
        ),
    ),
    DialectSpan(
        id="litellm request",
        scope="litellm",
        span_class="llm",
        end={
            "litellm.call_id": "l-1",
            "llm.request.type": "completion",
            "gen_ai.system": "mistral",
            "gen_ai.request.model": "mistral-large-latest",
            "gen_ai.response.model": "mistral-large-2611",
            "gen_ai.response.id": "cmpl-8",
            "llm.is_streaming": "False",
            "llm.user": "u-ll",
            "gen_ai.cost.input_cost": 0.125,
            "gen_ai.cost.total_cost": 0.25,
            "gen_ai.usage.total_tokens": 24,
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 4,
        },
        facts=facts(
            Usage(input=20, output=4),
            provider="mistral_ai",
            model="mistral-large-latest",
            operation="chat",
            response_model="mistral-large-2611",
            response_id="cmpl-8",
            cost_nano_usd=250_000_000,
            user_id="u-ll",
        ),
    ),
    DialectSpan(
        id="litellm raw request",
        scope="litellm",
        span_class=None,
        end={"llm.mistral.model": "mistral-large-latest", "llm.mistral.usage": "{'prompt_tokens': 20}"},
        facts=facts(),
    ),
    DialectSpan(
        id="genkit model",
        scope="genkit-tracer",
        span_class="llm",
        start={"genkit:type": "action", "genkit:metadata:subtype": "model", "genkit:name": "gemini-3-pro"},
        facts=facts(operation="chat"),
    ),
)
