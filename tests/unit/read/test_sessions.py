"""The JSON of sessions and totals, to the last key."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from typing import Any

import pytest

from otel_genapp.ledger.rollup import duration_bucket, quantile_ms
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.sessions import Sessions, totals_dict
from otel_genapp.records import Record, Usage
from tests.builders import MINUTE_NS, START_NS, amendment, call

SECOND_NS = 10**9
START_S = START_NS / 1e9

NOTHING: dict[str, Any] = {
    "total_requests": 0,
    "successful_requests": 0,
    "failed_requests": 0,
    "cancelled_requests": 0,
    "total_duration_ms": 0.0,
    "average_duration_ms": 0,
    "failed_duration_ms": 0.0,
    "total_prompt_tokens": 0,
    "total_completion_tokens": 0,
    "total_tokens": 0,
    "average_tokens_per_request": 0,
    "failed_prompt_tokens": 0,
    "failed_completion_tokens": 0,
    "cached_tokens": 0,
    "cache_hit_rate": None,
    "reasoning_tokens": 0,
    "requests_with_tools": 0,
    "tool_calls": 0,
    "cost_usd": 0.0,
    "priced_cost_usd": 0.0,
    "unpriced_requests": 0,
    "unknown_usage_requests": 0,
    "first_request_at": None,
    "last_request_at": None,
    "p50_duration_ms": None,
    "p95_duration_ms": None,
}


def stored(*records: Record) -> MemoryStore:
    store = MemoryStore()
    store.apply(records)
    return store


def sessions(*records: Record) -> Sessions:
    return Sessions(stored(*records), lambda: None)


def totals(store: MemoryStore, in_flight: int = 0, **asked: float) -> dict[str, Any]:
    answer = totals_dict(
        store,
        from_s=asked.get("from_s"),
        to_s=asked.get("to_s"),
        step_s=asked.get("step_s"),
        in_flight=in_flight,
    )
    json.dumps(answer, allow_nan=False)
    return answer


def shown_quantile(duration_ms: float) -> float:
    found = quantile_ms({duration_bucket(duration_ms): 1}, 0.5)
    assert found is not None
    return round(found, 3)


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


def test_a_session_to_the_last_key() -> None:
    """A known session's JSON: sums, what it was about, its requests newest first."""
    found = sessions(FIRST, SECOND, amendment("first", usage=Usage(input=10, output=1))).get("s1")
    assert found is not None
    assert found.session_id == "s1"
    assert found.as_dict() == {
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
        "cost_usd": 0.0015,
        "priced_cost_usd": 0.0015,
        "unpriced_requests": 0,
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
                "user_id": "u1",
                "correlation_id": "order-7",
                "trace_id": "ab" * 16,
            },
        ],
        "requests_truncated": False,
    }


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


def test_an_unpriced_call_leaves_the_cost_open() -> None:
    """One call without a price makes the cost unknown; what is priced is shown beside it."""
    found = sessions(call("1", cost_nano_usd=1), call("2"), call("3", status="fail")).get("s1")
    assert found is not None
    shown = found.as_dict()
    assert (shown["cost_usd"], shown["priced_cost_usd"], shown["unpriced_requests"]) == (None, 1e-9, 1)


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


def sums(**changes: Any) -> dict[str, Any]:
    return {**NOTHING, **changes}


def test_empty_totals() -> None:
    """Before the first call every number is 0 or unknown."""
    assert totals(MemoryStore()) == {
        **NOTHING,
        "events": {"started": 0, "completed": 0, "failed": 0},
        "no_session": NOTHING,
        "by_model": {},
    }
    assert totals(MemoryStore(), step_s=60)["series"] == []


def test_totals_to_the_last_key() -> None:
    """Totals cover every call, those without a session apart too, and each model."""
    plain = call("1", session_id=None, cost_nano_usd=2)
    other = call("2", model="small", status="cancelled", usage=Usage(output=3), cost_nano_usd=1)
    one_second = shown_quantile(1000.0)
    times = {
        "first_request_at": "2027-01-15T08:00:00.000Z",
        "last_request_at": "2027-01-15T08:00:01.000Z",
        "p50_duration_ms": one_second,
        "p95_duration_ms": one_second,
    }
    succeeded: dict[str, Any] = {
        "successful_requests": 1,
        "total_duration_ms": 1000.0,
        "average_duration_ms": 1000.0,
        "total_prompt_tokens": 100,
        "total_completion_tokens": 20,
        "total_tokens": 120,
        "average_tokens_per_request": 120.0,
        "cache_hit_rate": 0.0,
    }
    cancelled: dict[str, Any] = {
        "failed_requests": 1,
        "cancelled_requests": 1,
        "failed_duration_ms": 1000.0,
        "failed_completion_tokens": 3,
    }
    first = sums(total_requests=1, cost_usd=2e-9, priced_cost_usd=2e-9, **succeeded, **times)
    second = sums(total_requests=1, cost_usd=1e-9, priced_cost_usd=1e-9, **cancelled, **times)
    assert totals(stored(plain, other), in_flight=4) == {
        **sums(total_requests=2, cost_usd=3e-9, priced_cost_usd=3e-9, **succeeded, **cancelled, **times),
        "events": {"started": 6, "completed": 1, "failed": 1},
        "no_session": first,
        "by_model": {
            "gpt-5": {"providers": ["openai"], **first},
            "small": {"providers": ["openai"], **second},
        },
    }


