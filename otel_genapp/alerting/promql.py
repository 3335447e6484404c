"""Pieces of PromQL: series of a family, what a counter gained, what is usual at this time of day."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent

from otel_genapp.semconv import Metric

RESOURCE_LABELS = ("env", "app")
"""On every series of an app, beside the labels of its family."""
USUAL_DAYS = 7
USUAL_DAYS_MIN = 3
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the rules' windows are: as the table says, or all of them `shrink` times shorter."""

    shrink: int = 1

    def __call__(self, duration: str) -> str:
        """`duration` (`5m`) at this pace, at least a second."""
        if self.shrink == 1:
            return duration
        seconds = int(duration[:-1]) * _UNITS[duration[-1]] // self.shrink
        return f"{max(seconds, 1)}s"


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """The selector of a family's series.

    Raises:
        ValueError: a matcher names a label the family does not have.
    """
    for matcher in matchers:
        label = re.split(r"[=!]", matcher, maxsplit=1)[0]
        if label not in (*metric.labels, *RESOURCE_LABELS, "le"):
            raise ValueError(f"{metric.name} has no label {label!r}")
    return f"{metric.name}{suffix}" + (f"{{{', '.join(matchers)}}}" if matchers else "")


def one_of(label: str, values: Sequence[str]) -> str:
    """The matcher of a label that has one of the values (each may be a regular expression)."""
    return f'{label}=~"{"|".join(values)}"'


def under(bound: float) -> str:
    """The matcher of the histogram bucket `bound`: `10.0` from the app, `10` after some relays."""
    return f'le=~"{bound:g}([.]0)?"'


def raised(selector: str, *labels: str, window: str, pace: Pace) -> str:
    """What a counter gained over `window`, summed by env, app and `labels`, its first step included.

    `increase` alone misses the step with which a series is born: the first failure after a start. So a
    series that was not there a window ago counts whole; unless it had been seen in the hour before
    (a gap in scraping): then it counts from there, and whole again if it restarted in the gap. All parts
    look back over the window and not at the moment, so that they do not fall the moment an app dies.
    Where Prometheus itself was away for more than an hour, series of before count once as new.
    """
    now, before = pace(window), pace("1h")
    return (
        f"sum by ({', '.join((*RESOURCE_LABELS, *labels))}) (\n"
        f"  (increase({selector}[{now}]) and {selector} offset {now})\n"
        f"  or (last_over_time({selector}[{now}]) - last_over_time({selector}[{before}] offset {now}) >= 0)\n"
        f"  or last_over_time({selector}[{now}])\n"
        ")"
    )


def usual(record: str, *labels: str, pace: Pace) -> str:
    """The mean of a recorded value at this time of the last days; nothing before three of them are known."""
    by = ", ".join((*RESOURCE_LABELS, *labels))
    days = "\nor ".join(
        f'label_replace({record} offset {pace(f"{day}d")}, "day", "{day}", "", "")'
        for day in range(1, USUAL_DAYS + 1)
    )
    days = indent(days, "  ")
    return f"avg by ({by}) (\n{days}\n)\nand count by ({by}) (\n{days}\n) >= {USUAL_DAYS_MIN}"


def or_zero(part: str, whole: str) -> str:
    """`part`, or 0 where only `whole` has a value: no failure is a number too."""
    return f"({part} or {whole} * 0)"


def held(selector: str, *, pace: Pace) -> str:
    """The last value of a gauge, kept for 5 minutes after its app died.

    A gauge goes stale with its app; an alert on the bare gauge would end at that moment, before anything
    says that the app is down, and read as recovery.
    """
    return f"last_over_time({selector}[{pace('5m')}])"
