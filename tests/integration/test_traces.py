"""What happened, by correlation id: two services, any sampling rate, any worker."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask, request
from opentelemetry import trace as api

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from otel_genapp.fake_llm import Answer
from otel_genapp.read.traces import NO_SPANS, Trace
from otel_genapp.testing import FakeLLMServer, capture_telemetry
from tests.fakes import eventually
from tests.faults.worker_fleet import DEADLINE_S, Fleet, gunicorn_fleet
from tests.forked import in_child
from tests.fresh import in_fresh_process
from tests.postgres import running_postgres
from tests.serving import Client, uvicorn_serving, werkzeug_serving

AUTH = {"x-internal-auth": "test"}
CID = "order-1842"
QUESTION = "How long is the coast?"


@contextmanager
def two_services(telemetry: Telemetry, model_url: str) -> Iterator[Client]:
    """A FastAPI service in front of a Flask service that calls a model."""
    back = Flask("back")

    @back.get("/ask")
    def ask() -> dict[str, bool]:
        body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": QUESTION}]}
        answer = httpx.post(f"{model_url}/chat/completions", json=body)
        if request.args.get("fail"):
            raise RuntimeError("no answer")
        return {"ok": answer.is_success}

    telemetry.mount(back)
    with werkzeug_serving(back) as behind:
        front = FastAPI()

        @front.get("/front")
        async def in_front(fail: str = "") -> dict[str, int]:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{behind.port}/ask", params={"fail": fail})
            return {"status": answer.status_code}

        telemetry.mount(front)
        with uvicorn_serving(front) as client:
            yield client


def asked(client: Client, correlation_id: str = CID) -> dict[str, Any]:
    answer = client.ask(f"/events/traces/{correlation_id}", headers=AUTH)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def tree_of(trace: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(kind, name, place of the parent in this list) of each span, in the order they are given in."""
    places = {span["span_id"]: place for place, span in enumerate(trace["spans"])}
    return [(span["kind"], span["name"], places.get(span["parent_id"], -1)) for span in trace["spans"]]


def test_two_services_are_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """All spans of both, in order and with their parents, the LLM call with its span, the link; no prompt."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    url = "https://jaeger.example.com/trace/{trace_id}"
    with FakeLLMServer() as model, capture_telemetry(trace_url=url) as got:
        model.script(Answer("Four thousand miles."))
        with two_services(got.telemetry, model.base_url) as client:
            assert (
                client.ask("/front", headers={"x-correlation-id": CID, "x-session-id": "anna"}).status == 200
            )
            answer = asked(client)
            assert client.ask("/events/traces/other", headers=AUTH).status == 404
        [found] = got.telemetry.traces.by_correlation_id(CID)
    assert answer == {"correlation_id": CID, "traces": [found.as_dict()]}
    [trace] = answer["traces"]
    assert tree_of(trace) == [
        ("server", "GET /front", -1),
        ("client", "GET", 0),
        ("server", "GET /ask", 1),
        ("client", "chat gpt-5-mini", 2),
    ]
    assert [span["parent_known"] for span in trace["spans"]] == [False, True, True, True]
    assert {span["correlation_id"] for span in trace["spans"]} == {CID}
    [call] = trace["llm_calls"]
    assert (call["model"], call["status"], call["session_id"], call["span_id"]) == (
        "gpt-5-mini", "success", "anna", trace["spans"][3]["span_id"],
    )  # fmt: skip
    assert trace["url"] == f"https://jaeger.example.com/trace/{trace['trace_id']}"
    shown = (trace["name"], trace["service"], trace["error"], trace["span_count"], trace["spans_truncated"])
    assert shown == ("GET /front", "test", False, 4, False)
    assert [span["offset_ms"] for span in trace["spans"]] == sorted(
        span["offset_ms"] for span in trace["spans"]
    )
    assert "coast" not in json.dumps(answer)
    assert "thousand" not in json.dumps(answer)


def test_without_sampling_the_calls_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """No span is kept, and every LLM call is, under its trace."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with FakeLLMServer() as model, capture_telemetry() as got:
        with two_services(got.telemetry, model.base_url) as client:
            for _ in range(3):
                client.ask("/front", headers={"x-correlation-id": CID})
            traces = asked(client)["traces"]
        assert got.telemetry.traces.recent().traces == ()
    assert len(traces) == 3
    assert [(len(trace["spans"]), len(trace["llm_calls"])) for trace in traces] == [(0, 1)] * 3
    assert {trace["llm_calls"][0]["trace_id"] for trace in traces} == {trace["trace_id"] for trace in traces}


