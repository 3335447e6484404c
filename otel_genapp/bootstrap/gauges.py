"""What the gauges of one telemetry show, and who keeps it."""

from __future__ import annotations

from collections.abc import Callable

from otel_genapp import semconv
from otel_genapp.metrics.host import disk_used, memory_used
from otel_genapp.metrics.instruments import Gauge
from otel_genapp.metrics.levels import Levels
from otel_genapp.state_directory import StateDirectory

ROOT = "/"


def new_levels() -> Levels:
    """The gauges somebody sets."""
    return Levels(semconv.HEALTH_UP, semconv.HEALTH_LATENCY, semconv.RATE_LIMIT_REMAINING)


def gauges(
    levels: Levels, state: StateDirectory, *, in_flight: Callable[[], int], active_sessions: Gauge
) -> dict[str, Gauge]:
    """What each gauge shows, by its name."""
    paths = (ROOT,) if state.path is None else (ROOT, str(state.path))
    return {
        semconv.LLM_IN_FLIGHT.name: in_flight,
        semconv.ACTIVE_SESSIONS.name: active_sessions,
        semconv.DISK_USED.name: disk_used(paths),
        semconv.MEMORY_USED.name: memory_used,
        **{metric.name: levels.gauge(metric) for metric in levels.metrics},
    }
