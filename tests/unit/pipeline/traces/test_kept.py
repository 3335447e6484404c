"""A span as it is kept: cleaned, bounded, without what people and models said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_genapp import semconv
from otel_genapp.ledger import span_codec
from otel_genapp.pipeline.traces import kept as limits
from otel_genapp.pipeline.traces.kept import kept
from otel_genapp.records import KeptEvent, KeptSpan
from tests.canary import SECRETS, found_in
from tests.dialect_spans.span import DialectSpan
from tests.dialect_spans.table import DIALECT_SPANS


def made(act: Callable[[Span], object] = lambda span: None, name: str = "work", **said: Any) -> ReadableSpan:
    """A finished span of the SDK, on which `act` was done."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    span = provider.get_tracer("scope").start_span(name, **said)
    assert isinstance(span, Span)
    act(span)
    span.end()
    return span


def test_what_is_kept() -> None:
    """Everything a person needs to see, as plain values."""
    parent = trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(1))
    began_ns = time.time_ns() - 10**9

    def act(span: Span) -> None:
        span.set_attributes(
            {semconv.CORRELATION_ID: "cid", "http.route": "/x", "list": ("a", 1), "nan": float("nan")}
        )
        span.record_exception(KeyError("where"), timestamp=began_ns + 5)
        span.add_event("said", {"text": "hello"})
        span.set_status(Status(StatusCode.ERROR, "it broke"))

    span = made(
        act,
        "GET /x",
        context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
        kind=SpanKind.SERVER,
        start_time=began_ns,
        links=[trace.Link(parent)],
    )
    found = kept(span)
    context = span.get_span_context()
    assert context is not None
    [event] = found.events
    stack = event.attributes["exception.stacktrace"]
    assert "KeyError" in stack
    assert found == KeptSpan(
        trace_id=f"{0xA:032x}", span_id=f"{context.span_id:016x}", parent_id=f"{0xB:016x}", correlation_id="cid",
        name="GET /x", kind="server", scope="scope", service="shop", started_at_ns=began_ns,
        duration_ms=found.duration_ms, status="error", status_message="it broke", error_type="KeyError",
        attributes={semconv.CORRELATION_ID: "cid", "http.route": "/x", "list": ["a", 1], "nan": "nan"},
        events=(KeptEvent(name="exception", at_ns=began_ns + 5, attributes={
            "exception.type": "KeyError", "exception.message": "'where'", "exception.stacktrace": stack,
            "exception.escaped": "False",
        }),), links=1,
    )  # fmt: skip
    assert 1000 <= found.duration_ms < 10_000
    assert span_codec.decode(span_codec.encode(found)) == found


def test_without_ids_the_trace_id_is_the_correlation_id() -> None:
    """As it is everywhere else."""
    found = kept(made())
    assert (found.correlation_id, found.parent_id, found.error_type) == (found.trace_id, None, None)


def test_a_span_is_bounded() -> None:
    """Names, texts, lists, attributes and exceptions: what is cut is counted, and ids and errors stay."""

    def act(span: Span) -> None:
        for number in range(120):
            span.set_attribute(f"filler {number}", "x" * 500)
        span.set_attributes({"long": "y" * 5000, "many": tuple(range(100)), semconv.SESSION_ID: "s1"})
        span.set_attributes({semconv.CORRELATION_ID: "cid", semconv.ERROR_TYPE: "TooMuch"})
        for number in range(9):
            span.record_exception(ValueError("z" * 5000 + str(number)))
        span.set_status(Status(StatusCode.ERROR, "w" * 5000))

    found = kept(made(act, "n" * 1000))
    text = span_codec.encode(found)
    assert (
        len(text)
        < limits.ATTRIBUTES_CHARS + limits.EVENTS * (limits.STACK_CHARS + 2 * limits.TEXT_CHARS) + 4000
    )
    assert (found.correlation_id, found.attributes[semconv.SESSION_ID], found.error_type) == (
        "cid",
        "s1",
        "TooMuch",
    )
    assert len(found.events) == limits.EVENTS
    assert (len(found.name), len(found.status_message)) == (limits.NAME_CHARS, limits.TEXT_CHARS)
    # The filler that has no room, the text and the list that are short, five exceptions, four messages.
    assert found.cut > 120 - 16 + 5


def test_long_keys_that_become_one_are_counted() -> None:
    """Whoever sees one of them is told that something is missing."""
    long = "k" * limits.NAME_CHARS
    found = kept(made(lambda span: span.set_attributes({f"{long}1": 1, f"{long}2": 2, "short": 3})))
    assert (len(found.attributes), found.attributes["short"], found.cut) == (2, 3, 2)


