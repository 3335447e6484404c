"""Whether the app kept what it promises: uptime and response time over a window of its recorded history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otel_genapp import semconv
from otel_genapp.health.history import PAUSE_S
from otel_genapp.health.recorded import SLOT_S, Recorded
from otel_genapp.metrics.snapshot import Table
from otel_genapp.read.requests import is_own

_SERVERS = frozenset({"fastapi", "flask"})


@dataclass(frozen=True, slots=True)
class Targets:
    """What is promised: a share of the time, and a share of the requests within so many milliseconds."""

    uptime: float
    response_ms: float
    response_share: float


def durations(counted: Table) -> list[int]:
    """Requests of the app that came in, by the buckets of the duration histogram."""
    found = [0] * (len(semconv.HTTP_DURATION.buckets) + 1)
    for (_, _, resource, app_type), value in counted.get(semconv.HTTP_DURATION.name, {}).items():
        if app_type in _SERVERS and isinstance(value, tuple) and not is_own(resource):
            found = [one + other for one, other in zip(found, value[0], strict=True)]
    return found


def sla_dict(recorded: Recorded, targets: Targets, *, window_s: float, now_s: float) -> dict[str, Any]:
    """The answer of `/events/sla`; what is not known yet is None, and nothing is judged by it.

    Uptime is the share of the 15 s slots in which every critical check passed and the app lived,
    from its first start on. Response time is the quantile of the requests, in milliseconds, read
    from buckets as Prometheus does, to whole blocks of 5 minutes.
    """
    first, end = recorded.first, _end(recorded, now_s)
    start = max(int((now_s - window_s) // SLOT_S) + 1, first if first is not None else 0)
    now = recorded.now
    return {
        "window": {
            "from": _stamp(now_s - window_s),
            "to": _stamp(now_s),
            "seconds": int(window_s),
        },
        "since": _stamp(first * SLOT_S) if first is not None else None,
        "uptime": _uptime(recorded, start, end=end, target=targets.uptime),
        "response_time": _response_time(recorded.served(start, end), targets),
        "checked_by": {
            "pid": now.pid,
            "since": _stamp(now.leading_s),
            "alive_at": _stamp(now.alive_s),
        }
        if now.alive_s
        else None,
    }


def _end(recorded: Recorded, now_s: float) -> int:
    """The slot behind the last that counts: the one under way once it was seen."""
    slot, last = int(now_s // SLOT_S), recorded.last
    if last is None:
        return slot
    if 0 <= now_s - recorded.now.alive_s <= PAUSE_S:  # what is missing is about to be written
        return min(last, slot) + 1
    seen, _ = recorded.numbers(slot, slot + 1)
    return slot + seen


def _uptime(recorded: Recorded, start: int, *, end: int, target: float) -> dict[str, Any]:
    seen, up = recorded.numbers(start, end)
    total = max(end - start, 0) - recorded.left_out(start, end)
    if recorded.first is None or total <= 0:
        total = seen = up = 0
    return {
        "current": round(up / total, 6) if total else None,
        "target": target,
        "compliant": up >= target * total if total else None,
        "intervals": total,
        "intervals_down": seen - up,
        "intervals_not_running": total - seen,
        "interval_s": SLOT_S,
    }


def _response_time(counts: Sequence[int], targets: Targets) -> dict[str, Any]:
    number = sum(counts)
    within = _within(counts, targets.response_ms / 1000) if number else 0.0
    return {
        "current": _quantile_ms(counts, targets.response_share) if number else None,
        "target": targets.response_ms,
        "compliant": within >= targets.response_share * number if number else None,
        "unit": "ms",
        "quantile": targets.response_share,
        "share_within_target": round(within / number, 6) if number else None,
        "requests": number,
    }


def _within(counts: Sequence[int], limit_s: float) -> float:
    """How many requests took at most `limit_s`; linear within a bucket, none of the last."""
    found, lower = 0.0, 0.0
    for count, upper in zip(counts, semconv.HTTP_DURATION.buckets, strict=False):
        if upper <= limit_s:
            found += count
        else:
            return found + count * max(limit_s - lower, 0.0) / (upper - lower)
        lower = upper
    return found


def _quantile_ms(counts: Sequence[int], q: float) -> float:
    rank, below, lower = q * sum(counts), 0, 0.0
    for count, upper in zip(counts, semconv.HTTP_DURATION.buckets, strict=False):
        if count and below + count >= rank:
            return round((lower + (upper - lower) * (rank - below) / count) * 1000, 1)
        below, lower = below + count, upper
    return round(lower * 1000, 1)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, 0.0), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
