"""A call of the openai SDK: bare, ours, and the peers beside it, each at its defaults.

Peers that bring no exporter get what our arm has, a batch processor in front of an exporter that
counts. They have no meters; ours counts, measures and keeps every call besides.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.bench import llm_traffic
from tests.bench.arm import Arm, count_spans, counting_exporter, expect, nothing

WORKS = ("call", "stream", "whole")
"""Calls; streams, parsed beforehand; streams, parsed by the SDK."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What was set up: `deliver` ends what is owed to the calls so far, `check` knows their number."""

    deliver: Callable[[], None] = nothing
    check: Callable[[int], None] = lambda _total: None


def bare(_folder: Path, _work: str) -> Watch:
    """The SDK and nothing else."""
    return Watch()


def ours(folder: Path, _work: str) -> Watch:
    """Everything on: the span, the `genapp_llm_*` and `genapp_http_*` families, the ledger's record."""
    from opentelemetry import trace

    from otel_genapp import init_telemetry

    os.environ["OTEL_TRACES_SAMPLER"] = "always_on"
    os.environ["GENAPP_STATE_DIR"] = mkdtemp(dir=folder)
    telemetry = init_telemetry("bench", env="dev", internal_auth="bench")
    provider: Any = trace.get_tracer_provider()
    exporter = count_spans(provider)

    def deliver() -> None:
        provider.force_flush()
        expect("flushed", telemetry.flush(), True)

    def check(total: int) -> None:
        expect("spans exported", exporter.exported, total)
        found = telemetry.totals()
        tokens = (total * llm_traffic.INPUT_TOKENS, total * llm_traffic.OUTPUT_TOKENS)
        expect(
            "calls and tokens of the ledger",
            (found["total_requests"], found["total_prompt_tokens"], found["total_completion_tokens"]),
            (total, *tokens),
        )

    return Watch(deliver=deliver, check=check)


def floor(_folder: Path, _work: str) -> Watch:
    """The least a layer on the wire does."""
    from tests.bench.llm_floor import watch

    provider = _provider()
    watch(provider.get_tracer("floor"))
    return _spans(provider)


def otel(_folder: Path, _work: str) -> Watch:
    """OpenTelemetry's own instrumentation; no content."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    provider = _provider()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return _spans(provider)


def openllmetry(_folder: Path, _work: str) -> Watch:
    """Traceloop's; content."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider = _provider()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return _spans(provider)


def openinference(_folder: Path, _work: str) -> Watch:
    """Arize's; content."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = _provider()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return _spans(provider)


def openlit(folder: Path, _work: str) -> Watch:
    """OpenLIT; content, and a span of httpx besides. Its prices are in a file, it would download them."""
    import openlit as product

    prices = folder / "openlit_prices.json"
    prices.write_text(
        json.dumps({"chat": {llm_traffic.MODEL: {"promptPrice": 0.0025, "completionPrice": 0.01}}}),
        encoding="utf-8",
    )
    # Without these it prints to the console, and of these it complains.
    os.environ.update(OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")
    logging.getLogger("openlit").setLevel(logging.ERROR)
    provider = _provider()
    product.init(pricing_json=str(prices))
    return _spans(provider, per_call=2)


def logfire(_folder: Path, work: str) -> Watch:
    """Logfire, sending nowhere; content, and for a stream a second span."""
    import logfire as product
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = counting_exporter()
    product.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[BatchSpanProcessor(exporter)],
    )
    product.instrument_openai()
    per_call = 1 if work == "call" else 2
    return Watch(
        deliver=product.force_flush,
        check=lambda total: expect("spans exported", exporter.exported, total * per_call),
    )


def langfuse(_folder: Path, _work: str) -> Watch:
    """Langfuse's drop-in, which patches the SDK; content."""
    import langfuse as product
    import langfuse.openai

    exporter = counting_exporter()
    running = product.Langfuse(
        public_key="pk-lf-bench",
        secret_key="sk-lf-bench",
        base_url="http://127.0.0.1:9",
        span_exporter=exporter,
    )
    return Watch(
        deliver=running.flush, check=lambda total: expect("spans exported", exporter.exported, total)
    )


SET_UPS: tuple[Callable[[Path, str], Watch], ...] = (
    bare, ours, floor, otel, openllmetry, openinference, openlit, logfire, langfuse,
)  # fmt: skip


def _provider() -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


def _spans(provider: Any, *, per_call: int = 1) -> Watch:
    exporter = count_spans(provider)
    return Watch(
        deliver=provider.force_flush,
        check=lambda total: expect("spans exported", exporter.exported, total * per_call),
    )


def _arm(set_up: Callable[[Path, str], Watch], work: str, folder: Path) -> Arm:
    if work == "stream":
        llm_traffic.parse_beforehand()
    watch = set_up(folder, work)
    send = llm_traffic.calls() if work == "call" else llm_traffic.streams()

    def run(count: int) -> None:
        send(count)
        watch.deliver()

    return Arm(run=run, check=watch.check)


ARMS: dict[str, Callable[[Path], Arm]] = {
    f"{set_up.__name__}.{work}": partial(_arm, set_up, work) for set_up in SET_UPS for work in WORKS
}
