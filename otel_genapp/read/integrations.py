"""The services the application calls over HTTP, host by host, from what its clients counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, added, total
from otel_genapp.metrics.snapshot import Table
from otel_genapp.read.requests import duration_quantile_ms

_CLIENTS = frozenset({"httpx", "httpx2", "aiohttp"})
_FAILURES = frozenset({semconv.STATUS_ERROR, semconv.STATUS_TIMEOUT})
_AUTH_FAILURES = frozenset({"401", "403"})
HOSTS = 100


@dataclass(slots=True)
class _Host:
    """Requests to one host."""

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    auth_errors: int = 0
    rate_limited: int = 0
    durations: Value = field(default_factory=lambda: ([0] * (len(semconv.HTTP_DURATION.buckets) + 1), 0))

    def count(self, status: str, number: int) -> None:
        self.requests += number
        if status in _FAILURES or status.startswith("5"):
            self.failed += number
        elif status == semconv.STATUS_GONE:
            self.cancelled += number
        elif status in _AUTH_FAILURES:
            self.auth_errors += number
        elif status == "429":
            self.rate_limited += number

    def as_dict(self) -> dict[str, Any]:
        judged = self.requests - self.cancelled
        counts = self.durations[0] if isinstance(self.durations, tuple) else []
        return {
            "requests": self.requests,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "availability": round((judged - self.failed) / judged, 6) if judged else None,
            "p50_ms": duration_quantile_ms(counts, 0.5),
            "p95_ms": duration_quantile_ms(counts, 0.95),
            "auth_errors": self.auth_errors,
            "rate_limited": self.rate_limited,
        }


def integrations(counted: Table) -> list[dict[str, Any]]:
    """Requests the application sent since the server started, by host, the busiest first.

    `failed` are those that ended with a 5xx, an error or a timeout, and `availability` is the part
    (0 to 1) that did not; those the application gave up itself (`cancelled`) say nothing of it.
    `auth_errors` are answers 401 and 403, `rate_limited` answers 429. Quantiles are read from the
    buckets of the histogram, in milliseconds. What is unknown is None.
    """
    hosts: dict[str, _Host] = {}
    for (_, status, resource, app_type), value in counted.get(semconv.HTTP_REQUESTS.name, {}).items():
        if app_type in _CLIENTS and not isinstance(value, tuple):
            hosts.setdefault(_host(resource), _Host()).count(status, int(total(value)))
    for (_, _, resource, app_type), value in counted.get(semconv.HTTP_DURATION.name, {}).items():
        if app_type in _CLIENTS:
            one = hosts.setdefault(_host(resource), _Host())
            one.durations = added(one.durations, value)
    busiest = sorted(hosts.items(), key=lambda item: (-item[1].requests, item[0]))
    return [{"host": name, **one.as_dict()} for name, one in busiest[:HOSTS]]


def _host(resource: str) -> str:
    return resource.partition("/")[0]
