"""`llm_call`: one span and one record for each call, however calls nest and blocks end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.genai._conversation_context import get_ambient_conversation_id
from opentelemetry.util.genai.handler import TelemetryHandler

from otel_genapp import hub, semconv
from otel_genapp.capture import llm_call as llm_call_module
from otel_genapp.capture import llm_nesting
from otel_genapp.capture.actions import action_tracking
from otel_genapp.capture.llm_call import Call, llm_call
from otel_genapp.context import bind, current
from otel_genapp.records import Usage
from tests.builders import Tracing, producing, said, timeless
from tests.fakes import Measurement, RecordingFamilies


@pytest.fixture
def tracing() -> Tracing:
    return Tracing()


@pytest.fixture(autouse=True)
def families(tracing: Tracing) -> Iterator[RecordingFamilies]:
    with producing(tracing) as running:
        yield running


@pytest.fixture
def handler(tracing: Tracing) -> TelemetryHandler:
    return TelemetryHandler(tracer_provider=tracing.provider)


@pytest.fixture(autouse=True)
def no_context_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every test ends in the context it began in, without a word from OpenTelemetry about it."""
    before = get_current()
    yield
    assert get_current() is before
    assert [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith("opentelemetry")
    ] == []


class ProviderError(Exception):
    def __init__(self, status_code: object) -> None:
        super().__init__("no")
        self.status_code = status_code


def records(tracing: Tracing) -> list[Any]:
    return [timeless(record) for record in tracing.records]


def test_everything_a_call_says(tracing: Tracing) -> None:
    """What the block says is on the span, by the conventions, and in the record."""
    with bind(correlation_id="order-7"), llm_call("gpt-5", "openai", session_id="s1", user_id=42) as call:
        call.first_token()
        call.usage(input=100, output=20, cache_read=64, cache_write=8, reasoning=5)
        call.tools("search")
        call.tools("buy", "buy")
        call.response(model="gpt-5-2026", id="r1", finish_reasons=["tool_calls"])
        call.cost(0.0015)
    span = tracing.spans["chat gpt-5"]
    attributes = dict(span.attributes or {})
    first_chunk_s = attributes.pop(semconv.FIRST_CHUNK_S)
    assert isinstance(first_chunk_s, float)
    assert 0 <= first_chunk_s < 1
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2026",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.cache_write.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "genapp.llm.tool_names": ("search", "buy", "buy"),
        "genapp.llm.tool_calls": 3,
        "genapp.llm.cost_usd": 0.0015,
        "correlation.id": "order-7",
        "session.id": "s1",
        "user.id": "42",
        "gen_ai.conversation.id": "s1",
    }
    assert records(tracing) == [
        said(
            provider="openai",
            model="gpt-5",
            response_model="gpt-5-2026",
            usage=Usage(100, 20, 64, 8, 5),
            tool_calls=3,
            tool_names=("search", "buy", "buy"),
            finish_reasons=("tool_calls",),
            response_id="r1",
            cost_nano_usd=1_500_000,
            session_id="s1",
            user_id="42",
        )
    ]


@pytest.mark.parametrize("junk", [-1, 1.5, "many", None, True, float("nan"), 10**400, [], {}])
def test_junk_usage_stays_unknown(tracing: Tracing, junk: Any) -> None:
    """What is no count leaves what was said before."""
    with llm_call("m", "p") as call:
        call.usage(input=5)
        call.usage(input=junk, output=junk)
    assert [record.usage for record in tracing.records] == [Usage(input=5)]


ENDINGS = [
    pytest.param(ValueError("no"), "fail", "ValueError", id="error"),
    pytest.param(ProviderError(429), "fail", "429", id="status code"),
    pytest.param(ProviderError("odd"), "fail", "ProviderError", id="odd status code"),
    pytest.param(asyncio.CancelledError(), "cancelled", "CancelledError", id="cancelled"),
    pytest.param(GeneratorExit(), "cancelled", "GeneratorExit", id="closed"),
    pytest.param(KeyboardInterrupt(), "cancelled", "KeyboardInterrupt", id="interrupted"),
]


