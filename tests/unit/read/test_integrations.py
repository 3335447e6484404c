"""The services an application calls, from what its clients counted."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.metrics.snapshot import Table
from otel_genapp.read.integrations import HOSTS, integrations

BUCKETS = semconv.HTTP_DURATION.buckets
NOTHING = {
    "requests": 0, "failed": 0, "cancelled": 0, "availability": None, "p50_ms": None, "p95_ms": None,
    "auth_errors": 0, "rate_limited": 0,
}  # fmt: skip


def durations(*seconds: float) -> tuple[list[int], list[float]]:
    counts = [0] * (len(BUCKETS) + 1)
    for second in seconds:
        counts[next(place for place, upper in enumerate(BUCKETS) if second <= upper)] += 1
    return counts, list(seconds)


def test_hosts_by_what_their_clients_saw() -> None:
    """One entry for each host, templates and libraries put together; requests that came in are not theirs."""
    counted: Table = {
        semconv.HTTP_REQUESTS.name: {
            ("POST", "200", "api.example/v1/{id}", "httpx"): 90,
            ("GET", "503", "api.example", "aiohttp"): 4,
            ("GET", "timeout", "api.example", "httpx2"): 2,
            ("GET", "error", "api.example", "httpx"): 1,
            ("GET", "401", "api.example", "httpx"): 1,
            ("GET", "403", "api.example/v1/{id}", "httpx2"): 1,
            ("GET", "429", "api.example", "httpx"): 1,
            ("GET", "499", "api.example", "httpx"): 5,
            ("GET", "499", "[::1]:9000", "httpx"): 2,
            ("GET", "200", "/api.example", "fastapi"): 50,
        },
        semconv.HTTP_DURATION.name: {
            ("POST", "200", "api.example/v1/{id}", "httpx"): durations(BUCKETS[2], BUCKETS[2]),
            ("GET", "503", "api.example", "aiohttp"): durations(BUCKETS[2], BUCKETS[2]),
            ("GET", "200", "/api.example", "fastapi"): durations(BUCKETS[9]),
        },
    }
    low, high = BUCKETS[1] * 1000, BUCKETS[2] * 1000
    assert integrations(counted) == [
        {
            "host": "api.example", "requests": 105, "failed": 7, "cancelled": 5, "availability": 0.93,
            "p50_ms": round((low + high) / 2, 1), "p95_ms": round(low + (high - low) * 0.95, 1),
            "auth_errors": 2, "rate_limited": 1,
        },
        {**NOTHING, "host": "[::1]:9000", "requests": 2, "cancelled": 2},
    ]  # fmt: skip


def test_the_list_has_an_end() -> None:
    """The busiest hosts are shown; without requests there are none."""
    requests: Table = {
        semconv.HTTP_REQUESTS.name: {
            ("GET", "200", f"h{number:03d}", "httpx"): number + 1 for number in range(HOSTS + 20)
        }
    }
    found = integrations(requests)
    assert [one["host"] for one in found] == [f"h{number:03d}" for number in range(HOSTS + 19, 19, -1)]
    assert integrations({}) == []
