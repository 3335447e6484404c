"""What both `/prometheus` endpoints answer."""

from __future__ import annotations

from otel_genapp.bootstrap import running
from otel_genapp.serve.exchange import Reply

_PLAIN = "text/plain; charset=utf-8"


def exposition(accept: str) -> Reply:
    """The exposition in the format that `accept` asks for; it takes locks, so not on an event loop.

    503 while no telemetry runs, 500 when it cannot be had: an empty one would look like no traffic.
    """
    telemetry = running()
    if telemetry is None:
        return Reply(503, b"telemetry is not running: call build_prometheus_metrics\n", _PLAIN)
    body, content_type = telemetry.exposition(accept)
    return Reply(200, body, content_type) if body else Reply(500, b"internal error\n", _PLAIN)
