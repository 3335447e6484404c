"""The demo's books: the LLM's ledger beside what the telemetry tells."""

from __future__ import annotations

from typing import Any

import pytest

from otel_genapp.cli.demo.comparison import COMPARED, Truth, differences, differences_in_total
from otel_genapp.fake_llm import Served


def served(**changes: Any) -> Served:
    plain: dict[str, Any] = {
        "request_id": "r",
        "operation": "chat",
        "session": "s",
        "model": "m",
        "stream": False,
        "attempt": 1,
        "status": 200,
        "outcome": "ok",
        "bytes_sent": 1,
        "started_s": 0.0,
        "ended_s": 0.0,
    }
    return Served(**{**plain, **changes})


OK = served(
    input_tokens=10, output_tokens=4, cached_tokens=5, reasoning_tokens=1, tool_calls=("search", "stock")
)
REFUSED = served(status=429, outcome="error")


def numbers(**changes: int) -> dict[str, int]:
    return {**dict.fromkeys(COMPARED, 0), **changes}


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        (
            [OK],
            numbers(
                total_requests=1, successful_requests=1, prompt_tokens=10, completion_tokens=4,
                cached_tokens=5, reasoning_tokens=1, requests_with_tools=1,
            ),
        ),
        (
            [served(attempt=3, input_tokens=2, output_tokens=1), served(attempt=2, outcome="error"), REFUSED],
            numbers(total_requests=1, successful_requests=1, prompt_tokens=2, completion_tokens=1),
        ),
        ([REFUSED, served(attempt=2, outcome="error")], numbers(total_requests=1, failed_requests=1)),
        ([served(outcome="cut")], numbers(total_requests=1, failed_requests=1)),
        (
            [served(outcome="gone")],
            numbers(total_requests=1, failed_requests=1, cancelled_requests=1, unknown_usage_requests=1),
        ),
        (
            [served(outcome="no_usage")],
            numbers(total_requests=1, successful_requests=1, unknown_usage_requests=1),
        ),
    ],
    ids=["answer", "retried", "given up", "cut", "left", "silent"],
)  # fmt: skip
def test_attempts_become_calls(ledger: list[Served], expected: dict[str, int]) -> None:
    """The SDK's attempts are one call that went as its last one, in whatever order they are added."""
    truth = Truth()
    for entry in ledger:
        truth.add([entry])
    assert truth.sessions == {"s": expected}


def as_session(name: str, told: dict[str, int]) -> dict[str, Any]:
    """A session's JSON; some of the tokens are failed calls'."""
    return {
        **{key: value for key, value in told.items() if not key.startswith(("prompt", "completion"))},
        "session_id": name,
        "total_prompt_tokens": told["prompt_tokens"] - 1,
        "failed_prompt_tokens": 1,
        "total_completion_tokens": told["completion_tokens"],
        "failed_completion_tokens": 0,
    }


def test_equal_books_have_no_differences() -> None:
    """What telemetry tells of the ledger's sessions is equal, calls without a session included."""
    truth = Truth()
    truth.add([OK, served(session=None, input_tokens=1, output_tokens=1)])
    told = [as_session(name, numbers) for name, numbers in truth.sessions.items()]
    assert [session["session_id"] for session in told] == ["s", "no_session"]
    assert differences(told, truth, forgetful=False) == []


def test_every_difference_has_a_line() -> None:
    """A number that differs and a session only one side knows are named."""
    truth = Truth()
    truth.add([OK, served(session="lost")])
    told = [
        as_session("s", {**truth.sessions["s"], "prompt_tokens": 9, "total_requests": 2}),
        as_session("made up", truth.sessions["s"]),
    ]
    wrong = [
        "s: total_requests is 2 in the telemetry, 1 in the ledger",
        "s: prompt_tokens is 9 in the telemetry, 10 in the ledger",
    ]
    assert differences(told, truth, forgetful=False) == [
        *wrong,
        "lost: unknown to the telemetry",
        "made up: unknown to the ledger",
    ]
    assert differences(told, truth, forgetful=True) == [*wrong, "made up: unknown to the ledger"]


EXPOSITION = """
genapp_llm_requests_total{app="a",model="m",status="success"} 1.0
genapp_llm_requests_total{app="a",model="m",status="fail"} 1.0
genapp_llm_requests_total{app="a",model="n",status="cancelled"} 1.0
genapp_llm_tokens_total{app="a",model="m",type="input"} 8.0
genapp_llm_tokens_total{app="a",model="n",type="input"} 2.0
genapp_llm_tokens_total{app="a",model="m",type="output"} 4.0
genapp_llm_tokens_total{app="a",model="m",type="cache_read"} 5.0
genapp_llm_tokens_total{app="a",model="m",type="cache_write"} 5.0
genapp_llm_tokens_total{app="a",model="m",type="reasoning"} 1.0
genapp_llm_unknown_usage_total{app="a",model="m"} 1.0
"""


def test_totals_and_counters_are_compared_too() -> None:
    """The JSON over all sessions and the counters of `/prometheus` must add up to the ledger."""
    truth = Truth()
    truth.add([OK, served(session="t", outcome="cut"), served(session="u", outcome="gone")])
    totals = as_session("", truth.total())
    assert differences_in_total(totals, EXPOSITION, truth=truth) == []
    wrong = EXPOSITION.replace('type="output"} 4', 'type="output"} 5')
    assert differences_in_total({**totals, "cached_tokens": 6}, wrong, truth=truth) == [
        "/events/metrics: cached_tokens is 6 in the telemetry, 5 in the ledger",
        "/prometheus: completion_tokens is 5 in the telemetry, 4 in the ledger",
    ]
