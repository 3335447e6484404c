"""From finished spans of a real SDK to records: ids, statuses, times, and nothing that reaches the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.trace import SpanKind, StatusCode

from otel_genapp import semconv
from otel_genapp.context import bind
from otel_genapp.pipeline.events import Event, LLMRequestCompleted, LLMRequestFailed, LLMRequestStarted
from otel_genapp.records import LLMAmendment, LLMCall, Usage
from tests.builders import Tracing, llm_attributes, said, timeless, tokens
from tests.conftest import OwnError

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    made = Tracing()
    yield made
    made.close()


def chat(tracing: Tracing, name: str = "chat", **attributes: Any) -> trace.Span:
    """An open LLM span."""
    return tracing.tracer().start_span(name, kind=SpanKind.CLIENT, attributes=llm_attributes(**attributes))


def test_ids_on_every_span(tracing: Tracing) -> None:
    """What is bound is on every span; an LLM span names the session as its conversation too."""
    with bind(correlation_id="order-7", session_id="s1", user_id=42):
        tracing.tracer().start_span("plain", attributes={"k": 1}).end()
        chat(tracing).end()
    ids = {"correlation.id": "order-7", "session.id": "s1", "user.id": "42"}
    assert dict(tracing.spans["plain"].attributes or {}) == {"k": 1, **ids}
    assert dict(tracing.spans["chat"].attributes or {}) == {
        **llm_attributes(),
        **ids,
        "gen_ai.conversation.id": "s1",
    }
    assert [timeless(record) for record in tracing.records] == [
        said(provider="openai", model="gpt-5", session_id="s1", user_id="42")
    ]
    assert tracing.calls[0].correlation_id == "order-7"


def test_trace_id_is_the_correlation_id(tracing: Tracing) -> None:
    """Without a bound correlation id it is the trace id, and the record names its span."""
    with tracing.tracer().start_as_current_span("root") as root:
        chat(tracing).end()
    trace_id = f"{root.get_span_context().trace_id:032x}"
    span = tracing.spans["chat"].get_span_context()
    assert {(finished.attributes or {})["correlation.id"] for finished in tracing.finished.spans} == {
        trace_id
    }
    call = tracing.calls[0]
    assert span is not None
    assert (call.correlation_id, call.trace_id, call.span_id) == (trace_id, trace_id, f"{span.span_id:016x}")
    assert trace.get_current_span(tracing.contexts[0]).get_span_context() == span


def test_session_from_the_conversation(tracing: Tracing) -> None:
    """A foreign span's conversation id is its session where nothing is bound."""
    chat(tracing, **{semconv.CONVERSATION_ID: "thread-9"}).end()
    assert [record.session_id for record in tracing.records] == ["thread-9"]


def test_bound_context_of_the_parent_counts(tracing: Tracing) -> None:
    """Ids come from the context a span is started in, not from where it happens to be started."""
    with bind(session_id="inside"):
        context = get_current()
    with bind(session_id="elsewhere"):
        tracing.tracer().start_span("chat", context=context, attributes=llm_attributes()).end()
    assert [record.session_id for record in tracing.records] == ["inside"]


def fail_with(error_type: str | None) -> Any:
    def end(span: trace.Span) -> None:
        if error_type is not None:
            span.set_attribute(semconv.ERROR_TYPE, error_type)
        span.set_status(StatusCode.ERROR)
        span.end()

    return end


def raise_inside(error: Exception) -> Any:
    def end(span: trace.Span) -> None:
        with pytest.raises(type(error)), trace.use_span(span, end_on_exit=True):
            raise error

    return end


STATUSES = [
    pytest.param(lambda span: span.end(), "success", None, id="ended"),
    pytest.param(fail_with("RateLimitError"), "fail", "RateLimitError", id="error type"),
    pytest.param(fail_with(None), "fail", "unknown", id="error without type"),
    pytest.param(fail_with("429"), "fail", "429", id="status code"),
    pytest.param(fail_with("asyncio.CancelledError"), "cancelled", "asyncio.CancelledError", id="cancelled"),
    pytest.param(fail_with("GeneratorExit"), "cancelled", "GeneratorExit", id="closed"),
    pytest.param(raise_inside(TimeoutError("no")), "fail", "TimeoutError", id="raised"),
    pytest.param(
        lambda span: (span.set_attribute(semconv.LLM_STATUS, "cancelled"), span.end()),
        "cancelled",
        None,
        id="said",
    ),
    pytest.param(
        lambda span: (span.set_attribute(semconv.LLM_STATUS, "odd"), span.end()), "success", None, id="odd"
    ),
]


