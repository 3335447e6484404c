"""The JSON of sessions, to the last key."""

from __future__ import annotations

from typing import Any

import pytest

from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.sessions import Sessions
from otel_genapp.records import Usage, UsageRecord
from tests.builders import START_NS, amendment, call, shown_quantile, stored

SECOND_NS = 10**9


def sessions(*records: UsageRecord) -> Sessions:
    return Sessions(stored(*records), lambda: None)


FIRST = call(
    "first",
    duration_ms=1234.5678,
    usage=Usage(input=100, output=20, cache_read=64, reasoning=5),
    response_model="gpt-5-2026",
    first_token_ms=250.1234,
    tool_calls=2,
    tool_names=("search", "buy"),
    finish_reasons=("tool_calls",),
    cost_nano_usd=1_500_000,
    price_version="genai-prices 0.2.3",
    service_tier="flex",
    user_id="u1",
    correlation_id="order-7",
    trace_id="ab" * 16,
)
SECOND = call(
    "second",
    started_at_ns=START_NS + 5 * SECOND_NS + 123_456_789,
    duration_ms=10.0,
    status="fail",
    error_type="429",
    model="small",
    usage=Usage(input=7),
)


AS_JSON: dict[str, Any] = {
    "session_id": "s1",
    "total_requests": 2,
    "successful_requests": 1,
    "failed_requests": 1,
    "cancelled_requests": 0,
    "total_duration_ms": 1234.568,
    "average_duration_ms": 1234.57,
    "failed_duration_ms": 10.0,
    "total_prompt_tokens": 110,
    "total_completion_tokens": 21,
    "total_tokens": 131,
    "average_tokens_per_request": 131.0,
    "failed_prompt_tokens": 7,
    "failed_completion_tokens": 0,
    "cached_tokens": 64,
    "cache_hit_rate": round(64 / 117, 4),
    "reasoning_tokens": 5,
    "requests_with_tools": 1,
    "tool_calls": 2,
    "cost_usd": None,
    "priced_cost_usd": 0.0015011,
    "unpriced_requests": 1,
    "unpriced_amendments": 0,
    "unknown_usage_requests": 0,
    "first_request_at": "2027-01-15T08:00:00.000Z",
    "last_request_at": "2027-01-15T08:00:05.133Z",
    "p50_duration_ms": shown_quantile(10.0),
    "p95_duration_ms": shown_quantile(1234.5678),
    "models": ["gpt-5", "small"],
    "users": ["u1"],
    "requests": [
        {
            "call_id": "second",
            "at": "2027-01-15T08:00:05.123Z",
            "status": "fail",
            "error_type": "429",
            "provider": "openai",
            "model": "small",
            "response_model": None,
            "operation": "chat",
            "duration_ms": 10.0,
            "first_token_ms": None,
            "prompt_tokens": 7,
            "completion_tokens": None,
            "cached_tokens": None,
            "reasoning_tokens": None,
            "tools": [],
            "tool_calls": 0,
            "finish_reasons": [],
            "cost_usd": None,
            "price_version": None,
            "service_tier": None,
            "user_id": None,
            "correlation_id": None,
            "trace_id": "",
        },
        {
            "call_id": "first",
            "at": "2027-01-15T08:00:00.000Z",
            "status": "success",
            "error_type": None,
            "provider": "openai",
            "model": "gpt-5",
            "response_model": "gpt-5-2026",
            "operation": "chat",
            "duration_ms": 1234.568,
            "first_token_ms": 250.123,
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "cached_tokens": 64,
            "reasoning_tokens": 5,
            "tools": ["search", "buy"],
            "tool_calls": 2,
            "finish_reasons": ["tool_calls"],
            "cost_usd": 0.0015,
            "price_version": "genai-prices 0.2.3",
            "service_tier": "flex",
            "user_id": "u1",
            "correlation_id": "order-7",
            "trace_id": "ab" * 16,
        },
    ],
    "requests_truncated": False,
}