def test_the_end_of_a_stack_stays() -> None:
    """It says where it happened."""

    def act(span: Span) -> None:
        span.add_event("exception", {"exception.type": "E", "exception.stacktrace": "a" * 9000 + " here"})

    [event] = kept(made(act)).events
    stack = event.attributes["exception.stacktrace"]
    assert stack.startswith("…[cut]a")
    assert stack.endswith(" here")


@pytest.mark.parametrize(
    ("start_ns", "end_ns"),
    [(-5, -4), (2**63, 2**64), (10**30, 10**30), (10, 5)],
    ids=["negative", "large", "immense", "backward"],
)
def test_odd_times_become_some(start_ns: int, end_ns: int) -> None:
    """A trace of the far future would never be old enough to go."""
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("scope").start_span("odd", start_time=start_ns)
    span.end(end_ns)
    assert isinstance(span, Span)
    found = kept(span)
    assert 0 < found.started_at_ns <= time.time_ns() + limits._DAY_NS
    assert found.duration_ms >= 0


def test_no_secret_is_kept() -> None:
    """Spans go through the choke point of every sink."""
    texts = []
    for secret in SECRETS:

        def act(span: Span, secret: str = secret) -> None:
            span.set_attributes({"note": f"the key is {secret}", "url.full": f"https://u:p@h/?k={secret}"})
            span.set_status(Status(StatusCode.ERROR, f"denied for {secret}"))
            span.record_exception(RuntimeError(f"rejected {secret}"))

        texts.append(span_codec.encode(kept(made(act, f"call {secret}"))))
    assert found_in("\n".join(texts)) == []


WORDS = "The coast is four thousand miles long"
CONTENT: Mapping[str, object] = {
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [WORDS]}]), "gen_ai.output.messages": WORDS,
    "gen_ai.system_instructions": WORDS, "gen_ai.prompt.0.content": WORDS, "gen_ai.completion.0.content": WORDS,
    "gen_ai.tool.call.arguments": WORDS, "gen_ai.tool.call.result": WORDS, "gen_ai.tool.definitions": WORDS,
    "traceloop.entity.input": WORDS, "traceloop.entity.output": WORDS, "llm.prompts": (WORDS,),
    "llm.input_messages.0.message.content": WORDS, "input.value": WORDS, "output.value": WORDS,
    "retrieval.documents.3.document.content": WORDS, "llm.prompt_template.template": WORDS, "tool.parameters": WORDS,
    "ai.prompt": WORDS, "ai.prompt.messages": WORDS, "ai.response.text": WORDS, "ai.response.toolCalls": WORDS,
    "ai.toolCall.args": WORDS, "ai.toolCall.result": WORDS, "langfuse.observation.input": WORDS,
    "langfuse.trace.output": WORDS, "pydantic_ai.all_messages": WORDS, "final_result": WORDS, "events": WORDS,
    "tool_arguments": WORDS, "tool_response": WORDS, "logfire.msg": WORDS, "request_data": WORDS,
    "gcp.vertex.agent.llm_request": WORDS, "gcp.vertex.agent.llm_response": WORDS, "mlflow.spanInputs": WORDS,
    "http.request.body.content": WORDS, "db.query.parameter.0": WORDS, "db.query.result.0.document": WORDS,
    "embedding.embeddings.0.embedding.text": WORDS, "gen_ai.evaluation.explanation": WORDS,
}  # fmt: skip
PLAIN: Mapping[str, object] = {
    "gen_ai.usage.input_tokens": 3, "llm.token_count.prompt": 3, "gen_ai.request.model": "m", "gen_ai.output.type": "text",
    "gen_ai.response.finish_reasons": ("stop",), "http.route": "/x", "url.path": "/x", "db.query.text": "SELECT 1",
    "exception.message": "no", "server.address": "h", "genapp.llm.tool_names": ("search",), "code.function.name": "f",
    "gen_ai.usage.details": "{}", "correlation.id": "c", "session.id": "s", "error.type": "E", "retries": 3,
}  # fmt: skip


def test_what_was_said_is_not_kept() -> None:
    """No dialect's prompts and answers, unless they are asked for; everything else stays."""
    span = made(lambda span: span.set_attributes({**CONTENT, **PLAIN}))  # type: ignore[dict-item]
    assert set(kept(span).attributes) == set(PLAIN)
    assert WORDS not in span_codec.encode(kept(span))
    assert kept(span).cut == 0
    assert WORDS in span_codec.encode(kept(span, with_content=True))


@pytest.mark.parametrize("case", DIALECT_SPANS, ids=lambda case: case.id)
def test_dialects_keep_their_numbers(case: DialectSpan) -> None:
    """Of the spans of each dialect models and every number stay."""
    said = {
        key: value
        for key, value in case.attributes.items()
        if isinstance(value, int | float) or key.endswith("request.model")
    }
    found = kept(made(lambda span: span.set_attributes(case.attributes)))
    assert said.items() <= found.attributes.items()
