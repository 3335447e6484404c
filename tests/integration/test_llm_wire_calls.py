"""Calls on the wire through real SDKs: attempts, holders, lost contexts, each counted once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry import context, trace

from otel_genapp import bind, hub, llm_call, semconv
from otel_genapp.capture.llm_wire import reaper, retries
from otel_genapp.fake_llm import Answer, ErrorStatus, FakeLLMServer
from otel_genapp.testing import Captured, capture_telemetry
from tests.canned import Canned, serving

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    """The model."""
    with FakeLLMServer() as running:
        yield running


@pytest.fixture
def got() -> Iterator[Captured]:
    """What was reported."""
    with capture_telemetry() as captured, bind(session_id="anna"):
        yield captured


def sdk(server: FakeLLMServer, **settings: Any) -> openai.OpenAI:
    """The openai SDK, pointed at the fake."""
    return openai.OpenAI(base_url=server.base_url, api_key="x", **settings)


def ask(client: openai.OpenAI, **more: Any) -> Any:
    """One chat completion."""
    return client.chat.completions.create(model="gpt-5", messages=MESSAGES, **more)


def counts(got: Captured) -> tuple[Any, ...]:
    """(requests, failed, prompt tokens, completion tokens) of the session, nothing outside of it."""
    session = got.session("anna")
    assert got.telemetry.totals()["no_session"]["total_requests"] == 0
    if session is None:
        return (0, 0, 0, 0)
    names = ("total_requests", "failed_requests", "total_prompt_tokens", "total_completion_tokens")
    return tuple(session[name] for name in names)


def attempts(got: Captured) -> dict[str, float]:
    """Attempts by status."""
    statuses = ("200", "400", "429", "500", "503", "error", "timeout")
    found = {status: got.value("genapp_llm_attempts_total", status=status) for status in statuses}
    return {status: count for status, count in found.items() if count}


def test_retries_are_attempts_of_one_call(server: FakeLLMServer, got: Captured) -> None:
    """429 and 503, then the answer: one call, one span, three attempts."""
    server.script(
        ErrorStatus(429, retry_after_s=0),
        ErrorStatus(503, retry_after_s=0),
        Answer(input_tokens=7, output_tokens=3),
    )
    with sdk(server) as client:
        ask(client)
    assert counts(got) == (1, 0, 7, 3)
    assert attempts(got) == {"200": 1, "429": 1, "503": 1}
    [span] = [span for span in got.spans if span.name == "chat gpt-5"]
    assert (span.attributes or {})[semconv.ATTEMPTS] == ("429", "503", "200")


async def test_retries_in_tasks_keep_apart(server: FakeLLMServer, got: Captured) -> None:
    """Calls that retry side by side in one loop stay calls of their own."""
    server.script(*[ErrorStatus(429, retry_after_s=0)] * 8)
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", max_retries=8) as client:
        create = client.chat.completions.create
        await asyncio.gather(*[create(model="gpt-5", messages=MESSAGES) for _ in range(8)])
    assert counts(got)[:2] == (8, 0)
    assert attempts(got) == {"200": 8, "429": 8}


def test_the_last_retry_decides(server: FakeLLMServer, got: Captured) -> None:
    """When no retries are left the call has failed, at once."""
    server.script(ErrorStatus(429, retry_after_s=0), ErrorStatus(500, retry_after_s=0))
    with sdk(server, max_retries=1) as client, pytest.raises(openai.InternalServerError):
        ask(client)
    assert counts(got)[:2] == (1, 1)
    assert attempts(got) == {"429": 1, "500": 1}


def test_what_no_sdk_retries_is_decided_at_once(server: FakeLLMServer, got: Captured) -> None:
    """A 400 through an SDK with retries, and a 429 of a plain client, are calls that failed."""
    server.script(ErrorStatus(400), ErrorStatus(429))
    with sdk(server) as client, pytest.raises(openai.BadRequestError):
        ask(client)
    body = {"model": "gpt-5", "messages": MESSAGES}
    assert httpx2.post(f"{server.base_url}/chat/completions", json=body).status_code == 429
    assert counts(got)[:2] == (2, 2)


def test_a_refused_connection_is_a_failed_call(got: Captured) -> None:
    """Nobody listens: one call, the SDK's attempts in it."""
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=1)
    with client, pytest.raises(openai.APIConnectionError):
        ask(client)
    assert counts(got)[:2] == (1, 1)
    assert attempts(got) == {"error": 2}