@pytest.mark.usefixtures("expected_own_errors")
def test_what_failed_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace of an error says so in the list, and shows the exception where it was raised."""
    with FakeLLMServer() as model, capture_telemetry() as got:
        with two_services(got.telemetry, model.base_url) as client:
            client.ask("/front?fail=1", headers={"x-correlation-id": CID})
            client.ask("/front", headers={"x-correlation-id": "fine"})
            [trace] = asked(client)["traces"]
        traces = got.telemetry.traces
        listed = [summary.correlation_id for summary in traces.recent(5).traces]
        failed = [summary.correlation_id for summary in traces.recent(5, only_errors=True).traces]
        [summary] = traces.recent(5, only_errors=True).traces
        whole = traces.by_trace_id(summary.trace_id)
    assert (listed, failed) == (["fine", CID], [CID])
    assert whole is not None
    assert whole.as_dict() == trace
    [raised] = [event for span in trace["spans"] for event in span["events"]]
    assert raised["attributes"]["exception.message"] == "no answer"
    assert trace["error"]


def test_calls_of_other_ids_within_a_trace_are_its_own() -> None:
    """A batch that gives each item an id is one trace; by any of them it is seen whole, with every call."""
    with capture_telemetry() as got:
        with api.get_tracer("shop").start_as_current_span("batch"):
            for item in ("one", "two"):
                with bind(correlation_id=item), llm_call("gpt-5", "openai") as call:
                    call.usage(input=1, output=1)
        with bind(correlation_id="two"), llm_call("gpt-5", "openai"):
            pass
        one = got.telemetry.traces.by_correlation_id("one")
        two = got.telemetry.traces.by_correlation_id("two")
    shape = [(len(trace.spans), len(trace.llm_calls)) for trace in one]
    assert (shape, [(len(trace.spans), len(trace.llm_calls)) for trace in two]) == (
        [(3, 2)],
        [(3, 2), (1, 1)],
    )


@pytest.mark.parametrize("store", ["memory://", ""], ids=["memory", "sqlite"])
def test_a_cleared_session_leaves_no_trace(store: str) -> None:
    """Nothing that names it is kept, not even what ended a moment ago; the totals keep its calls."""
    with init_telemetry("shop", "dev", internal_auth="test", store=store) as telemetry:
        for name in ("anna", "ben"):
            with bind(session_id=name, correlation_id=f"of-{name}"), llm_call("gpt-5", "openai") as call:
                call.usage(input=2, output=1)
        assert telemetry.sessions.clear("anna") is True
        assert telemetry.traces.by_correlation_id("of-anna") == []
        [kept] = telemetry.traces.by_correlation_id("of-ben")
        assert (len(kept.spans), len(kept.llm_calls)) == (1, 1)
        assert telemetry.totals()["total_requests"] == 2
        assert telemetry.sessions.clear("anna") is False


def test_without_room_for_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 0 megabytes calls are shown alone, and answer and status say so."""
    with capture_telemetry(trace_megabytes=0) as got:
        with bind(correlation_id=CID), llm_call("gpt-5", "openai"):
            pass
        [trace] = got.telemetry.traces.by_correlation_id(CID)
        assert (trace.summary, trace.spans, len(trace.llm_calls)) == (None, (), 1)
        assert got.telemetry.traces.notes == (NO_SPANS,)
        status = got.telemetry.status()["traces"]
    assert (status["kept"], "GENAPP_TRACE_MEGABYTES is 0" in status["problem"]) == (False, True)


def test_an_id_that_can_be_none_is_refused() -> None:
    """By the same rule as in a header; the application hears of it."""
    with capture_telemetry() as got:
        for odd in ("", "a b", "x" * 129, "ключ"):
            with pytest.raises(ValueError, match="a correlation id is 1 to 128"):
                got.telemetry.traces.by_correlation_id(odd)
        with pytest.raises(ValueError, match="cursor"):
            got.telemetry.traces.recent(5, "x")


def kept_numbers(telemetry: Telemetry) -> dict[str, int]:
    """What `/prometheus` says became of spans."""
    body, _ = telemetry.exposition()
    found: Counter[str] = Counter()
    for line in body.decode().splitlines():
        if '"trace_span"' in line and not line.startswith("#"):
            state = line.split('state="')[-1].split('reason="')[-1].split('"')[0]
            found[state] += int(float(line.rsplit(" ", 1)[1]))
    return {state: number for state, number in found.items() if number}


def kept_across_a_fork() -> dict[str, Any]:
    """What the parent finds of a call and a span of each of two."""
    with init_telemetry("shop", "dev", internal_auth="test") as telemetry:
        with bind(correlation_id=CID), llm_call("gpt-5", "openai"):
            pass
        assert telemetry.traces.by_correlation_id(CID)

        def child() -> int:
            with bind(correlation_id=CID), llm_call("gpt-5", "openai"):
                pass
            found = len(telemetry.traces.by_correlation_id(CID))
            assert telemetry.shutdown()  # it is about to end without a word
            return found

        with bind(correlation_id=CID), api.get_tracer("shop").start_as_current_span("forking"):
            seen_by_child = in_child(child)
        found = telemetry.traces.by_correlation_id(CID)
        assert telemetry.flush()
        return {
            "child": seen_by_child,
            "parent": [(len(trace.spans), len(trace.llm_calls)) for trace in found],
            "counted": kept_numbers(telemetry),
        }


