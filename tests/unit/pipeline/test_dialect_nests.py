"""Instrumentations on top of each other: each token and each request counts once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from otel_genapp.records import Usage
from tests.builders import Tracing


@dataclass(frozen=True)
class Span:
    """A span with those below it; `end` is set when they are over."""

    scope: str
    start: Mapping[str, Any]
    end: Mapping[str, Any]
    below: tuple[Span, ...] = ()

    def run(self, tracing: Tracing) -> None:
        """Make it and all below it."""
        with tracing.tracer(self.scope).start_as_current_span("span", attributes=dict(self.start)) as made:
            for child in self.below:
                child.run(tracing)
            made.set_attributes(self.end)


def otel(operation: str, system: str = "openai", **more: Any) -> dict[str, Any]:
    return {"gen_ai.operation.name": operation, "gen_ai.system": system, **more}


def otel_usage(tokens: int, output: int, **more: Any) -> dict[str, Any]:
    return {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": output, **more}


def oi_usage(tokens: int, output: int, cached: int = 0) -> dict[str, Any]:
    return {
        "llm.token_count.prompt": tokens,
        "llm.token_count.completion": output,
        "llm.token_count.prompt_details.cache_read": cached,
    }


OI_LLM, OI_CHAIN = {"openinference.span.kind": "LLM"}, {"openinference.span.kind": "CHAIN"}
GPT = {"gen_ai.request.model": "gpt-5"}
SESSION = {"session.id": "s1"}
OI_LANGCHAIN = "openinference.instrumentation.langchain"
TL_OPENAI = "opentelemetry.instrumentation.openai.v1"

NESTS = [
    pytest.param(
        Span(OI_LANGCHAIN, SESSION, OI_CHAIN, (
            Span(
                OI_LANGCHAIN, SESSION, {**OI_LLM, "llm.model_name": "gpt-5", **oi_usage(25, 8, 16)},
                (
                    Span(
                        "openinference.instrumentation.openai",
                        {**OI_LLM, **SESSION, "llm.system": "openai",
                         "llm.invocation_parameters": '{"model": "gpt-5"}'},
                        {"llm.model_name": "gpt-5-2026", **oi_usage(25, 8, 16)},
                    ),
                ),
            ),
        )),
        [("openai", "gpt-5")], Usage(input=25, output=8, cache_read=16),
        id="langchain over openai, both openinference",
    ),
    pytest.param(
        Span("traceloop.tracer", {"traceloop.span.kind": "workflow"}, {}, (
            Span(
                "opentelemetry.instrumentation.crewai",
                {"traceloop.span.kind": "agent", **otel("invoke_agent", "crewai")},
                {**GPT, **otel_usage(50, 9)},
                tuple(
                    Span(
                        TL_OPENAI,
                        {"llm.request.type": "chat", "traceloop.association.properties.session_id": "s1"},
                        {"gen_ai.system": "OpenAI", **GPT, "gen_ai.usage.prompt_tokens": tokens,
                         "gen_ai.usage.completion_tokens": output},
                    )
                    for tokens, output in ((20, 4), (30, 5))
                ),
            ),
        )),
        [("openai", "gpt-5"), ("openai", "gpt-5")], Usage(input=50, output=9),
        id="traceloop agent over openai",
    ),
    pytest.param(
        Span(
            "pydantic-ai", {"model_name": "gpt-5", "agent_name": "clerk"}, otel_usage(113, 11),
            tuple(
                Span("pydantic-ai", {**otel("chat"), **GPT, **SESSION}, otel_usage(tokens, output))
                for tokens, output in ((56, 6), (57, 5))
            ),
        ),
        [("openai", "gpt-5"), ("openai", "gpt-5")], Usage(input=113, output=11),
        id="pydantic-ai 1 agent over chats",
    ),
    pytest.param(
        Span(
            "pydantic-ai", otel("invoke_agent"),
            {"gen_ai.aggregated_usage.input_tokens": 113, "gen_ai.aggregated_usage.output_tokens": 11},
            (Span("pydantic-ai", {**otel("chat"), **GPT, **SESSION}, otel_usage(113, 11)),),
        ),
        [("openai", "gpt-5")], Usage(input=113, output=11),
        id="pydantic-ai 2 agent over a chat",
    ),
    pytest.param(
        Span(
            "ai",
            {"ai.operationId": "ai.generateText", "ai.model.id": "gpt-5",
             "ai.telemetry.metadata.sessionId": "s1"},
            {"ai.usage.promptTokens": 60, "ai.usage.completionTokens": 10},
            (
                Span(
                    "ai",
                    {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "gpt-5",
                     "ai.model.provider": "openai.chat", "ai.telemetry.metadata.sessionId": "s1"},
                    {"ai.usage.promptTokens": 40, "ai.usage.completionTokens": 7,
                     "gen_ai.usage.input_tokens": 40, "gen_ai.usage.output_tokens": 7},
                ),
                Span("ai", {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "find"}, {}),
                Span(
                    "ai",
                    {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "gpt-5",
                     "ai.model.provider": "openai.chat", "ai.telemetry.metadata.sessionId": "s1"},
                    {"ai.usage.promptTokens": 20, "ai.usage.completionTokens": 3},
                ),
            ),
        ),
        [("openai", "gpt-5"), ("openai", "gpt-5")], Usage(input=60, output=10),
        id="vercel wrapper over doGenerate",
    ),
    pytest.param(
        Span(
            "strands.telemetry.tracer", {**otel("invoke_agent", "strands-agents"), **SESSION},
            otel_usage(100, 12),
            (
                Span(
                    "strands.telemetry.tracer", otel("execute_event_loop_cycle", "strands-agents"), {},
                    (
                        Span(
                            "strands.telemetry.tracer",
                            {**otel("chat", "strands-agents"), **GPT, **SESSION},
                            otel_usage(
                                100, 12, **{"gen_ai.usage.prompt_tokens": 100,
                                            "gen_ai.usage.completion_tokens": 12},
                            ),
                        ),
                    ),
                ),
            ),
        ),
        [("strands-agents", "gpt-5")], Usage(input=100, output=12),
        id="strands agent over a chat",
    ),
    pytest.param(
        Span(
            "langfuse-sdk", {"langfuse.observation.type": "span", **SESSION}, {},
            (
                Span(
                    "langfuse-sdk", {"langfuse.observation.type": "generation", **SESSION},
                    {"langfuse.observation.model.name": "gpt-5",
                     "langfuse.observation.usage_details": '{"input": 9, "output": 2, "total": 11}'},
                    (Span("opentelemetry.instrumentation.genai.openai", {**otel("chat"), **GPT},
                          otel_usage(9, 2)),),
                ),
            ),
        ),
        [("openai", "gpt-5")], Usage(input=9, output=2),
        id="langfuse span over a generation over openai",
    ),
    pytest.param(
        Span(
            "openinference.instrumentation.smolagents", {"openinference.span.kind": "AGENT", **SESSION},
            oi_usage(30, 5),
            (
                Span(
                    "openinference.instrumentation.smolagents", {"openinference.span.kind": "TOOL"},
                    oi_usage(30, 5),
                    (Span("openinference.instrumentation.openai", {**OI_LLM, **SESSION},
                          {"llm.system": "openai", "llm.model_name": "gpt-5", **oi_usage(30, 5)}),),
                ),
            ),
        ),
        [("openai", "gpt-5")], Usage(input=30, output=5, cache_read=0),
        id="smolagents agent over a tool over a call",
    ),
    pytest.param(
        Span(
            "litellm", SESSION,
            {"llm.request.type": "acompletion", "gen_ai.system": "openai", **GPT, **otel_usage(20, 4)},
            (Span("litellm", {}, {"llm.openai.model": "gpt-5"}),),
        ),
        [("openai", "gpt-5")], Usage(input=20, output=4),
        id="litellm request over its raw request",
    ),
    pytest.param(
        Span(
            "gcp.vertex.agent", {},
            {"gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gemini-3-pro",
             "gcp.vertex.agent.session_id": "s1", **otel_usage(11, 2)},
            (Span("gcp.vertex.agent",
                  {**otel("generate_content", "gcp.vertex_ai"), "gen_ai.request.model": "gemini-3-pro",
                   "gen_ai.conversation.id": "s1"},
                  otel_usage(11, 2)),),
        ),
        [("gcp.vertex_ai", "gemini-3-pro")], Usage(input=11, output=2),
        id="google adk call over generate_content",
    ),
]  # fmt: skip


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
@pytest.mark.parametrize(("nest", "requests", "usage"), NESTS)
def test_each_token_counts_once(
    nest: Span, requests: list[tuple[str, str]], usage: Usage, sampler: Sampler
) -> None:
    """However dialects nest, the calls are the requests and their tokens the total of the session."""
    tracing = Tracing(sampler)
    nest.run(tracing)
    tracing.close()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert [(call.provider, call.model) for call in tracing.calls] == requests
    assert {call.session_id for call in tracing.calls} == {"s1"}
    assert tracing.amendments == []
    totals = {
        kind: sum(known) if (known := [n for n in counts if n is not None]) else None
        for kind, counts in (
            (kind, [dict(record.usage.by_type())[kind] for record in tracing.records])
            for kind, _ in usage.by_type()
        )
    }
    assert Usage(**totals) == usage


def test_a_logged_stream_is_one_request() -> None:
    """Logfire's second span of a stream adds the tokens it knows to the session, and no request."""
    tracing = Tracing()
    said = {**otel("chat"), **GPT, **SESSION}
    Span("logfire.openai", {**said, "logfire.span_type": "span"}, {}).run(tracing)
    Span("logfire.openai", {**said, "logfire.span_type": "log", **otel_usage(9, 2)}, {}).run(tracing)
    tracing.close()
    assert [call.usage for call in tracing.calls] == [Usage()]
    assert [(more.usage, more.session_id, more.model) for more in tracing.amendments] == [
        (Usage(input=9, output=2), "s1", "gpt-5")
    ]
