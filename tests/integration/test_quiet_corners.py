"""Corners where telemetry could lock up, leak or take what is not its own."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import propagate, trace

import otel_genapp
from otel_genapp import bind, current, hub, init_telemetry, llm_call
from otel_genapp.testing import capture_telemetry

TOKEN = {"x-internal-auth": "test"}


class Finalized:
    """Garbage in a cycle, whose finalizer records a metric."""

    def __init__(self, record: Any) -> None:
        self.itself = self
        self.record = record

    def __del__(self) -> None:
        self.record()


def test_finalizers_record_while_a_lock_is_held() -> None:
    """A finalizer that runs inside an aggregation's lock neither locks up nor loses its count."""
    with capture_telemetry() as got:
        running = hub.active
        assert running is not None

        def record() -> None:
            running.families.action_count.record(1, ("end_task", "success"))

        record()
        gc.collect()
        Finalized(record)
        readers = got.telemetry._machinery.meters._measurement_consumer._reader_storages.values()
        locks = [
            aggregation._lock
            for storage in readers
            for matches in storage._instrument_view_instrument_matches.values()
            for match in matches
            for aggregation in match._attributes_aggregation.values()
        ]

        def collect_inside() -> None:
            for lock in locks:
                lock.acquire()
            gc.collect()
            for lock in locks:
                lock.release()

        thread = threading.Thread(target=collect_inside, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert got.value("genapp_action_count_total", name="end_task") == 2


def test_the_apps_own_events_are_spans() -> None:
    """Mounted, our endpoints make no spans; the application's routes beside them do."""
    app = FastAPI()

    @app.get("/events/list")
    async def listed() -> list[str]:
        return []

    with capture_telemetry() as got:
        got.telemetry.mount(app)
        client = TestClient(app)
        paths = ("/events/list", "/prometheus", "/events/metrics", "/events/metrics/session/none")
        codes = [client.get(path, headers=TOKEN).status_code for path in paths]
    assert codes == [200, 200, 200, 404]
    assert [span.name for span in got.spans if span.kind is trace.SpanKind.SERVER] == ["GET /events/list"]


def test_a_long_time_is_refused_at_once() -> None:
    """A text that is no time is told so, whatever its length."""
    app = FastAPI()
    with capture_telemetry() as got:
        got.telemetry.mount(app)
        answer = TestClient(app).get("/events/metrics", params={"from": "T" * 8000}, headers=TOKEN)
    assert (answer.status_code, "from must be a time" in answer.text) == (400, True)


def test_exemplars_outlive_a_scrape() -> None:
    """Whoever scrapes first takes no exemplar away from the next."""
    app = FastAPI()
    app.add_api_route("/x", lambda: 1)
    with capture_telemetry() as got:
        got.telemetry.mount(app)
        client = TestClient(app)
        client.get("/x")
        openmetrics = {"accept": "application/openmetrics-text"}
        counted = [
            client.get("/prometheus", headers=headers).text.count("trace_id=")
            for headers in (openmetrics, {}, openmetrics)
        ]
    assert counted[0] > 0
    assert counted[1] == 0
    assert counted[2] >= counted[0]


def test_nothing_leaves_after_the_end() -> None:
    """With no telemetry running nobody says which hosts may have our headers: none get them."""
    with capture_telemetry():
        with llm_call("m", "p"):
            inside: dict[str, str] = {}
            propagate.inject(inside)
        outer = trace.get_tracer("app").start_span("late")
    with trace.use_span(outer):
        afterwards: dict[str, str] = {}
        propagate.inject(afterwards)
    assert set(inside) >= {"traceparent", "x-correlation-id"}
    assert afterwards == {}


def test_one_bind_object_in_many_hands() -> None:
    """A `bind` kept and entered again, within itself too, leaves nothing behind."""
    whole = bind(session_id="shared")
    with whole, whole:
        assert current().session_id == "shared"
    assert current().session_id is None


def test_disabled_means_untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """With the SDK disabled nothing is mounted, written or logged."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = FastAPI()
    try:
        telemetry = init_telemetry("off", env="dev", app=app)
        with llm_call("m", "p", session_id="s") as call:
            call.usage(input=1)
        assert telemetry.sessions.get("s") is None
    finally:
        otel_genapp.shutdown()
    assert TestClient(app).get("/prometheus").status_code == 404
    assert list(tmp_path.rglob("*")) == []