def test_a_forked_child_is_seen_by_its_parent() -> None:
    """Each writes its own spans and calls, both see all of them."""
    found = in_fresh_process(kept_across_a_fork)
    assert found["parent"] == [(1, 1), (2, 1)]
    assert found["child"] == 2
    assert found["counted"] == {"created": 3, "stored": 3}


def kept_without_a_database(url: str, kill: Any, start: Any) -> None:
    """Spans of before, during and after an outage are there afterwards."""
    with init_telemetry("shop", "dev", internal_auth="test", store=url) as telemetry:

        def call(correlation_id: str) -> None:
            with bind(correlation_id=correlation_id), llm_call("gpt-5", "openai"):
                pass

        def shape(correlation_id: str) -> list[tuple[int, int]]:
            return [
                (len(one.spans), len(one.llm_calls))
                for one in telemetry.traces.by_correlation_id(correlation_id)
            ]

        call("before")
        assert shape("before") == [(1, 1)]
        kill()
        began_s = time.perf_counter()
        for _ in range(50):
            call("during")
        assert time.perf_counter() - began_s < 1
        assert shape("during") == []
        assert eventually(lambda: bool(telemetry.status()["traces"]["problem"]))
        start()
        call("after")
        assert eventually(
            lambda: shape("during") == [(1, 1)] * 20 + [(0, 1)] * 30 or len(shape("during")) == 50
        )
        assert (shape("before"), shape("after")) == ([(1, 1)], [(1, 1)])
        assert telemetry.flush()
        assert kept_numbers(telemetry) == {"created": 52, "stored": 52}


@pytest.mark.slow
@pytest.mark.usefixtures("expected_own_errors")
def test_a_database_that_goes_and_comes_back() -> None:
    """Spans wait for it in memory, calls on disk; nobody else waits."""
    with running_postgres() as server:
        kept_without_a_database(server.url, server.kill, server.start)


@contextmanager
def two_fleets(model_url: str, environment: dict[str, str]) -> Iterator[tuple[Fleet, Fleet]]:
    """Four workers of a FastAPI service, two of the Flask service behind it."""
    with gunicorn_fleet(
        "tests.programs.shop_with_model", {**environment, "MODEL_URL": model_url}, workers=2
    ) as back:
        front_environment = {**environment, "BACK_URL": f"http://127.0.0.1:{back.port}"}
        options = ("-k", "asgi", "--threads", "1")
        with gunicorn_fleet("tests.programs.front_service", front_environment, options=options) as front:
            yield front, back


def ask_front(fleet: Fleet, correlation_id: str) -> dict[str, int]:
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/front", headers={"x-correlation-id": correlation_id})
        found: dict[str, int] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


@pytest.mark.slow
def test_workers_answer_for_each_other() -> None:
    """Any worker of either service has every call at once and every span in a moment, of killed workers too."""
    with FakeLLMServer() as model, two_fleets(model.base_url, {}) as (front, back):
        workers: Counter[int] = Counter()
        for number in range(30):
            answer = ask_front(front, f"cid-{number}")
            workers.update(answer.values())
            for fleet in (front, back):
                [trace] = fleet.json(f"/events/traces/cid-{number}")["traces"]
                assert len(trace["llm_calls"]) == 1
        assert len(workers) > 3

        def whole(number: int) -> bool:
            return all(
                [span[0] for span in tree_of(fleet.json(f"/events/traces/cid-{number}")["traces"][0])]
                == ["server", "client", "server", "client"]
                for fleet in (front, back)
            )

        for number in range(30):
            assert eventually(lambda number=number: whole(number))  # type: ignore[misc]
        last = ask_front(front, "last")
        for pid in last.values():
            os.kill(pid, signal.SIGKILL)
        assert eventually(
            lambda: {worker.pid for worker in (*front.workers(), *back.workers())}.isdisjoint(last.values())
        )
        [trace] = front.json("/events/traces/last")["traces"]
        assert len(trace["llm_calls"]) == 1
        assert all(whole(number) for number in range(0, 30, 5))


def test_readers_do_not_disturb_writers() -> None:
    """Threads that end spans while others read lose nothing."""
    with capture_telemetry() as got:
        traces = got.telemetry.traces
        found: list[list[Trace]] = []

        def work(worker: int) -> None:
            for number in range(20):
                with bind(correlation_id=f"{worker}-{number}"), llm_call("gpt-5", "openai"):
                    pass
                found.append(traces.by_correlation_id(f"{worker}-{number}"))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [(len(one[0].spans), len(one[0].llm_calls)) for one in found] == [(1, 1)] * 80