def test_a_session_to_the_last_key() -> None:
    """A known session's JSON: sums, what it was about, its requests newest first."""
    late = amendment("first", usage=Usage(input=10, output=1), cost_nano_usd=1_100)
    found = sessions(FIRST, SECOND, late).get("s1")
    assert found is not None
    assert found.session_id == "s1"
    assert found.as_dict() == AS_JSON


def test_averages_cover_the_successful_calls() -> None:
    """45,000 ms and 14 successes of 15 make an average of 3214.29."""
    successes = [call(str(number), duration_ms=45_000 / 14, usage=Usage(input=100)) for number in range(14)]
    found = sessions(*successes, call("bad", status="fail", duration_ms=99_999)).get("s1")
    assert found is not None
    shown = found.as_dict()
    names = (
        "total_requests",
        "successful_requests",
        "failed_requests",
        "total_duration_ms",
        "average_duration_ms",
        "average_tokens_per_request",
    )
    assert {name: shown[name] for name in names} == {
        "total_requests": 15,
        "successful_requests": 14,
        "failed_requests": 1,
        "total_duration_ms": 45_000.0,
        "average_duration_ms": 3214.29,
        "average_tokens_per_request": 100.0,
    }


PRICED = call("1", cost_nano_usd=1)


@pytest.mark.parametrize(
    ("others", "cost_usd", "unpriced"),
    [
        pytest.param((call("2"),), None, (1, 0), id="a call"),
        pytest.param((call("2", status="fail", usage=Usage()),), 1e-9, (0, 0), id="failed, took nothing"),
        pytest.param((call("2", status="fail"),), None, (1, 0), id="failed, took tokens"),
        pytest.param((call("2", status="cancelled", usage=Usage()),), None, (1, 0), id="cancelled, unknown"),
        pytest.param((amendment("1"),), None, (0, 1), id="further tokens"),
        pytest.param((amendment("1", usage=Usage()),), 1e-9, (0, 0), id="further attempts"),
        pytest.param((amendment("1", cost_nano_usd=2),), 3e-9, (0, 0), id="priced tokens"),
    ],
)
def test_what_is_unpriced_leaves_the_cost_open(
    others: tuple[UsageRecord, ...], cost_usd: float | None, unpriced: tuple[int, int]
) -> None:
    """Whatever may have cost something and has no price makes the cost unknown; the rest is shown beside it."""
    found = sessions(PRICED, *others).get("s1")
    assert found is not None
    shown = found.as_dict()
    assert (shown["cost_usd"], (shown["unpriced_requests"], shown["unpriced_amendments"])) == (
        cost_usd,
        unpriced,
    )
    assert shown["priced_cost_usd"] == (1e-9 if cost_usd is None else cost_usd)


def test_requests_are_bounded() -> None:
    """The newest requests are shown, and it is said that there were more."""
    found = sessions(*(call(str(number)) for number in range(30))).get("s1")
    assert found is not None
    shown = found.as_dict()
    assert [request["call_id"] for request in shown["requests"]] == [str(29 - number) for number in range(20)]
    assert (shown["total_requests"], shown["requests_truncated"]) == (30, True)


def test_every_answer_catches_up_first() -> None:
    """What is still on its way when somebody asks is in the answer."""
    store = MemoryStore()
    on_the_way = [call("1"), call("2", session_id="s2"), call("3", session_id="s3")]

    def catch_up() -> None:
        if on_the_way:
            store.apply((on_the_way.pop(0),))

    reading = Sessions(store, catch_up)
    assert reading.get("s1") is not None
    assert reading.list().ids == ("s2", "s1")
    assert reading.clear("s3")
    assert reading.get("s3") is None


@pytest.mark.parametrize("limit", [0, -1])
def test_senseless_limits_are_refused(limit: int) -> None:
    """A page without room is an error that names what was asked."""
    with pytest.raises(ValueError, match=f"limit must be at least 1, got {limit}"):
        sessions().list(limit)
