"""The families as they are recorded: bounded, exact, and never raising."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.context import Context

from otel_genapp import semconv
from otel_genapp.metrics.folding import fold
from otel_genapp.records import Usage
from otel_genapp.semconv import OVERFLOW
from tests.builders import Metering, amendment, call, own_labels, samples_of
from tests.conftest import OwnError

KEY = "sk-" + "proj-" + "a1B2c3D4" * 6  # put together, so that no scanner finds a secret here


def changed(metering: Metering) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample that is not 0, buckets aside."""
    return {
        (sample.name, own_labels(sample)): sample.value
        for sample in samples_of(metering.text())
        if sample.value and not sample.name.endswith("_bucket")
    }


def test_100k_hostile_label_sets() -> None:
    """100,000 models make no more series than their budget; sums stay exact and the folds are counted."""
    metering = Metering()
    budget = semconv.LABEL_BUDGETS["model"]
    for number in range(100_000):
        metering.instruments.llm_tokens.record(3, ("openai", f"model {number}", "input"))
    shown = metering.samples("genapp_llm_tokens_total")
    folded = (("model", OVERFLOW), ("provider", "openai"), ("type", "input"))
    assert len(shown) == budget + 1
    assert shown[folded] == 3 * (100_000 - budget)
    assert sum(shown.values()) == 300_000
    assert metering.samples("genapp_telemetry_labels_folded_total") == {
        (("label", "model"), ("metric", "genapp_llm_tokens_total")): 100_000.0 - budget
    }
    assert "otel_metric_overflow" not in metering.text()


def test_a_full_family_stays_exact() -> None:
    """Past the series limit sums are still exact, and which labels were folded is told."""
    metering = Metering(series_limit=20)
    for number in range(400):
        metering.instruments.http_requests.record(
            1, ("GET", "200", f"/{number % 40}", ("a", "b")[number % 2])
        )
    shown = metering.samples("genapp_http_requests_total")
    assert (len(shown), sum(shown.values())) == (22, 400)
    assert {dict(labels)["app_type"] for labels in shown} == {"a", "b"}
    assert metering.samples("genapp_telemetry_labels_folded_total") == {
        (("label", "resource"), ("metric", "genapp_http_requests_total")): 200.0
    }


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (("half \ud800", "success"), ("half ?", "success")),
        ((KEY, "success"), ("[REDACTED]", "success")),
        ((7, None), ("7", "unknown")),
        ((b"x", 1.5), ("b'x'", "1.5")),
        (("x" * 5000, "success"), ("x" * 128, "success")),
    ],
)
def test_labels_are_cleaned(labels: Any, shown: tuple[str, str]) -> None:
    """Whatever is handed in as a label is shown as clean text, every time."""
    metering = Metering()
    for _ in range(3):
        metering.instruments.action_count.record(1, labels)
    assert changed(metering) == {
        ("genapp_action_count_total", tuple(zip(("name", "status"), shown, strict=True))): 3.0
    }


@pytest.mark.parametrize("labels", [("only name",), ("name", "success", "more"), (), None, 5, ([], {}), "ab"])
def test_odd_label_sets_do_not_raise(labels: Any, expected_own_errors: list[OwnError]) -> None:
    """A wrong number or kind of labels is an own error, counted nowhere and raised nowhere."""
    metering = Metering()
    metering.instruments.action_size.record(1, labels)
    if expected_own_errors:
        assert [own.site for own in expected_own_errors] == ["metrics"]
        assert changed(metering) == {}


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), float("-inf"), 1.1e15, 10**400])
def test_invalid_values_are_dropped_and_counted(value: float) -> None:
    """A value that would spoil a sum is dropped, and the drop shows."""
    metering = Metering()
    metering.instruments.action_duration.record(0.5, ("a",))
    metering.instruments.action_duration.record(value, ("a",))
    assert changed(metering) == {
        ("genapp_action_duration_sec_count", (("name", "a"),)): 1.0,
        ("genapp_action_duration_sec_sum", (("name", "a"),)): 0.5,
        ("genapp_telemetry_dropped_total", (("reason", "invalid_value"), ("what", "measurement"))): 1.0,
    }


@pytest.mark.parametrize("value", [None, "12", [], {}, 1j])
def test_values_of_other_kinds_spoil_nothing(value: Any, expected_own_errors: list[OwnError]) -> None:
    """What is no float or int neither raises nor keeps later values from being counted."""
    metering = Metering()
    metering.instruments.action_duration.record(value, ("a",))
    metering.instruments.action_duration.record(0.5, ("a",))
    metering.instruments.action_duration.record(value, ("a",))
    found = metering.samples("genapp_action_duration_sec_count")
    assert found[(("name", "a"),)] >= 1
    assert metering.samples("genapp_action_duration_sec_sum")[(("name", "a"),)] >= 0.5