@pytest.mark.parametrize(("end", "status", "error_type"), STATUSES)
def test_statuses(tracing: Tracing, end: Any, status: str, error_type: str | None) -> None:
    """A call is successful, failed or cancelled, by what its span says."""
    end(chat(tracing))
    assert [timeless(record) for record in tracing.records] == [
        said(provider="openai", model="gpt-5", status=status, error_type=error_type)
    ]


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
def test_clock_steps_do_not_show(tracing: Tracing, monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    """A wall clock set by an hour while a call runs leaves its duration as it was."""
    before_ns = time.time_ns()
    span = chat(tracing)
    stepped = time.time_ns
    monkeypatch.setattr("opentelemetry.sdk.trace.time_ns", lambda: stepped() + step_ns)
    monkeypatch.setattr(time, "time_ns", lambda: stepped() + step_ns)
    span.end()
    call = tracing.calls[0]
    assert 0 <= call.duration_ms < 1000
    assert before_ns <= call.started_at_ns <= before_ns + 10**9


TIMES = [
    pytest.param(-5_000, -2_000, 3000.0, id="both past"),
    pytest.param(None, 5_000, 5000.0, id="end only"),
    pytest.param(-5_000, None, 5000.0, id="start only"),
    pytest.param(-2_000, -5_000, 0.0, id="ends before it starts"),
]


@pytest.mark.parametrize(("start_ms", "end_ms", "duration_ms"), TIMES)
def test_given_times_count(
    tracing: Tracing, start_ms: int | None, end_ms: int | None, duration_ms: float
) -> None:
    """An instrumentation that gives times of its own has its word on the duration."""
    now_ns = time.time_ns()
    start, end = (None if ms is None else now_ns + ms * 1_000_000 for ms in (start_ms, end_ms))
    tracing.tracer().start_span("late", start_time=start, attributes=llm_attributes()).end(end)
    call = tracing.calls[0]
    assert call.duration_ms == pytest.approx(duration_ms, abs=500)
    assert call.started_at_ns == pytest.approx(start or now_ns, abs=500_000_000)


@pytest.mark.parametrize("moment", [10**30, -(10**30), float("inf"), float("nan"), 1.5e18, "then"])
def test_senseless_times_poison_nothing(tracing: Tracing, moment: Any) -> None:
    """A start or an end no calendar knows gives a call that can still be stored and shown."""
    tracing.tracer().start_span("start", start_time=moment, attributes=llm_attributes()).end()
    chat(tracing).end(moment)
    for call in tracing.calls:
        assert type(call.started_at_ns) is int
        assert 0 < call.started_at_ns < 1 << 63
        assert 0 <= call.duration_ms < 1 << 63
    assert len(tracing.calls) == 2


def test_attribute_eviction() -> None:
    """200 attributes set later push the first ones out of a span, not out of its record."""
    tracing = Tracing(limits=SpanLimits(max_span_attributes=128))
    with bind(session_id="s1"):
        span = chat(tracing)
    for number in range(200):
        span.set_attribute(f"detail.{number}", number)
    span.set_attributes(tokens(9, 3))
    span.end()
    assert semconv.OPERATION not in (tracing.spans["chat"].attributes or {})
    assert [timeless(record) for record in tracing.records] == [
        said(provider="openai", model="gpt-5", session_id="s1", usage=Usage(input=9, output=3))
    ]


def test_nested_spans_make_one_call(tracing: Tracing) -> None:
    """A framework's span over the SDK's is one record with the facts of both, and one thing in flight."""
    outer = chat(tracing, "outer", model="alias")
    with trace.use_span(outer):
        inner = tracing.tracer().start_span(
            "inner", attributes={semconv.OPERATION: "chat", semconv.RESPONSE_MODEL: "gpt-5-2026"}
        )
        in_flight = [tracing.processor.in_flight]
        inner.set_attributes({**tokens(7, 2), semconv.RESPONSE_ID: "r1", semconv.TOOL_NAMES: ("find",)})
        inner.end()
        assert tracing.records == []
    in_flight.append(tracing.processor.in_flight)
    outer.end()
    in_flight.append(tracing.processor.in_flight)
    assert in_flight == [1, 1, 0]
    assert [timeless(record) for record in tracing.records] == [
        said(
            provider="openai",
            model="alias",
            response_model="gpt-5-2026",
            usage=Usage(input=7, output=2),
            response_id="r1",
            tool_calls=1,
            tool_names=("find",),
        )
    ]


def test_late_child_amends(tracing: Tracing) -> None:
    """A stream that outlives its span is an amendment of the same call."""
    outer = chat(tracing, "outer")
    with trace.use_span(outer):
        inner = chat(tracing, "inner")
    outer.set_attributes(tokens(7))
    outer.end()
    inner.set_attributes(tokens(7, 5))
    inner.end()
    assert [timeless(record) for record in tracing.records] == [
        said(provider="openai", model="gpt-5", usage=Usage(input=7)),
        LLMAmendment(call_id="", seq=1, at_ns=0, provider="openai", model="gpt-5", usage=Usage(output=5)),
    ]
    assert {record.call_id for record in tracing.records} == {tracing.calls[0].call_id}


def test_agent_residual_is_an_amendment(tracing: Tracing) -> None:
    """What only an agent's span knows is added under an id of its own, without a request."""
    agent = tracing.tracer().start_span(
        "agent", attributes={semconv.OPERATION: "invoke_agent", semconv.SESSION_ID: "s1", **tokens(50)}
    )
    agent.end()
    assert [timeless(record) for record in tracing.records] == [
        LLMAmendment(call_id="", seq=1, at_ns=0, usage=Usage(input=50), session_id="s1")
    ]


def test_kind_named_at_the_end(tracing: Tracing) -> None:
    """A span that says only at its end what it was is counted."""
    span = tracing.tracer("opentelemetry.instrumentation.openai").start_span("POST")
    span.set_attributes({**llm_attributes(), **tokens(4, 1)})
    span.end()
    unknown_scope = tracing.tracer("house-made").start_span("POST")
    unknown_scope.set_attributes({**llm_attributes(), **tokens(6)})
    unknown_scope.end()
    assert [timeless(record) for record in tracing.records] == [
        said(provider="openai", model="gpt-5", usage=Usage(input=4, output=1)),
        said(provider="openai", model="gpt-5", usage=Usage(input=6)),
    ]


def test_invalid_usage_is_counted(tracing: Tracing) -> None:
    """Numbers that are none are dropped, counted, and stay unknown."""
    span = chat(tracing)
    span.set_attributes({semconv.INPUT_TOKENS: -3, semconv.OUTPUT_TOKENS: "many"})
    span.end()
    assert tracing.dropped == {("usage", "invalid_value"): 2}
    assert [record.usage for record in tracing.records] == [Usage()]


def test_secrets_stay_out_of_records(tracing: Tracing) -> None:
    """A key put where a model belongs does not reach a record."""
    key = "sk-" + "proj-" + "a1B2" * 12
    chat(tracing, model=key, **{semconv.RESPONSE_MODEL: f"m {key}"}).end()
    assert key not in repr(tracing.records)


@pytest.mark.expected_own_errors
def test_a_raising_pipeline_does_not_reach_the_host(own_errors: list[OwnError]) -> None:
    """Where keeping records fails, the application gets its own result and its own exception."""
    tracing = Tracing()

    def refuse(_record: object, _context: Context) -> None:
        raise OSError("disk full")

    tracing.processor._emit = refuse
    error = KeyError("the application's")
    with (
        pytest.raises(KeyError) as caught,
        tracing.tracer().start_as_current_span("chat", attributes=llm_attributes()),
    ):
        raise error
    assert caught.value is error
    chat(tracing, "chat 2").end()
    assert [(own.site, type(own.error)) for own in own_errors] == [("pipeline", OSError)] * 2
    assert [span.name for span in tracing.finished.spans] == ["chat", "chat 2"]


def test_events(tracing: Tracing) -> None:
    """Subscribers hear of start and end once for each call, nested spans aside."""
    heard: list[Event] = []
    tracing.bus.subscribe(heard.append)
    with bind(session_id="s1", correlation_id="c1"):
        outer = chat(tracing, "outer")
        with trace.use_span(outer):
            chat(tracing, "inner").end()
        outer.end()
        fail_with("Overloaded")(chat(tracing, "failing"))
    assert tracing.bus.drain(5)
    first, second = tracing.calls
    starts = [
        LLMRequestStarted(
            call_id=call.call_id,
            at_ns=event.at_ns if isinstance(event, LLMRequestStarted) else 0,
            provider="openai",
            model="gpt-5",
            operation="chat",
            session_id="s1",
            correlation_id="c1",
        )
        for call, event in ((first, heard[0]), (second, heard[2]))
    ]
    assert heard == [starts[0], LLMRequestCompleted(first), starts[1], LLMRequestFailed(second)]
    assert tracing.events == {("created", ""): 4, ("delivered", ""): 4}


@pytest.mark.expected_own_errors
def test_raising_subscribers_do_not_reach_the_host(tracing: Tracing, own_errors: list[OwnError]) -> None:
    """A subscriber that raises is counted; the others and the application go on."""
    heard: list[Event] = []

    def refuse(_event: Event) -> None:
        raise ValueError("subscriber")

    tracing.bus.subscribe(refuse)
    tracing.bus.subscribe(heard.append)
    chat(tracing).end()
    assert tracing.bus.drain(5)
    assert [type(event) for event in heard] == [LLMRequestStarted, LLMRequestCompleted]
    assert tracing.events == {("created", ""): 2, ("dropped", "subscriber_error"): 2}
    assert [own.site for own in own_errors] == ["subscriber"] * 2


def test_calls_that_never_end_are_counted(tracing: Tracing) -> None:
    """At the end the calls still open are counted as lost, each once, and nothing is in flight."""
    open_ones = [chat(tracing, str(number)) for number in range(3)]
    open_ones[0].end()
    tracing.processor.abandon_all()
    tracing.processor.abandon_all()
    assert tracing.processor.in_flight == 0
    assert tracing.dropped == {("llm_call", "never_ended"): 2}


def test_reset_in_a_child(tracing: Tracing) -> None:
    """After a reset nothing is in flight and ids do not repeat."""
    chat(tracing).end()
    abandoned = chat(tracing, "abandoned")
    tracing.processor.reset()
    assert tracing.processor.in_flight == 0
    abandoned.end()
    chat(tracing, "next").end()
    ids = [record.call_id for record in tracing.records]
    assert len({call_id.partition("-")[0] for call_id in ids}) == 2
    assert all(isinstance(record, LLMCall) for record in tracing.records)


def test_a_call_is_of_the_session_its_agent_names() -> None:
    """A framework's agent span says the conversation, the calls below it do not repeat it."""
    tracing = Tracing()
    agent = {semconv.OPERATION: "invoke_agent", semconv.CONVERSATION_ID: "anna"}
    start = tracing.tracer().start_as_current_span
    with start("invoke_agent", attributes=agent), start("chat", attributes=llm_attributes()) as span:
        span.set_attributes(tokens(5, 2))
    tracing.close()
    assert [call.session_id for call in tracing.calls] == ["anna"]


def test_a_reason_nobody_knows_is_no_failure() -> None:
    """util-genai writes `error` where it does not know why a choice ended: the status decides."""
    tracing = Tracing()
    with tracing.tracer().start_as_current_span("chat", attributes=llm_attributes()) as span:
        span.set_attribute(semconv.FINISH_REASONS, ("error",))
    tracing.close()
    assert [call.status for call in tracing.calls] == ["success"]
