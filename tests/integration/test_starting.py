"""Starting telemetry twice, anew, many times, and not at all."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Any

from opentelemetry import metrics, trace

import otel_genapp
from otel_genapp import AlreadyConfiguredError, Telemetry, init_telemetry, llm_call
from tests.faults.flaky_collector import collecting
from tests.fresh import in_fresh_process

CALLS = 3


def start(name: str = "shop", **settings: Any) -> Telemetry:
    return init_telemetry(name, "prod", internal_auth="test", **settings)


def call_llm(number: int = CALLS) -> None:
    for _ in range(number):
        with llm_call("gpt-5", "openai", session_id="anna") as call:
            call.usage(input=1, output=1)


def counted(telemetry: Telemetry) -> int:
    found: int = telemetry.totals()["total_requests"]
    return found


def start_twice() -> dict[str, Any]:
    first = start()
    refusals = []
    for settings in ({"name": "other"}, {"version": "2"}, {"name": "other", "session_limit": 5}):
        try:
            start(**settings)
        except AlreadyConfiguredError as error:
            refusals.append(str(error).partition("with another ")[2].partition(";")[0])
    return {"same": start() is first, "refusals": refusals, "running": first.running}


def test_starting_twice() -> None:
    """Equal arguments give the same telemetry, different ones an error that names them."""
    assert in_fresh_process(start_twice) == {
        "same": True,
        "refusals": ["app", "version", "app, session_limit"],
        "running": True,
    }


def start_anew() -> dict[str, Any]:
    with collecting() as collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
        early = trace.get_tracer("app")
        meter = metrics.get_meter("app")
        answers = []
        for name in ("first", "second"):
            telemetry = start(name, version=name)
            with (
                early.start_as_current_span("early"),
                trace.get_tracer("later").start_as_current_span("late"),
            ):
                call_llm()
            meter.create_counter("orders").add(1)
            answers.append((telemetry.flush(5), counted(telemetry), otel_genapp.shutdown()))
        return {
            "answers": answers,
            "spans": Counter((span.resource["service.name"], span.name) for span in collector.spans),
            "requests": [
                collector.total("genapp_llm_requests", service=name) for name in ("first", "second")
            ],
            "orders": [collector.total("orders", service=name) for name in ("first", "second")],
            "versions": {span.resource["service.version"] for span in collector.spans},
        }


def test_starting_anew_under_another_name() -> None:
    """After a shutdown another telemetry starts from nothing; tracers of before carry its resource."""
    each = {"early": 1, "late": 1, "chat gpt-5": CALLS}
    assert in_fresh_process(start_anew) == {
        "answers": [(True, CALLS, True)] * 2,
        "spans": Counter({(app, name): n for app in ("first", "second") for name, n in each.items()}),
        "requests": [CALLS, CALLS],
        "orders": [1, 1],
        "versions": {"first", "second"},
    }


def start_many_times() -> dict[str, Any]:
    tracers: Any = None
    with collecting() as collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
        for _ in range(10):
            telemetry = start()
            call_llm(1)
            for _ in range(10):
                start()
            telemetry.flush(5)
            body, _ = telemetry.exposition()
            telemetry.shutdown()
        lines = [line.rpartition(" ")[0] for line in body.decode().splitlines() if not line.startswith("#")]
        tracers = trace.get_tracer_provider()
        meters: Any = metrics.get_meter_provider()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(10)
        return {
            "processors": len(tracers._active_span_processor._span_processors),
            "readers": len(meters._measurement_consumer._reader_storages),
            "doubled series": [line for line, times in Counter(lines).items() if times > 1],
            "threads": [thread.name for thread in threading.enumerate()],
            "spans": len(collector.spans),
        }


def test_starting_many_times() -> None:
    """Nothing piles up: one processor, one set of series, no thread left."""
    assert in_fresh_process(start_many_times) == {
        "processors": 1,
        "readers": 0,
        "doubled series": [],
        "threads": ["MainThread"],
        "spans": 10,
    }


def stay_disabled() -> dict[str, Any]:
    from fastapi import FastAPI

    os.environ["OTEL_SDK_DISABLED"] = "true"
    threads = threading.active_count()
    app = FastAPI()
    telemetry = start(app=app)
    telemetry.instrument_app(app)
    unsubscribe = telemetry.subscribe(lambda event: None)

    @otel_genapp.action_tracking_decorator("work_handler")
    def act() -> int:
        with otel_genapp.bind(session_id="anna") as bound, otel_genapp.action_tracking("other_task"):
            call_llm()
            otel_genapp.record_error("Sour", "shop")
            assert bound.session_id == otel_genapp.current().session_id == "anna"
        return 42

    result = act()
    unsubscribe()
    return {
        "same": start(app=app) is telemetry,
        "result": result,
        "counted": (counted(telemetry), telemetry.sessions.get("anna"), telemetry.exposition()[0]),
        "status": (telemetry.running, telemetry.status()["disabled"]),
        "ends": (telemetry.flush(1), telemetry.shutdown(), otel_genapp.shutdown()),
        "providers": [
            type(trace.get_tracer_provider()).__name__,
            type(metrics.get_meter_provider()).__name__,
        ],
        "threads": threading.active_count() - threads,
    }


def test_disabled() -> None:
    """With `OTEL_SDK_DISABLED=true` every call works and does nothing."""
    assert in_fresh_process(stay_disabled) == {
        "same": True,
        "result": 42,
        "counted": (0, None, b""),
        "status": (False, True),
        "ends": (True, True, True),
        "providers": ["ProxyTracerProvider", "_ProxyMeterProvider"],
        "threads": 0,
    }
