"""The collector killed again and again while its backend comes and goes: no call and no span is lost."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import bind, init_telemetry, llm_call
from tests.collector.tracing import export_to, inherit, set_all, until
from tests.faults.exporting import wait_until
from tests.faults.flaky_collector import Collector, collecting
from tests.fresh import in_fresh_process
from tests.otelcol import Otelcol, running
from tests.servers import Servers

SESSIONS = 20
INPUT, OUTPUT = 1000, 10
KILLS = 5
SOON = ("exporters::otlp_http/traces::retry_on_failure::max_interval: 1s",)


@dataclass(frozen=True)
class Load:
    """So many calls in a steady stream, for so many seconds."""

    calls: int
    seconds: float


def call_steadily(app: str, load: Load, settings: dict[str, str]) -> dict[str, Any]:
    """Make the calls, deliver everything, and say what was made and what the ledger holds of it."""
    set_all(settings)
    telemetry = init_telemetry(app, "prod")
    began, made = time.monotonic(), list[str]()
    while len(made) < load.calls:
        due = min(load.calls, int((time.monotonic() - began) / load.seconds * load.calls) + 1)
        while len(made) < due:
            number = len(made)
            with bind(session_id=f"s{number % SESSIONS}"), llm_call("gpt-5", "openai") as call:
                call.usage(input=INPUT, output=OUTPUT)
                span = getattr(call, "_span").span  # noqa: B009 - mypy need not know
            made.append(f"{span.get_span_context().span_id:016x}")
        time.sleep(0.002)
    flushed = until(lambda: telemetry.flush(5), 60)
    sessions = [telemetry.sessions.get(f"s{number}") for number in range(SESSIONS)]
    summaries = [session.as_dict() for session in sessions if session is not None]
    return {
        "made": made,
        "flushed": flushed,
        "stopped": telemetry.shutdown(),
        "calls": sum(summary["total_requests"] for summary in summaries),
        "tokens": sum(summary["total_tokens"] for summary in summaries),
    }


def disturb(collector: Otelcol, backend: Collector, seconds: float) -> None:
    """Kill the collector so many times, spread over so many seconds, the backend away half of the time."""
    for number in range(KILLS):
        backend.be("503" if number % 2 else "ok")
        time.sleep(seconds / KILLS * 0.8)
        collector.kill()
        time.sleep(seconds / KILLS * 0.2)
        collector.start()
    backend.be("refuse")
    time.sleep(seconds / KILLS)
    backend.be("ok")


def go_through(load: Load, store: str, folder: Path) -> dict[str, int]:
    """What became of the calls and of their spans."""
    with (
        collecting() as backend,
        running(
            "base", "jaeger", folder=folder, settings={"GENAPP_TRACES_ENDPOINT": backend.endpoint}
        ) as collector,
        ThreadPoolExecutor(1) as pool,
    ):
        settings = export_to(collector, GENAPP_STORE=store)
        app = pool.submit(
            in_fresh_process,
            call_steadily,
            f"shop-{secrets.token_hex(4)}",
            load,
            settings,
            deadline_s=load.seconds + 120,
        )
        disturb(collector, backend, load.seconds)
        said = app.result()
        made = set(said["made"])
        wait_until(lambda: len({span.span_id for span in backend.spans}) >= load.calls, 180)
        arrived = Counter(span.span_id for span in backend.spans)
        print(f"{arrived.total() - len(arrived)} of {load.calls} spans arrived twice or more")  # noqa: T201
        assert said["flushed"]
        assert said["stopped"]
        return {
            "calls made": len(made),
            "calls lost": load.calls - said["calls"],
            "tokens lost": load.calls * (INPUT + OUTPUT) - said["tokens"],
            "spans lost": len(made - arrived.keys()),
            "strangers": len(arrived.keys() - made),
        }


def call_often(number: int, settings: dict[str, str]) -> dict[str, Any]:
    """Make calls at once; whether their spans arrived, and how many wait here."""
    set_all(settings)
    telemetry = init_telemetry("shop", "prod")
    for _ in range(number):
        with llm_call("gpt-5", "openai") as call:
            call.usage(input=INPUT, output=OUTPUT)
    flushed = telemetry.flush(2)
    pending = telemetry.status()["otlp"]["spans_pending"]
    telemetry.shutdown(1)
    return {"flushed": flushed, "pending": pending}


def nothing_lost(load: Load) -> dict[str, int]:
    return {"calls made": load.calls, "calls lost": 0, "tokens lost": 0, "spans lost": 0, "strangers": 0}


@pytest.mark.slow
def test_five_kills_lose_nothing(servers: Servers, tmp_path: Path) -> None:
    """20,000 calls with usage are in PostgreSQL to the token, and their spans at the backend, once by id."""
    load = Load(calls=20_000, seconds=15)
    assert go_through(load, servers.postgres().url, tmp_path) == nothing_lost(load)


@pytest.mark.soak
def test_kills_and_outages_of_ten_minutes(servers: Servers, tmp_path: Path) -> None:
    """The same with 400,000 calls and outages of two minutes."""
    load = Load(calls=400_000, seconds=600)
    assert go_through(load, servers.postgres().url, tmp_path) == nothing_lost(load)


def test_a_full_queue_pushes_back(tmp_path: Path) -> None:
    """What the collector has no room for stays with the application, and all of it arrives in the end."""
    number, state = 4000, str(tmp_path / "state")
    settings = {"GENAPP_COLLECTOR_QUEUE_BYTES": "300000"}
    with collecting("503") as backend:
        settings["GENAPP_TRACES_ENDPOINT"] = backend.endpoint
        with running("base", "jaeger", folder=tmp_path, settings=settings, overrides=SOON) as collector:
            app = export_to(collector, GENAPP_STATE_DIR=state)
            said = in_fresh_process(call_often, number, app)
            queued = collector.own_metric("otelcol_exporter_queue_size")
            assert said["flushed"] is False
            assert 0 < said["pending"] < number
            assert 0 < queued <= 300_000
            backend.be("ok")
            assert in_fresh_process(inherit, "shop", state, app)
            wait_until(lambda: len({span.span_id for span in backend.spans}) >= number)
            assert len({span.span_id for span in backend.spans}) == number


def test_a_collector_short_of_memory(tmp_path: Path) -> None:
    """It refuses instead of dying, and the application keeps what it has until there is room."""
    number, state = 200, str(tmp_path / "state")
    with collecting() as backend:
        settings = {"GENAPP_TRACES_ENDPOINT": backend.endpoint}
        tight = {**settings, "GENAPP_COLLECTOR_MEMORY_MIB": "2", "GENAPP_COLLECTOR_MEMORY_SPIKE_MIB": "1"}
        with running("base", "jaeger", folder=tmp_path / "tight", settings=tight) as collector:
            until(lambda: "refusing data" in collector.log.lower())
            said = in_fresh_process(call_often, number, export_to(collector, GENAPP_STATE_DIR=state))
            assert said == {"flushed": False, "pending": number}
        with running("base", "jaeger", folder=tmp_path / "roomy", settings=settings) as collector:
            assert in_fresh_process(inherit, "shop", state, export_to(collector, GENAPP_STATE_DIR=state))
            wait_until(lambda: len({span.span_id for span in backend.spans}) >= number)
            assert len({span.span_id for span in backend.spans}) == number