def spread() -> MemoryStore:
    """Calls in minutes 0, 1, 1, 4 and 70."""
    return stored(
        *(
            call(str(number), started_at_ns=START_NS + minute * MINUTE_NS)
            for number, minute in enumerate((0, 1, 1, 4, 70))
        )
    )


def steps(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return [(step["time"][11:16], step["total_requests"]) for step in answer["series"]]


def test_a_series_of_whole_sums() -> None:
    """Each step is a time and the same sums as the totals."""
    answer = totals(stored(call("1")), from_s=START_S, to_s=START_S + 120, step_s=60)
    one_second = shown_quantile(1000.0)
    assert answer["series"] == [
        {
            "time": "2027-01-15T08:00:00.000Z",
            **sums(
                total_requests=1,
                successful_requests=1,
                total_duration_ms=1000.0,
                average_duration_ms=1000.0,
                total_prompt_tokens=100,
                total_completion_tokens=20,
                total_tokens=120,
                average_tokens_per_request=120.0,
                cache_hit_rate=0.0,
                cost_usd=None,
                unpriced_requests=1,
                first_request_at="2027-01-15T08:00:00.000Z",
                last_request_at="2027-01-15T08:00:01.000Z",
                p50_duration_ms=one_second,
                p95_duration_ms=one_second,
            ),
        },
        {"time": "2027-01-15T08:01:00.000Z", **NOTHING},
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"to_s": START_S + 300}, [("08:00", 1), ("08:01", 2), ("08:02", 0), ("08:03", 0), ("08:04", 1)]),
        ({"from_s": START_S + 240, "step_s": 3600}, [("08:00", 1), ("09:00", 1)]),
        ({"from_s": START_S + 60, "to_s": START_S + 4200, "step_s": 3600}, [("08:00", 3), ("09:00", 0)]),
        ({"step_s": 1800}, [("08:00", 4), ("08:30", 0), ("09:00", 1)]),
        ({"from_s": START_S + 86_400}, []),
    ],
)
def test_steps_cover_exactly_the_range(asked: dict[str, float], expected: list[tuple[str, int]]) -> None:
    """Steps start at whole multiples of their length, and add up to the totals of the range."""
    answer = totals(spread(), **{"step_s": 60, **asked})
    assert steps(answer) == expected
    assert sum(count for _, count in expected) == answer["total_requests"]


def test_a_range_and_its_events() -> None:
    """Within a range only its minutes count."""
    answer = totals(spread(), from_s=START_S + 60, to_s=START_S + 300)
    assert (answer["total_requests"], answer["events"]["completed"]) == (3, 3)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"from_s": 60.0, "to_s": 60.0}, "from must be before to"),
        ({"from_s": 120.0, "to_s": 60.0}, "from must be before to"),
        ({"step_s": 59.0}, "step must be at least 60 seconds, got 59"),
        ({"from_s": 0.0, "to_s": 60.0 * 10_001, "step_s": 60.0}, "more than 10000 steps"),
    ],
)
def test_senseless_ranges_are_refused(asked: dict[str, float], problem: str) -> None:
    """An empty range, a step too short or too many of them are errors that say so."""
    with pytest.raises(ValueError, match=problem):
        totals(spread(), **asked)


def test_10000_steps_are_answered_quickly() -> None:
    """A series over a week of minutes looks at each minute once, not once for each step."""
    store = stored(
        *(call(str(number), started_at_ns=START_NS + number * MINUTE_NS) for number in range(2000))
    )
    looks = Counter[str]()

    class Counting(OrderedDict[int, Any]):
        def __getitem__(self, minute: int) -> Any:
            looks["minutes"] += 1
            return super().__getitem__(minute)

        def items(self) -> Any:
            looks["minutes"] += len(self)
            return super().items()

    store._minutes = Counting(store._minutes)
    looks.clear()
    answer = totals(store, from_s=START_S, to_s=START_S + 600_000, step_s=60)
    assert (len(answer["series"]), answer["total_requests"]) == (10_000, 2000)
    assert looks["minutes"] <= 3 * 2000