class Fancy(float):
    """A float as numpy's, whose repr is no number."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"

    def __add__(self, other: float) -> Fancy:
        return Fancy(float(self) + other)

    __radd__ = __add__


def test_numbers_of_other_libraries_are_shown_as_numbers() -> None:
    """A subclass of float, as numpy has it, does not make the exposition unreadable."""
    metering = Metering()
    for _ in range(2):
        metering.instruments.action_duration.record(Fancy(0.25), ("a",))
    metering.gauges["genapp_llm_in_flight"] = True
    assert changed(metering) == {
        ("genapp_action_duration_sec_count", (("name", "a"),)): 2.0,
        ("genapp_action_duration_sec_sum", (("name", "a"),)): 0.5,
        ("genapp_llm_in_flight", ()): 1.0,
    }


def test_announced_series_show_zero() -> None:
    """An announced counter is there with 0; a histogram has no series to announce."""
    metering = Metering()
    metering.instruments.action_count.announce(("task", "fail"))
    metering.instruments.action_duration.announce(("task",))
    assert metering.samples("genapp_action_count_total") == {(("name", "task"), ("status", "fail")): 0.0}
    assert metering.samples("genapp_action_duration_sec_count") == {}


def test_threads_lose_no_count() -> None:
    """8 threads, first records of new label sets included, add up."""
    metering = Metering()

    def work() -> None:
        for number in range(2000):
            metering.instruments.action_count.record(1, (f"action {number % 50}", "success"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(metering.samples("genapp_action_count_total").values()) == {320.0: 50}


def test_forgetting_goes_on_where_it_was() -> None:
    """After `forget` recording resolves its series anew; known series and counts are there."""
    metering = Metering()
    metering.instruments.action_count.record(1, ("a", "success"))
    metering.instruments.forget()
    metering.instruments.action_count.record(1, ("a", "success"))
    assert metering.instruments.bound
    assert changed(metering) == {("genapp_action_count_total", (("name", "a"), ("status", "success"))): 2.0}


def test_http_families_in_one_step() -> None:
    """A request recorded in one step, before and after binding, counts in all three families."""
    metering = Metering()
    for received in (700, None, 300):
        metering.instruments.http.record(
            ("GET", "200", "/chat", "fastapi"),
            0.25,
            request_bytes=10,
            response_bytes=received,
            context=Context(),
        )
    own = (("app_type", "fastapi"), ("method", "GET"), ("resource", "/chat"), ("status", "200"))
    sized = {
        direction: tuple(sorted((*own, ("direction", direction)))) for direction in ("request", "response")
    }
    assert changed(metering) == {
        ("genapp_http_requests_total", own): 3.0,
        ("genapp_http_request_duration_sec_count", own): 3.0,
        ("genapp_http_request_duration_sec_sum", own): 0.75,
        ("genapp_http_request_size_bytes_count", sized["request"]): 3.0,
        ("genapp_http_request_size_bytes_sum", sized["request"]): 30.0,
        ("genapp_http_request_size_bytes_count", sized["response"]): 2.0,
        ("genapp_http_request_size_bytes_sum", sized["response"]): 1000.0,
    }


MODEL = (("model", "gpt-5"), ("provider", "openai"))
OPERATION = (("model", "gpt-5"), ("operation", "chat"), ("provider", "openai"))


def of_type(kind: str) -> tuple[tuple[str, str], ...]:
    return (*MODEL, ("type", kind))


def test_a_call_in_the_llm_families() -> None:
    """A record is counted in every family that speaks of what it says."""
    metering = Metering()
    usage = Usage(input=100, output=20, cache_read=64, cache_write=0, reasoning=5)
    record = call(usage=usage, first_token_ms=250.0, tool_calls=2, cost_nano_usd=1_500_000)
    fold(metering.instruments, record, context=None)
    fold(metering.instruments, amendment(usage=Usage(input=10)), context=None)
    assert changed(metering) == {
        ("genapp_llm_requests_total", (*OPERATION, ("status", "success"))): 1.0,
        ("genapp_llm_request_duration_sec_count", OPERATION): 1.0,
        ("genapp_llm_request_duration_sec_sum", OPERATION): 1.0,
        ("genapp_llm_time_to_first_token_sec_count", OPERATION): 1.0,
        ("genapp_llm_time_to_first_token_sec_sum", OPERATION): 0.25,
        ("genapp_llm_tokens_total", of_type("input")): 110.0,
        ("genapp_llm_tokens_total", of_type("output")): 20.0,
        ("genapp_llm_tokens_total", of_type("cache_read")): 64.0,
        ("genapp_llm_tokens_total", of_type("reasoning")): 5.0,
        ("genapp_llm_cost_usd_total", MODEL): 0.0015,
        ("genapp_llm_tool_calls_total", MODEL): 2.0,
    }


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        (
            "success",
            {("genapp_llm_unknown_usage_total", MODEL), ("genapp_llm_unpriced_requests_total", MODEL)},
        ),
        (
            "cancelled",
            {("genapp_llm_unknown_usage_total", MODEL), ("genapp_llm_unpriced_requests_total", MODEL)},
        ),
        ("fail", {("genapp_errors_total", (("error_type", "429"), ("service", "openai")))}),
    ],
)
def test_calls_that_leave_things_open(status: str, counted: set[Any]) -> None:
    """Unknown usage and a missing price count unless the call failed, a failure counts as an error."""
    metering = Metering()
    fold(metering.instruments, call(usage=Usage(), status=status, error_type="429"), context=None)
    shown = {key for key in changed(metering) if "duration" not in key[0]}
    assert shown == {("genapp_llm_requests_total", (*OPERATION, ("status", status))), *counted}
