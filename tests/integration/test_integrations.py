"""Services an application calls with its HTTP clients, as telemetry shows them."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from otel_genapp.testing import capture_telemetry
from tests.canned import Asked, Canned, serving

STATUSES = (200, 200, 200, 200, 401, 403, 429, 500, 503)


def answer(asked: Asked) -> Canned:
    return Canned(status=int(asked.path.rpartition("/")[2]))


def test_calls_of_both_clients_are_judged_by_host() -> None:
    """Availability, refusals and latency of a host, and one that nobody listens on."""
    with capture_telemetry() as got, serving(answer) as server:
        with httpx.Client() as one, httpx2.Client() as other:
            for client in (one, other):
                for status in STATUSES:
                    client.get(server.url(f"/{status}"))
            with pytest.raises(httpx.ConnectError):
                one.get("http://127.0.0.1:9/")
        found = {entry.pop("host"): entry for entry in got.telemetry.integrations()}
    authority = server.url("").partition("://")[2].rstrip("/")
    assert set(found) == {authority, "127.0.0.1:9"}
    p50, p95 = found[authority].pop("p50_ms"), found[authority].pop("p95_ms")
    assert 0 < p50 <= p95 < 10_000
    assert found[authority] == {
        "requests": 18, "failed": 4, "cancelled": 0, "availability": round(14 / 18, 6), "auth_errors": 4,
        "rate_limited": 2,
    }  # fmt: skip
    assert (found["127.0.0.1:9"]["failed"], found["127.0.0.1:9"]["availability"]) == (1, 0.0)