@pytest.mark.parametrize(("error", "status", "error_type"), ENDINGS)
def test_what_leaves_the_block(tracing: Tracing, error: BaseException, status: str, error_type: str) -> None:
    """An exception or a cancellation passes as it is and says how the call ended."""

    def ask() -> None:
        with llm_call("m", "p") as call:
            call.usage(output=3)
            raise error

    with pytest.raises(type(error)) as caught:
        ask()
    assert caught.value is error
    assert tracing.spans["chat m"].status.status_code is StatusCode.ERROR
    assert records(tracing) == [
        said(provider="p", model="m", status=status, error_type=error_type, usage=Usage(output=3))
    ]


def test_failing_by_hand(tracing: Tracing) -> None:
    """`to_fail` makes a call without an exception a failure."""
    with llm_call("m", "p", operation="embeddings") as call:
        call.to_fail("content_filter")
    assert records(tracing) == [
        said(provider="p", model="m", operation="embeddings", status="fail", error_type="content_filter")
    ]


def test_the_error_is_counted_once(families: RecordingFamilies) -> None:
    """The action around a failed call leaves the error to the call, whose record is counted."""
    with pytest.raises(ProviderError), action_tracking("chat_handler"), llm_call("m", "p"):
        raise ProviderError(500)
    assert families.of("errors") == []
    assert families.of("action_count") == [Measurement("action_count", 1, ("chat_handler", "fail"))]


def test_nested_calls_are_one(tracing: Tracing) -> None:
    """A call inside another makes no span; what only it knows goes to the outer one."""
    with llm_call("alias", "router", session_id="s1") as outer:
        outer.usage(output=9)
        with llm_call("gpt-5", "openai") as inner:
            inner.usage(input=100, output=20)
            inner.response(model="gpt-5-2026", id="r1", finish_reasons=["stop"])
            inner.tools("search")
            inner.cost(0.5)
    assert list(tracing.spans) == ["chat alias"]
    assert records(tracing) == [
        said(
            provider="router",
            model="alias",
            response_model="gpt-5-2026",
            usage=Usage(input=100, output=20),
            tool_calls=1,
            tool_names=("search",),
            finish_reasons=("stop",),
            response_id="r1",
            cost_nano_usd=500_000_000,
            session_id="s1",
        )
    ]


def test_nested_calls_add_up(tracing: Tracing) -> None:
    """Tokens, cost and tools of several calls inside one are all in it, a failed attempt's too."""
    with llm_call("alias", "router") as outer:
        outer.usage(input=1, output=1)
        for tokens, cost, tool in ((10, 0.5, "search"), (20, 0.25, "order")):
            with suppress(RuntimeError), llm_call("gpt-5", "openai") as inner:
                inner.usage(input=tokens, output=tokens)
                inner.cost(cost)
                inner.tools(tool)
                raise RuntimeError
    [call] = records(tracing)
    assert (call.usage, call.cost_nano_usd, call.tool_names, call.tool_calls) == (
        Usage(input=30, output=30), 750_000_000, ("search", "order"), 2,
    )  # fmt: skip


def test_calls_after_one_another_are_two(tracing: Tracing) -> None:
    """Calls side by side under one span do not merge."""
    with tracing.tracer().start_as_current_span("request"):
        for model in ("a", "b"):
            with llm_call(model, "p") as call:
                call.usage(input=1)
    assert records(tracing) == [said(provider="p", model=model, usage=Usage(input=1)) for model in "ab"]


def test_genai_instrumentation_inside_a_call(tracing: Tracing, handler: TelemetryHandler) -> None:
    """util-genai's own call inside ours: one span, its tokens, our session."""
    with (
        llm_call("gpt-5", "openai", session_id="s1"),
        handler.inference("openai", request_model="gpt-5") as inner,
    ):
        inner.input_tokens, inner.output_tokens = 100, 20
        inner.response_model_name, inner.finish_reasons = "gpt-5-2026", ["stop"]
    assert list(tracing.spans) == ["chat gpt-5"]
    assert records(tracing) == [
        said(
            provider="openai",
            model="gpt-5",
            response_model="gpt-5-2026",
            usage=Usage(input=100, output=20),
            finish_reasons=("stop",),
            session_id="s1",
        )
    ]


