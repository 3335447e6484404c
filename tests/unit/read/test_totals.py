"""The JSON of totals, over all time, over a range and in steps."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from typing import Any

import pytest

from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.sessions import totals_dict
from otel_genapp.records import Usage
from tests.builders import MINUTE_NS, START_NS, call, shown_quantile, stored

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
    "unpriced_amendments": 0,
    "unknown_usage_requests": 0,
    "first_request_at": None,
    "last_request_at": None,
    "p50_duration_ms": None,
    "p95_duration_ms": None,
}


def totals(store: MemoryStore, in_flight: int = 0, **asked: Any) -> dict[str, Any]:
    answer = totals_dict(
        store,
        from_s=asked.get("from_s"),
        to_s=asked.get("to_s"),
        step_s=asked.get("step_s"),
        in_flight=in_flight,
    )
    json.dumps(answer, allow_nan=False)
    return answer


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
def test_steps_cover_exactly_the_range(asked: dict[str, Any], expected: list[tuple[str, int]]) -> None:
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
def test_senseless_ranges_are_refused(asked: dict[str, Any], problem: str) -> None:
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
