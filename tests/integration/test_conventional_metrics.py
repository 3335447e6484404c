"""The conventional metrics of LLM calls leave over OTLP, for calls whose spans are ours."""

from __future__ import annotations

import os

from opentelemetry import trace

from otel_genapp import init_telemetry, llm_call
from tests.faults.flaky_collector import collecting
from tests.fresh import in_fresh_process


def make_calls(endpoint: str) -> bool:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    with init_telemetry("shop-bot", env="dev") as telemetry:
        for number in range(3):
            with llm_call("gpt-5", provider="openai") as call:
                call.usage(input=100 + number, output=20)
                call.first_token()
        with llm_call("gpt-5", provider="openai"):
            pass  # nobody said how many tokens it took
        # Another instrumentation's: that one measures its calls itself.
        with trace.get_tracer("opentelemetry.instrumentation.openai.v1").start_as_current_span(
            "chat gpt-5", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
        ):
            pass
        return telemetry.flush(10)


def test_calls_are_measured_by_the_conventions() -> None:
    """Each of our calls once, tokens where somebody reported them; a foreign span's call not at all."""
    with collecting() as collector:
        assert in_fresh_process(make_calls, collector.endpoint)
        assert {
            name: collector.total(f"gen_ai.client.{name}", service="shop-bot")
            for name in ("operation.duration", "operation.time_to_first_chunk", "token.usage")
        } == {"operation.duration": 4, "operation.time_to_first_chunk": 3, "token.usage": 6}
        assert collector.total("genapp_llm_requests", service="shop-bot") == 5