def test_a_retry_that_never_comes_ends_the_call(
    server: FakeLLMServer, got: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call held for an attempt that was given up fails when its last attempt did."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    server.script(ErrorStatus(429, retry_after_s=30))
    with sdk(server) as client, pytest.raises(KeyboardInterrupt):
        ask(client)
    assert counts(got) == (0, 0, 0, 0)
    running = hub.active
    assert running is not None
    monkeypatch.setattr(retries, "perf_counter", lambda: time.perf_counter() + 1000)
    reaper.reap(running)
    assert counts(got)[:2] == (1, 1)
    session = got.session("anna")
    assert session is not None
    assert session["requests"][0]["duration_ms"] < 5000


def test_a_stream_nobody_reads_ends(server: FakeLLMServer, got: Captured) -> None:
    """A stream that was held and not read for long is cancelled, and stays so."""
    with sdk(server) as client:
        stream = ask(client, stream=True)
        running = hub.active
        assert running is not None
        reaper.reap(running, abandoned_s=-1)
        assert counts(got)[:2] == (1, 1)
        list(stream)
    assert counts(got)[:2] == (1, 1)


def test_a_call_by_hand_holds_the_one_inside(server: FakeLLMServer, got: Captured) -> None:
    """`llm_call` around an SDK's call: one call, its numbers from the wire."""
    server.script(ErrorStatus(429, retry_after_s=0), Answer(input_tokens=7, output_tokens=3, cached_tokens=2))
    with sdk(server) as client, llm_call("gpt-5", provider="openai"):
        ask(client)
    assert counts(got) == (1, 0, 7, 3)
    assert attempts(got) == {"200": 1, "429": 1}
    assert [span.name for span in got.spans if semconv.OPERATION in (span.attributes or {})] == ["chat gpt-5"]


FOREIGN = "openinference.instrumentation.shop"


def foreign_span(**attributes: Any) -> Any:
    """An LLM span of another instrumentation, with another instrumentation's words."""
    start = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-5", **attributes}
    return trace.get_tracer(FOREIGN).start_span("ChatOpenAI", attributes=start)


def test_an_outer_span_is_filled(server: FakeLLMServer, got: Captured) -> None:
    """What an instrumentation's span does not say comes from the wire: tokens, id, attempts."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client, trace.use_span(foreign_span(), end_on_exit=True):
        ask(client)
    assert counts(got) == (1, 0, 7, 3)
    [span] = [span for span in got.spans if span.name == "ChatOpenAI"]
    said = dict(span.attributes or {})
    assert (said[semconv.INPUT_TOKENS], said[semconv.OUTPUT_TOKENS]) == (7, 3)
    assert said[semconv.ATTEMPTS] == ("200",)
    assert [span.name for span in got.spans if span.name.startswith("chat ")] == []


def test_an_outer_spans_own_words_count(server: FakeLLMServer, got: Captured) -> None:
    """Tokens both say count once, and those the outer one says beyond them are added."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client, trace.use_span(foreign_span(), end_on_exit=True) as span:
        ask(client)
        span.set_attributes({"llm.token_count.prompt": 9, "llm.token_count.completion": 3})
    assert counts(got) == (1, 0, 9, 3)


def test_a_stream_that_outlives_its_span_is_amended(server: FakeLLMServer, got: Captured) -> None:
    """The outer span ends first, without tokens: they are added when the stream ends."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client:
        with trace.use_span(foreign_span(), end_on_exit=True):
            stream = ask(client, stream=True, stream_options={"include_usage": True})
        assert counts(got) == (1, 0, 0, 0)
        list(stream)
    assert counts(got) == (1, 0, 7, 3)
    assert attempts(got) == {"200": 1}


def test_a_callbacks_span_is_known_by_its_thread(server: FakeLLMServer, got: Captured) -> None:
    """A span that was never made the current one, in the thread that calls: one call."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client:
        span = foreign_span()
        ask(client)
        span.set_attributes({"llm.token_count.prompt": 7, "llm.token_count.completion": 3})
        span.end()
    assert counts(got) == (1, 0, 7, 3)


@pytest.mark.parametrize("with_id", [True, False])
def test_a_callbacks_span_of_another_thread_is_known(
    server: FakeLLMServer, got: Captured, with_id: bool
) -> None:
    """Without context and thread it is the answer's id, else time, session, model and tokens."""
    spans: list[Any] = []
    here = context.get_current()

    def start() -> None:
        token = context.attach(here)
        spans.append(foreign_span())
        context.detach(token)

    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        answer = ask(client)
    spans[0].set_attributes({"llm.token_count.prompt": 7, "llm.token_count.completion": 3})
    if with_id:
        spans[0].set_attribute(semconv.RESPONSE_ID, answer.id)
    spans[0].end()
    assert counts(got) == (1, 0, 7, 3)


def test_three_spans_of_one_answer_are_one_call(server: FakeLLMServer, got: Captured) -> None:
    """The wire's, and two instrumentations' that know nothing of each other, in traces of their own."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    outside = context.Context()
    begun_ns = time.time_ns()
    with sdk(server) as client:
        answer = ask(client)
    for scope, model_key in (
        ("opentelemetry.instrumentation.openai.v1", semconv.RESPONSE_ID),
        (FOREIGN, "x"),
    ):
        attributes: dict[str, Any] = {semconv.OPERATION: "chat", semconv.REQUEST_MODEL: "gpt-5"}
        attributes["session.id"] = "anna"
        attributes |= {semconv.INPUT_TOKENS: 7, semconv.OUTPUT_TOKENS: 3, model_key: answer.id}
        tracer = trace.get_tracer(scope)
        tracer.start_span("late", context=outside, start_time=begun_ns, attributes=attributes).end()
    assert counts(got) == (1, 0, 7, 3)


def test_two_calls_with_equal_tokens_stay_two(server: FakeLLMServer, got: Captured) -> None:
    """What looks alike is no twin unless it was open at the same time."""
    server.script(Answer(input_tokens=7, output_tokens=3))
    with sdk(server) as client:
        ask(client)
    span = foreign_span(**{"llm.token_count.prompt": 7, "llm.token_count.completion": 3})
    span.end()
    assert counts(got) == (2, 0, 14, 6)


def test_rate_limits_are_on_the_span(got: Captured) -> None:
    """The provider's rate limits, as the conventions name captured headers."""
    headers = {"x-ratelimit-remaining-requests": "59", "content-type": "application/json"}
    with serving(lambda _asked: Canned([b'{"id":"a","choices":[]}'], headers=headers)) as canned:
        httpx2.post(canned.url("/v1/chat/completions"), json={"model": "gpt-5", "messages": MESSAGES})
    [span] = [span for span in got.spans if span.name == "chat gpt-5"]
    assert (span.attributes or {})["http.response.header.x-ratelimit-remaining-requests"] == ("59",)


def test_headroom_is_a_gauge(got: Captured) -> None:
    """What is left of the rate limits after the last answer that told, by provider and kind."""
    family = "genapp_rate_limit_remaining_ratio"
    left = iter([b"59", b"15", b"many"])

    def answer(_asked: object) -> Canned:
        headers = {
            "X-RateLimit-Limit-Requests": "60",
            "X-RateLimit-Remaining-Requests": next(left).decode(),
            "content-type": "application/json",
        }
        return Canned([b'{"id":"a","choices":[]}'], headers=headers)

    with serving(answer) as canned:
        for _ in range(3):
            httpx2.post(canned.url("/v1/chat/completions"), json={"model": "gpt-5", "messages": MESSAGES})
    assert got.value(family, provider="openai", kind="requests") == 0.25


def test_it_can_be_turned_off(server: FakeLLMServer) -> None:
    """With `llm_wire=False` requests to models are HTTP requests and nothing more."""
    with capture_telemetry(llm_wire=False) as got, sdk(server) as client:
        ask(client)
        assert got.telemetry.totals()["total_requests"] == 0
        assert got.value("genapp_http_requests_total", app_type="httpx2") == 1