def test_a_call_inside_genai_instrumentation(tracing: Tracing, handler: TelemetryHandler) -> None:
    """Ours inside util-genai's: one span, theirs, with our numbers and our session."""
    with bind(session_id="s1"), handler.inference("openai", request_model="gpt-5"), llm_call("x") as call:
        call.usage(input=100, output=20)
        call.tools("search")
        call.cost(0.5)
    assert list(tracing.spans) == ["chat gpt-5"]
    assert records(tracing) == [
        said(
            provider="openai",
            model="gpt-5",
            usage=Usage(input=100, output=20),
            tool_calls=1,
            tool_names=("search",),
            cost_nano_usd=500_000_000,
            session_id="s1",
        )
    ]


def test_the_conversation_travels(tracing: Tracing, handler: TelemetryHandler) -> None:
    """The bound session is util-genai's conversation inside a call, and theirs is ours."""
    with llm_call("m", "p", session_id="s1"):
        assert get_ambient_conversation_id() == "s1"
    assert get_ambient_conversation_id() is None
    agent = handler.invoke_local_agent(agent_name="a", conversation_id="thread-9")
    with agent, llm_call("m", "p"):
        pass
    assert [call.session_id for call in tracing.calls] == ["s1", "thread-9"]


@pytest.mark.parametrize("with_genai", [True, False])
def test_without_util_genai(tracing: Tracing, monkeypatch: pytest.MonkeyPatch, with_genai: bool) -> None:
    """Where util-genai is not installed calls nest all the same."""
    if not with_genai:
        monkeypatch.setattr(llm_call_module, "_conversation", lambda: None)
        monkeypatch.setattr(llm_call_module, "inference_data", lambda: llm_nesting._OwnInferenceData)
    with llm_call("m", "p"), llm_call("inner") as inner:
        inner.usage(input=3)
        inner.tools("search")
    assert records(tracing) == [
        said(provider="p", model="m", usage=Usage(input=3), tool_calls=1, tool_names=("search",))
    ]


def test_chunks_pass_unchanged(tracing: Tracing) -> None:
    """`chunks` hands on the very chunks and marks when the first one came."""
    chunks = [object(), object()]
    with llm_call("m", "p") as call:
        received = list(call.chunks(iter(chunks)))
    assert all(one is other for one, other in zip(received, chunks, strict=True))
    first_token_ms = tracing.calls[0].first_token_ms
    assert first_token_ms is not None
    assert 0 <= first_token_ms <= tracing.calls[0].duration_ms


async def test_asynchronous_chunks_pass_unchanged(tracing: Tracing) -> None:
    """`chunks` does the same for an asynchronous stream, in an `async with`."""

    async def stream() -> AsyncIterator[int]:
        for chunk in range(3):
            yield chunk

    async with llm_call("m", "p") as call:
        received = [chunk async for chunk in call.chunks(stream())]
    assert received == [0, 1, 2]
    assert tracing.calls[0].first_token_ms is not None


async def test_cancelled_at_an_await(tracing: Tracing) -> None:
    """A task cancelled inside a call is cancelled, and so is the call."""
    started = asyncio.Event()

    async def ask() -> None:
        async with llm_call("m", "p"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(ask())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.status for call in tracing.calls] == ["cancelled"]


def test_without_telemetry_nothing_happens(tracing: Tracing) -> None:
    """Without running telemetry a call is a block like any other."""
    hub.set_active(None)
    with llm_call("m", session_id="s1") as call:
        call.usage(input=1)
        call.to_fail()
        call.tools("x")
        assert list(call.chunks([1])) == [1]
        assert current().session_id is None
    assert isinstance(call, Call)
    assert tracing.finished.spans == []


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text of me")


def test_hostile_arguments_do_not_raise(expected_own_errors: list[Any], tracing: Tracing) -> None:
    """Arguments that cannot be read cost telemetry, not the call."""
    arguments: Any = Hostile()
    with llm_call(arguments, arguments, session_id=arguments) as call:
        call.tools(arguments)
        call.response(model=arguments)
        call.cost(arguments)
    assert {own.site for own in expected_own_errors} == {"capture", "context"}
    assert current().session_id is None
