"""A report of a day, a week or a month, put together from what a store keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any

from otel_genapp.ledger.store import Store, Totals
from otel_genapp.read.reports.advice import Seen, advise
from otel_genapp.read.reports.figures import Figures
from otel_genapp.read.reports.gathering import LOOK_BACK, Series, first_known, gather
from otel_genapp.read.reports.period import (
    USUAL_STEP,
    UTC_NAME,
    Period,
    Span,
    day_of,
    iso,
    last_complete,
    midnight_ns,
    period_of,
)
from otel_genapp.read.reports.trends import (
    RULE,
    WEEKS,
    anomalies_in,
    beside_previous,
    beside_weekdays,
    numbers_of,
    numbers_of_day,
)
from otel_genapp.read.sessions import sums_dict

DETAILS = ("summary", "trends", "full")
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class About:
    """Whose reports these are, and what its store keeps."""

    app: str
    env: str
    retention_days: int = 30
    repeat_hours: int = 24

    @property
    def repeat_ns(self) -> int:
        """How soon a contact is a repeated one."""
        return self.repeat_hours * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Report:
    """A report. `as_dict()` is the JSON of `GET /analytics/report/{period}`."""

    found: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; durations in milliseconds, money in US dollars, rates as parts of 1."""
        return dict(self.found)

    @property
    def name(self) -> str:
        """What a file with it is called, without its ending."""
        period = self.found["period"]
        return f"{period['kind']}-report-{period['from'][:10]}"


