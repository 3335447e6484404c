"""Days, weeks and months in a named time zone, and the steps they are looked at in.

A day begins at its local midnight, so that the days on which clocks change have 23 or 25 hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

KINDS = ("daily", "weekly", "monthly")
STEPS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86_400}
"""Name -> seconds; a day is as long as it is."""
USUAL_STEP: Mapping[str, str] = {"daily": "hour", "weekly": "day", "monthly": "day"}
STEPS_LIMIT = 10_000
UTC_NAME = "UTC"

_FIRST, _LAST = date(1970, 1, 2), date(9990, 12, 31)
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: UTC nanoseconds, the end not included."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Period:
    """One or more whole days of a time zone; `end` is the day after the last."""

    kind: str
    start: date
    end: date
    zone: tzinfo
    zone_name: str

    @property
    def span(self) -> Span:
        """From the midnight it begins with to the one it ends with."""
        return Span(midnight_ns(self.start, self.zone), midnight_ns(self.end, self.zone))

    @property
    def days(self) -> tuple[date, ...]:
        """Its days."""
        return tuple(self.start + timedelta(days=number) for number in range((self.end - self.start).days))

    @property
    def title(self) -> str:
        """`2026-03-29`, or the first and the last day."""
        last = self.end - timedelta(days=1)
        return self.start.isoformat() if last == self.start else f"{self.start} to {last}"

    def previous(self) -> Period:
        """The one before it, of the same kind."""
        return period_of(self.kind, self.start - timedelta(days=1), zone_name=self.zone_name)

    def steps(self, step: str) -> tuple[Span, ...]:
        """It in steps; those of the clock's length begin anew with each day.

        Raises:
            ValueError: there is no such step, or there would be too many.
        """
        if step not in STEPS:
            raise ValueError(f"step must be one of {', '.join(STEPS)}, got {step[:40]!r}")
        found: list[Span] = []
        for day in self.days:
            start, end = midnight_ns(day, self.zone), midnight_ns(day + timedelta(days=1), self.zone)
            length = end - start if step == "day" else STEPS[step] * 10**9
            found += (Span(one, min(one + length, end)) for one in range(start, end, max(length, 1)))
            if len(found) > STEPS_LIMIT:
                raise ValueError(f"a {self.kind} report has too many steps of a {step}; ask for longer ones")
        return tuple(found)


def midnight_ns(day: date, zone: tzinfo) -> int:
    """When a day begins, in UTC nanoseconds; where its midnight is skipped, when the clocks change."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 10**9


def day_of(moment_ns: int, zone: tzinfo) -> date:
    """The day of a zone in which a moment falls."""
    return datetime.fromtimestamp(moment_ns // 10**9, tz=zone).date()


def zone_of(name: str) -> tzinfo:
    """The time zone of a name such as `Europe/Berlin`.

    Raises:
        ValueError: there is none of that name.
    """
    if name == UTC_NAME:
        return UTC
    try:
        if len(name) <= _LONGEST_NAME and name.isascii():
            return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, no name of a file
        pass
    raise ValueError(f"tz must be the name of a time zone such as Europe/Berlin, got {name[:80]!r}")


def parse_day(text: str, name: str) -> date:
    """A day written as `2026-03-29`; `name` is what it is called in the message.

    Raises:
        ValueError: it is no day.
    """
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError(f"{name} must be a day such as 2026-03-29, got {text[:40]!r}")
    if not _FIRST <= day <= _LAST:
        raise ValueError(f"{name} must be a day from {_FIRST} to {_LAST}, got {text[:40]!r}")
    return day


def period_of(kind: str, day: date, *, zone_name: str = UTC_NAME) -> Period:
    """The day, the week from Monday, or the month in which a day lies.

    Raises:
        ValueError: there is no such kind, or no such zone.
    """
    if kind not in KINDS:
        raise ValueError(f"a report is one of {', '.join(KINDS)}, got {kind[:40]!r}")
    start, end = _bounds(kind)(day)
    return Period(kind, start, end, zone_of(zone_name), zone_name)


def last_complete(kind: str, now_ns: int, *, zone_name: str = UTC_NAME) -> Period:
    """The latest period that is over.

    Raises:
        ValueError: there is no such kind, or no such zone.
    """
    return period_of(kind, day_of(now_ns, zone_of(zone_name)), zone_name=zone_name).previous()


def range_of(start: date, end: date, *, zone_name: str = UTC_NAME) -> Period:
    """From a day to a later one, both included.

    Raises:
        ValueError: the last one comes first, or there is no such zone.
    """
    if end < start:
        raise ValueError(f"the last day must not be before the first, got {start} to {end}")
    return Period("range", start, end + timedelta(days=1), zone_of(zone_name), zone_name)


def iso(moment_ns: int, zone: tzinfo = UTC) -> str:
    """A moment as ISO 8601 with its offset, to the second."""
    return datetime.fromtimestamp(moment_ns // 10**9, tz=zone).isoformat()


def _day(day: date) -> tuple[date, date]:
    return day, day + timedelta(days=1)


def _week(day: date) -> tuple[date, date]:
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=7)


def _month(day: date) -> tuple[date, date]:
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _bounds(kind: str) -> Callable[[date], tuple[date, date]]:
    return {"daily": _day, "weekly": _week, "monthly": _month}[kind]
