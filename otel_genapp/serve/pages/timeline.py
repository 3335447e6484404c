"""A session's calls on a line of time: where each bar is, in the units of the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from otel_genapp.records import LLMCall

WIDTH, ROW, LEFT = 1000, 22, 4
_LEAST = 3.0
"""A bar that is shorter is not seen."""
_LANES = 12
_TICKS = 5
_SHORT_NS = 20 * 10**9


@dataclass(frozen=True, slots=True)
class Bar:
    """A call."""

    call: LLMCall
    x: float
    y: float
    width: float
    first_token_x: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis: which time of the day (UTC) is there, to the millisecond where that is short."""

    x: float
    says: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    height: float
    width: float = WIDTH


def timeline_of(calls: Sequence[LLMCall]) -> Timeline | None:
    """The calls, those at the same time below each other; None for none."""
    if not calls:
        return None
    ordered = sorted(calls, key=lambda call: call.started_at_ns)
    first = ordered[0].started_at_ns
    span = max(max(call.ended_at_ns for call in ordered) - first, 1)
    scale = (WIDTH - 2 * LEFT) / span
    free_from: list[float] = []
    bars = []
    for call in ordered:
        x = LEFT + (call.started_at_ns - first) * scale
        width = max((call.ended_at_ns - call.started_at_ns) * scale, _LEAST)
        lane = next((number for number, end in enumerate(free_from) if end <= x), len(free_from))
        lane = min(lane, _LANES - 1)
        if lane == len(free_from):
            free_from.append(0.0)
        free_from[lane] = max(free_from[lane], x + width + 1)
        token_x = x + call.first_token_ms * 1e6 * scale if call.first_token_ms is not None else None
        bars.append(Bar(call, round(x, 2), lane * ROW, round(width, 2), token_x and round(token_x, 2)))
    digits = 8 if span > _SHORT_NS else 12
    ticks = tuple(
        Tick(
            round(LEFT + span * scale * place / (_TICKS - 1), 2),
            _time_of_day(first + span * place // (_TICKS - 1))[:digits],
        )
        for place in range(_TICKS)
    )
    return Timeline(tuple(bars), ticks, len(free_from) * ROW)


def _time_of_day(moment_ns: int) -> str:
    try:
        return datetime.fromtimestamp(moment_ns / 1e9, UTC).strftime("%H:%M:%S.%f")
    except (OverflowError, ValueError, OSError):
        return ""