class Reports:
    """Reports over a store; each is made when it is asked for. Methods may be called on any thread."""

    def __init__(
        self,
        store: Store,
        about: About,
        *,
        catch_up: Callable[[], None] = lambda: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store = store
        self.about = about
        self.catch_up = catch_up
        self._now_ns = now_ns

    def today(self) -> date:
        """The day it is, in UTC."""
        return day_of(self._now_ns(), UTC)

    def make(
        self,
        kind: str,
        *,
        day: date | None = None,
        zone: str = UTC_NAME,
        step: str = "",
        detail: str = "full",
    ) -> Report:
        """The report of the period with `day`, or of the last one that is over, in a time zone.

        `step` is minute, hour or day; `detail` summary, trends (with the periods before) or full (with advice).

        Raises:
            ValueError: one of them cannot be understood.
        """
        if detail not in DETAILS:
            raise ValueError(f"detail must be one of {', '.join(DETAILS)}, got {detail[:40]!r}")
        now_ns = self._now_ns()
        period = (
            last_complete(kind, now_ns, zone_name=zone)
            if day is None
            else period_of(kind, day, zone_name=zone)
        )
        step = step or USUAL_STEP[kind]
        steps = period.steps(step)
        self.catch_up()
        work = _Work(self.store, self.about, period, now_ns, is_summary=detail == "summary")
        return Report({**work.head(), **work.body(steps, step=step, detail=detail)})


@dataclass(frozen=True, slots=True)
class _Work:
    """One report being made."""

    store: Store
    about: About
    period: Period
    now_ns: int
    is_summary: bool

    def head(self) -> dict[str, Any]:
        span, zone = self.period.span, self.period.zone
        return {
            "app": self.about.app,
            "env": self.about.env,
            "made_at": iso(self.now_ns),
            "period": {
                "kind": self.period.kind,
                "title": self.period.title,
                "from": iso(span.from_ns, zone),
                "to": iso(span.to_ns, zone),
                "time_zone": self.period.zone_name,
                "hours": (span.to_ns - span.from_ns) / 3.6e12,
                "complete": span.to_ns <= self.now_ns,
            },
            "notes": list(self._notes()),
        }

    def body(self, steps: tuple[Span, ...], *, step: str, detail: str) -> dict[str, Any]:
        period, previous, days = self.period, self.period.previous(), self._days()
        series = {
            "whole": Series([period.span], Figures.as_dict),
            "previous": Series([previous.span], Figures.as_dict),
            "days": Series([self._span_of(day) for day in days], Figures.as_dict),
            "steps": Series(steps, Figures.as_step),
        }
        starts = [self._span_of(day).from_ns for day in days] or [period.span.from_ns]
        within = Span(min(starts) - LOOK_BACK * self.about.repeat_ns, period.span.to_ns)
        gather(
            self.store.conversations, tuple(series.values()), within=within, repeat_ns=self.about.repeat_ns
        )
        (whole,), (before,) = series["whole"].done(), series["previous"].done()
        whole["llm"] = self._llm(period.span)
        found: dict[str, Any] = {
            "summary": whole,
            "steps": {
                "step": step,
                "rows": [
                    {"from": iso(span.from_ns, period.zone), **figures}
                    for span, figures in zip(steps, series["steps"].done(), strict=True)
                ],
            },
        }
        if self.is_summary:
            return found
        before["llm"] = self._llm(previous.span)
        by_day = series["days"].done()
        for day, figures in zip(days, by_day, strict=True):
            figures["llm"] = sums_dict(self._totals(self._span_of(day)).overall)
        first = first_known(days, by_day)
        known = {
            day: numbers_of_day(figures)
            for day, figures in zip(days, by_day, strict=True)
            if first is not None and day >= max(first, self._kept_since()) and self._is_over(day)
        }
        is_known = previous.start in known
        found["trends"] = self._trends(whole, before if is_known else None, previous=previous, known=known)
        if detail == "full":
            anomalies = found["trends"]["anomalies"]
            comparable = before if is_known and period.span.to_ns <= self.now_ns else None
            found["advice"] = advise(Seen(whole, comparable, anomalies))
        return found

    def _trends(
        self,
        whole: Mapping[str, Any],
        before: Mapping[str, Any] | None,
        *,
        previous: Period,
        known: Mapping[date, Mapping[str, float | None]],
    ) -> dict[str, Any]:
        now = numbers_of(whole)
        earlier = numbers_of(before) if before is not None else dict.fromkeys(now)
        days = beside_weekdays(self.period.days, known)
        return {
            "previous": {
                "title": previous.title,
                "known": before is not None,
                "measures": beside_previous(
                    now, earlier, days=len(self.period.days), days_before=len(previous.days)
                ),
            },
            "days": days,
            "anomalies": anomalies_in(days),
            "rule": RULE,
        }

    def _days(self) -> tuple[date, ...]:
        """The days that are looked at beside its own."""
        if self.is_summary:
            return ()
        earliest = min(self.period.start - timedelta(weeks=WEEKS), self.period.previous().start)
        return tuple(earliest + timedelta(days=number) for number in range((self.period.end - earliest).days))

    def _span_of(self, day: date) -> Span:
        zone = self.period.zone
        return Span(midnight_ns(day, zone), midnight_ns(day + timedelta(days=1), zone))

    def _is_over(self, day: date) -> bool:
        return self._span_of(day).to_ns <= self.now_ns

    def _kept_since(self) -> date:
        """The first day of which no message has aged out."""
        kept_ns = max(self.now_ns - self.about.retention_days * _DAY_NS, _DAY_NS)
        return day_of(kept_ns, self.period.zone) + timedelta(days=1)

    def _notes(self) -> list[str]:
        notes = []
        if self.period.span.from_ns > self.now_ns:
            notes.append(f"The period has not begun: it begins on {self.period.start}.")
        elif self.period.span.to_ns > self.now_ns:
            notes.append("The period is not over yet: its figures go on growing.")
        if self.period.start < self._kept_since():
            notes.append(
                f"Messages and feedback are kept for {self.about.retention_days} days (retention_days); "
                "older ones may be missing here. LLM totals are kept for ever."
            )
        elif not self.is_summary and min(self._days()) < self._kept_since():
            notes.append(
                f"Days before {self._kept_since()} count as unknown: messages are kept for "
                f"{self.about.retention_days} days (retention_days)."
            )
        return notes

    def _totals(self, span: Span) -> Totals:
        return self.store.totals(from_ns=span.from_ns, to_ns=span.to_ns)

    def _llm(self, span: Span) -> dict[str, Any]:
        found = self._totals(span)
        by_model = [
            {"provider": provider, "model": model, **sums_dict(sums)}
            for (provider, model), sums in found.by_model.items()
        ]
        return {
            **sums_dict(found.overall),
            "by_model": sorted(
                by_model, key=lambda one: (-one["total_requests"], one["model"], one["provider"])
            ),
        }
