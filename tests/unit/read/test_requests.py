"""Requests and the health of telemetry, from what was counted."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.metrics.snapshot import Table
from otel_genapp.read.requests import own_health, served

BUCKETS = semconv.HTTP_DURATION.buckets


def durations(*seconds: float) -> tuple[list[int], list[float]]:
    counts = [0] * (len(BUCKETS) + 1)
    for second in seconds:
        counts[next((place for place, upper in enumerate(BUCKETS) if second <= upper), len(BUCKETS))] += 1
    return counts, list(seconds)


def test_requests_that_came_in() -> None:
    """By resource, the busiest first; failed are 5xx, exceptions and timeouts; what went out and our own are left out."""
    counted: Table = {
        semconv.HTTP_REQUESTS.name: {
            ("GET", "200", "/a", "fastapi"): 3,
            ("POST", "503", "/a", "fastapi"): 1,
            ("GET", "timeout", "/b", "flask"): 1,
            ("GET", "404", "/b", "flask"): 5,
            ("GET", "200", "llm.example/v1", "httpx"): 50,
            ("GET", "200", "/genapp/", "fastapi"): 9,
            ("GET", "200", "/prometheus", "flask"): 9,
        },
        semconv.HTTP_DURATION.name: {
            ("GET", "200", "/a", "fastapi"): durations(BUCKETS[2], BUCKETS[2]),
            ("GET", "404", "/b", "flask"): durations(BUCKETS[-1] * 2),
            ("GET", "200", "llm.example/v1", "httpx"): durations(BUCKETS[5]),
        },
    }
    found = served(counted)
    assert (found["requests"], found["failed"]) == (10, 2)
    assert [(one["resource"], one["requests"], one["failed"]) for one in found["resources"]] == [
        ("/b", 6, 1),
        ("/a", 4, 1),
    ]
    low, high = BUCKETS[1] * 1000, BUCKETS[2] * 1000
    assert found["resources"][1]["p50_ms"] == round((low + high) / 2, 1)
    assert found["resources"][0]["p95_ms"] == BUCKETS[-1] * 1000


def test_without_requests() -> None:
    """Nothing was counted: no number is made up."""
    assert served({}) == {"requests": 0, "failed": 0, "p50_ms": None, "p95_ms": None, "resources": []}


def test_own_health() -> None:
    """What was lost or folded is named, series that are 0 are not."""
    counted: Table = {
        semconv.TELEMETRY_DROPPED.name: {("span", "queue_full"): 3, ("span", "shutdown"): 0},
        semconv.TELEMETRY_FOLDED.name: {("genapp_http_requests_total", "resource"): 2},
    }
    assert own_health(counted) == [
        {"what": "dropped", "where": "span queue_full", "number": 3},
        {"what": "labels put together", "where": "genapp_http_requests_total resource", "number": 2},
    ]
