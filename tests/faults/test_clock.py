"""A clock that is set while work is under way: durations, counts and what is kept do not depend on it."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from opentelemetry import trace

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from otel_genapp.bootstrap.clock import DISTRUST_S
from tests.faults.conftest import Found
from tests.faults.flaky_collector import collecting
from tests.fresh import in_fresh_process

YEAR_S = 365 * 86_400
STEPS_S = (3600, -3600, -86_400, YEAR_S, -2 * YEAR_S, 86_400 - int(time.time()), 0)
"""From the true time; the last but one is the day a machine without a battery wakes up on."""
PAUSE_S = 0.02


class Clock:
    """The wall clock of a process, wherever a name of it is bound."""

    def __init__(self) -> None:
        self.step_s = 0
        true_time, true_time_ns = time.time, time.time_ns

        def now_s() -> float:
            return true_time() + self.step_s

        def now_ns() -> int:
            return true_time_ns() + self.step_s * 10**9

        for module in tuple(sys.modules.values()):
            for name, value in tuple(vars(module).items()):
                if value is true_time:
                    setattr(module, name, now_s)
                elif value is true_time_ns:
                    setattr(module, name, now_ns)


def call_over(clock: Clock, step_s: int, *, foreign: bool) -> None:
    """An LLM call during which the clock is set."""
    with bind(session_id="s"):
        if foreign:
            tracer = trace.get_tracer("somebody's")
            with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}) as span:
                time.sleep(PAUSE_S)
                clock.step_s = step_s
                span.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5})
        else:
            with llm_call("gpt-5", "openai") as call:
                time.sleep(PAUSE_S)
                clock.step_s = step_s
                call.usage(input=10, output=5)


def shown(telemetry: Telemetry, name: str) -> float:
    body, _ = telemetry.exposition()
    lines = body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def work_while_the_clock_is_set(endpoint: str) -> dict[str, Any]:
    import os

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    clock = Clock()
    with init_telemetry("shop", "prod", internal_auth="t") as telemetry:
        for step_s in STEPS_S:
            for foreign in (False, True):
                call_over(clock, step_s, foreign=foreign)
            telemetry.sessions.get("s")
        session = telemetry.sessions.get("s")
        found: dict[str, Any] = session.as_dict() if session is not None else {}
        return {
            "requests": found["total_requests"],
            "tokens": found["total_tokens"],
            "each took": sorted(one["duration_ms"] for one in found["requests"]),
            "in order": found["first_request_at"] <= found["last_request_at"],
            "scraped": shown(telemetry, "genapp_llm_requests_total"),
            "seconds": shown(telemetry, "genapp_llm_request_duration_sec_sum"),
            "flushed": telemetry.flush(),
        }


@pytest.mark.slow
def test_a_clock_that_is_set_changes_no_number(found: Found) -> None:
    """Calls over steps of hours and years count once, take as long as they took, and their spans arrive."""
    with collecting() as collector:
        seen = in_fresh_process(work_while_the_clock_is_set, collector.endpoint)
        spans = [span.span_id for span in collector.spans]
    calls = 2 * len(STEPS_S)
    found(
        f"clock set {len(STEPS_S)} times", "calls, spans", lost=2 * calls - int(seen["requests"]) - len(spans),
        duplicated=len(spans) - len(set(spans)),
    )  # fmt: skip
    took = seen.pop("each took")
    assert took[0] >= PAUSE_S * 1000
    assert took[-1] < 10 * PAUSE_S * 1000
    assert calls * PAUSE_S <= seen.pop("seconds") < 10 * calls * PAUSE_S
    assert seen == {
        "requests": calls,
        "tokens": calls * 15,
        "in order": True,
        "scraped": calls,
        "flushed": True,
    }
    assert (len(spans), len(set(spans))) == (calls, calls)


def test_what_is_kept_survives_a_clock_that_is_wrong(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year ahead everything would be too old: for a day after such a step nothing goes."""
    with init_telemetry("shop", "prod", internal_auth="t", store=f"sqlite:///{tmp_path}/l.db") as telemetry:
        with bind(session_id="s"), llm_call("gpt-5", "openai") as call:
            call.usage(input=10, output=5)
        assert telemetry.flush()
        ours, true_time, true_time_ns = telemetry._machinery.upkeep, time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: true_time() + YEAR_S)
        monkeypatch.setattr(time, "time_ns", lambda: true_time_ns() + YEAR_S * 10**9)
        monkeypatch.setattr(ours, "_tidy_at_s", 0.0)
        ours()
        assert telemetry.sessions.get("s") is not None
        assert ours._clock.trusted_at_s > time.monotonic() + DISTRUST_S - 60
        monkeypatch.setattr(ours._clock, "trusted_at_s", 0.0)
        monkeypatch.setattr(ours, "_tidy_at_s", 0.0)  # the day has passed, and the clock is still so
        ours()
        assert telemetry.sessions.get("s") is None
        assert telemetry.totals()["total_requests"] == 1
