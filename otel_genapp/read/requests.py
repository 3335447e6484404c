"""HTTP requests since the server started, and the health of telemetry itself, from what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, added, total
from otel_genapp.metrics.snapshot import Table

_SERVERS = frozenset({"fastapi", "flask"})
_FAILURES = frozenset({"error", "timeout"})
RESOURCES = 10
_OWN = ("/genapp", "/prometheus", "/events/", "/health/")
"""How our own endpoints begin: who looks on is not what is looked at."""
_HEALTH = "/health"


def is_own(resource: str) -> bool:
    """Whether a route is one of our endpoints."""
    return resource.startswith(_OWN) or resource == _HEALTH


@dataclass(slots=True)
class _Served:
    """Requests of one resource, or of all."""

    requests: int = 0
    failed: int = 0
    durations: Value = field(default_factory=lambda: ([0] * (len(semconv.HTTP_DURATION.buckets) + 1), 0))

    def as_dict(self) -> dict[str, Any]:
        counts = self.durations[0] if isinstance(self.durations, tuple) else []
        return {
            "requests": self.requests,
            "failed": self.failed,
            "p50_ms": duration_quantile_ms(counts, 0.5),
            "p95_ms": duration_quantile_ms(counts, 0.95),
        }


def served(counted: Table) -> dict[str, Any]:
    """Requests that came in, all of them and by resource, the busiest first.

    `failed` are those that ended with a 5xx, an exception or a timeout. Quantiles are read from the
    buckets of the histogram as Prometheus does, in milliseconds; None where there were no requests.
    """
    overall = _Served()
    resources: dict[str, _Served] = {}
    for (_, status, resource, app_type), value in counted.get(semconv.HTTP_REQUESTS.name, {}).items():
        if app_type in _SERVERS and not isinstance(value, tuple) and not is_own(resource):
            for one in (overall, resources.setdefault(resource, _Served())):
                one.requests += int(total(value))
                one.failed += int(total(value)) if status in _FAILURES or status.startswith("5") else 0
    for (_, _, resource, app_type), value in counted.get(semconv.HTTP_DURATION.name, {}).items():
        if app_type in _SERVERS and not is_own(resource):
            for one in (overall, resources.setdefault(resource, _Served())):
                one.durations = added(one.durations, value)
    busiest = sorted(resources.items(), key=lambda item: (-item[1].requests, item[0]))
    return {
        **overall.as_dict(),
        "resources": [{"resource": name, **one.as_dict()} for name, one in busiest[:RESOURCES]],
    }


def own_health(counted: Table) -> list[dict[str, Any]]:
    """What telemetry itself lost, could not do or put together, by series; empty when all is well."""
    found = []
    for metric, says in (
        (semconv.TELEMETRY_DROPPED, "dropped"),
        (semconv.TELEMETRY_ERRORS, "own errors"),
        (semconv.TELEMETRY_FOLDED, "labels put together"),
    ):
        for labels, value in counted.get(metric.name, {}).items():
            number = 0 if isinstance(value, tuple) else int(total(value))
            if number:
                found.append({"what": says, "where": " ".join(labels), "number": number})
    return found


def duration_quantile_ms(counts: Sequence[int], q: float) -> float | None:
    """A quantile of a series of `genapp_http_request_duration_sec`, in milliseconds; None without requests.

    Linear within a bucket; of the last one, its lower end.
    """
    number = sum(counts)
    if not number:
        return None
    buckets, rank, below = semconv.HTTP_DURATION.buckets, q * number, 0
    for place, upper in enumerate(buckets):
        if counts[place] and below + counts[place] >= rank:
            lower = buckets[place - 1] if place else 0.0
            return round((lower + (upper - lower) * (rank - below) / counts[place]) * 1000, 1)
        below += counts[place]
    return round(buckets[-1] * 1000, 1)
