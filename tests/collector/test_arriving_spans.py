"""Spans through the collector: whole, under their correlation id, without secrets, in the conventions' words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from otel_genapp import bind, init_telemetry, llm_call, semconv
from tests.canary import CANARIES, SEED, benign, found_in
from tests.collector.tracing import export_to, foreign_tracer, inherit, set_all, until
from tests.dialect_spans.openinference import OPENINFERENCE
from tests.dialect_spans.openllmetry import TRACELOOP
from tests.dialect_spans.span import DialectSpan
from tests.fresh import in_fresh_process
from tests.otelcol import Otelcol, running

CALLS = 20
COUNTS = (
    semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS, semconv.CACHE_READ_TOKENS, semconv.CACHE_WRITE_TOKENS,
    semconv.REASONING_TOKENS, semconv.REQUEST_MAX_TOKENS, "llm.usage.total_tokens", "gen_ai.usage.total_tokens",
)  # fmt: skip
DIALECTS = [span for span in (*TRACELOOP, *OPENINFERENCE) if span.span_class == "llm"]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Otelcol]:
    """A collector that writes what arrives to files, and shows metrics."""
    with running("base", "file", "prometheus", folder=tmp_path_factory.mktemp("otelcol")) as collector:
        yield collector


def serve_a_request(settings: dict[str, str], name: str) -> bool:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    set_all(settings)
    app = FastAPI()

    @app.post("/chat")
    def chat() -> str:
        with bind(session_id="anna"), llm_call("gpt-5", "openai") as call:
            call.usage(input=1_234_567, output=89)
        return "hello"

    telemetry = init_telemetry(name, "prod", app=app)
    TestClient(app).post("/chat", headers={"x-correlation-id": "order-42"})
    return telemetry.flush(10) and telemetry.shutdown()


def test_a_request_of_an_application(collector: Otelcol) -> None:
    """The request and the call it made are one trace, both findable by the correlation id."""
    assert in_fresh_process(serve_a_request, export_to(collector), "shop")
    spans = until(lambda: [s for s in collector.file_spans() if s["resource"]["service.name"] == "shop"])
    assert sorted(span["name"] for span in spans) == ["POST /chat", "chat gpt-5"]
    assert {span["attributes"].get("correlation.id") for span in spans} == {"order-42"}
    assert len({span["trace_id"] for span in spans}) == 1
    assert {(span["resource"]["app"], span["resource"]["env"]) for span in spans} == {("shop", "prod")}
    (call,) = [span["attributes"] for span in spans if span["name"] == "chat gpt-5"]
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.usage.output_tokens"]) == (1_234_567, 89)
    assert call["gen_ai.conversation.id"] == call["session.id"] == "anna"


def test_the_metrics_of_an_application(collector: Otelcol) -> None:
    """Prometheus sees the conventional names under app and env; the genapp_ families it scrapes elsewhere."""
    assert in_fresh_process(serve_a_request, export_to(collector), "measured-shop")
    counted = r'^http_server_request_duration_seconds_count\{app="measured-shop",.*env="prod",.*\} 1'
    seen = until(lambda: re.search(counted, collector.prometheus(), re.MULTILINE) and collector.prometheus())
    assert "genapp_" not in seen
    assert "http.server.request.duration" in collector.file_metrics()


def call_without_leave(settings: dict[str, str]) -> dict[str, Any]:
    set_all(settings)
    telemetry = init_telemetry("refused", "prod")
    for _ in range(CALLS):
        with llm_call("gpt-5", "openai") as call:
            call.usage(input=1, output=1)
    flushed = telemetry.flush(2)
    pending = telemetry.status()["otlp"]["spans_pending"]
    body, _ = telemetry.exposition()
    dropped = [
        line
        for line in body.decode().splitlines()
        if line.startswith("genapp_telemetry_dropped_total")
        and 'what="span"' in line
        and not line.endswith(" 0")
    ]
    telemetry.shutdown(1)
    return {"flushed": flushed, "pending": pending, "dropped": dropped}


def test_a_wrong_token(collector: Otelcol, tmp_path: Path) -> None:
    """It is refused, the application keeps its spans and says so; with the right token they arrive."""

    def arrived() -> int:
        return sum(span["resource"]["service.name"] == "refused" for span in collector.file_spans())

    state = str(tmp_path / "state")
    said = in_fresh_process(call_without_leave, export_to(collector, "wrong", GENAPP_STATE_DIR=state))
    assert said == {"flushed": False, "pending": CALLS, "dropped": []}
    assert arrived() == 0
    assert in_fresh_process(inherit, "refused", state, export_to(collector, GENAPP_STATE_DIR=state))
    until(lambda: arrived() == CALLS)


def test_secrets_of_foreign_tracers_are_masked(collector: Otelcol) -> None:
    """No known form of secret passes, wherever on a span it is."""
    key, token = (next(c.text for c in CANARIES if c.form == form) for form in ("openai", "telegram"))
    with foreign_tracer(collector, note=f"at {key}") as tracer:
        for number in range(0, len(CANARIES), 100):  # a span holds 128 attributes
            notes = {
                f"note.{at}": f"it said {c.text} and so on" for at, c in enumerate(CANARIES[number:][:100])
            }
            tracer.start_span(f"planted {number}", attributes=notes).end()
        with tracer.start_as_current_span(f"planted /bot{token}/getMe") as span:
            span.set_attributes(
                {
                    "url.full": f"https://api.telegram.org/bot{token}/getMe?chat=1",
                    "http.request.header.authorization": ["plain"],
                    "api_key": "short",
                    "lines": ["harmless", f"key {key}"],
                    "url.query": "a=b",
                }
            )
            span.add_event("said", {"exception.message": f"no such key {key}"})
            span.set_status(StatusCode.ERROR, f"refused {key}")
    planted = until(
        lambda: (
            len(found := [s for s in collector.file_spans() if s["name"].startswith("planted")]) == 3
            and found
        )
    )
    assert [canary.form for canary in CANARIES if canary.text in found_in(collector.written)] == []
    (last,) = [span["attributes"] for span in planted if "url.full" in span["attributes"]]
    assert last["url.full"] == "https://api.telegram.org/****/getMe"
    assert last["http.request.header.authorization"] == last["api_key"] == "****"
    assert "url.query" not in last


def test_what_is_no_secret_stays(collector: Otelcol) -> None:
    """Ids, models, sentences, token counts and what else spans carry pass unchanged."""
    harmless = list(benign(SEED, 480))
    counts = dict.fromkeys(COUNTS, 1234567)
    with foreign_tracer(collector) as tracer:
        for number in range(0, len(harmless), 100):
            notes = {f"note.{number + at}": text for at, text in enumerate(harmless[number:][:100])}
            tracer.start_span("harmless", attributes={**notes, **counts}).end()
    spans = until(
        lambda: len(found := [s for s in collector.file_spans() if s["name"] == "harmless"]) == 5 and found
    )
    arrived = {key: value for span in spans for key, value in span["attributes"].items()}
    expected = {**{f"note.{at}": text for at, text in enumerate(harmless)}, **counts}
    assert {key: value for key, value in expected.items() if arrived.get(key) != value} == {}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.id)
def test_foreign_calls_get_the_conventions_names(dialect: DialectSpan, collector: Otelcol) -> None:
    """OpenLLMetry and OpenInference calls say provider, model, operation and tokens as ours do."""
    with foreign_tracer(collector) as tracer, tracer.start_as_current_span(dialect.id) as span:
        span.set_attributes(dialect.attributes)
    found = until(lambda: [s["attributes"] for s in collector.file_spans() if s["name"] == dialect.id])[0]
    facts = dialect.facts
    assert {
        "provider": found.get("gen_ai.provider.name"),
        "model": found.get("gen_ai.request.model"),
        "operation": found.get("gen_ai.operation.name"),
        "input": found.get("gen_ai.usage.input_tokens"),
        "output": found.get("gen_ai.usage.output_tokens"),
        "cache_read": found.get("gen_ai.usage.cache_read.input_tokens"),
        "cache_write": found.get("gen_ai.usage.cache_write.input_tokens"),
        "session": found.get("session.id"),
    } == {
        "provider": facts.provider,
        "model": facts.model,
        "operation": facts.operation,
        "input": facts.usage.input,
        "output": facts.usage.output,
        "cache_read": facts.usage.cache_read,
        "cache_write": facts.usage.cache_write,
        "session": facts.session_id,
    }
