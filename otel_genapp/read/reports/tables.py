"""A report as tables, the same for every form it is written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otel_genapp.read.cells import Cell
from otel_genapp.read.reports.report import Report
from otel_genapp.read.reports.trends import MEASURES, tokens_of

UNKNOWN = "\u2013"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under names of columns; the first column says what a row is of. `units` are those of the columns."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    units: tuple[str, ...] = ()

    def texts(self) -> Iterator[tuple[str, ...]]:
        """The rows for people."""
        for row in self.rows:
            yield tuple(
                shown(value, self._unit(row, place)) for place, value in enumerate(row) if place < self.width
            )

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.columns)

    def _unit(self, row: Sequence[Cell], place: int) -> str:
        # A row that is longer than the columns says its own unit at the end.
        if len(row) > self.width and place:
            return str(row[-1]) if not self.units or not self.units[place] else self.units[place]
        return self.units[place] if self.units else ""

    def cells(self) -> Iterator[tuple[Cell, ...]]:
        """The rows as they are."""
        return (row[: self.width] for row in self.rows)


def tables_of(report: Report) -> list[Table]:
    """All tables of a report; what the report does not have is left out."""
    found = report.found
    tables = [
        _overview(found), _models(found["summary"]), _intents(found["summary"]), _platforms(found["summary"]),
        _words(found["summary"]), _steps(found["steps"]),
    ]  # fmt: skip
    if "trends" in found:
        tables[1:1] = [_previous(found["trends"]), _anomalies(found["trends"])]
        tables.append(_weekdays(found["trends"]))
    if "advice" in found:
        tables.insert(1, _advice(found["advice"]))
    return [table for table in tables if table.rows or table.name in {"anomalies", "advice"}]


def shown(value: Cell, unit: str = "") -> str:
    """A value for people."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit == "rate":
        return f"{100 * value:.1f} %"
    if unit == "percent":
        return f"{value:+.1f} %"
    if unit == "usd":
        if value >= 100 or value == 0:
            return f"${value:,.2f}"
        return f"${value:,.{6 if abs(value) >= 0.001 else 9}f}".rstrip("0").rstrip(".")
    if unit == "ms":
        return f"{value:,.0f} ms"
    if unit == "s":
        return f"{value:,.1f} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def _overview(found: Mapping[str, Any]) -> Table:
    figures = found["summary"]
    talks, feedback, llm, times = (
        figures[name] for name in ("conversations", "feedback", "llm", "response_time_ms")
    )
    csat, nps, quality = feedback["csat"], feedback["nps"], feedback["quality"]
    rows: tuple[tuple[Cell, ...], ...] = (
        ("messages", figures["messages"], ""),
        ("users" if figures["users_exact"] else "users (estimated)", figures["users"], ""),
        ("conversations begun", talks["begun"], ""),
        ("of them ended", talks["ended"], ""),
        ("resolved, of those ended", talks["resolved_rate"], "rate"),
        ("abandoned, of those ended", talks["abandoned_rate"], "rate"),
        ("escalated, of those begun", talks["escalated_rate"], "rate"),
        ("converted, of those begun", talks["converted_rate"], "rate"),
        ("repeated contacts", talks["repeat_contacts"], ""),
        ("time to resolution, median", talks["resolution_s"]["p50"], "s"),
        ("time to resolution, p95", talks["resolution_s"]["p95"], "s"),
        ("response time, median", times["p50"], "ms"),
        ("response time, p95", times["p95"], "ms"),
        ("CSAT, 1 to 5", csat["mean"], ""),
        ("CSAT ratings", csat["count"], ""),
        ("NPS, -100 to 100", nps["score"], ""),
        ("NPS ratings", nps["count"], ""),
        ("quality, 0 to 1", quality["mean"], ""),
        ("critical reviews", feedback["critical"], ""),
        ("intent confidence, 0 to 1", figures["confidence"], ""),
        ("LLM calls", llm["total_requests"], ""),
        ("failed LLM calls", llm["failed_requests"], ""),
        ("LLM tokens", tokens_of(llm), ""),
        ("LLM cost", llm["cost_usd"], "usd"),
        ("LLM cost of calls with a price", llm["priced_cost_usd"], "usd"),
        ("LLM calls without a price", llm["unpriced_requests"], ""),
        ("cache hit rate", llm["cache_hit_rate"], "rate"),
    )
    return Table("summary", "Summary", ("figure", "value"), rows)


def _previous(trends: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            one["title"] + (" (change by the day)" if one["by_day"] else ""),
            one["value"], one["previous"], one["change_percent"], one["unit"],
        )
        for one in trends["previous"]["measures"]
    )  # fmt: skip
    title = f"Beside the period before, {trends['previous']['title']}"
    return Table(
        "previous", title, ("measure", "now", "before", "change"), rows, units=("", "", "", "percent")
    )


def _anomalies(trends: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{one['day']}: {one['title']}", one["value"], one["expected"], one["change_percent"],
            f"{one['spreads']:+.1f}", one["unit"],
        )
        for one in trends["anomalies"]
    )  # fmt: skip
    columns = ("day and measure", "value", "usual", "change", "spreads")
    return Table(
        "anomalies", "Anomalies against the same weekdays", columns, rows,
        units=("", "", "", "percent", ""),
    )  # fmt: skip


def _weekdays(trends: Mapping[str, Any]) -> Table:
    names = ("messages", "conversations", "resolved_rate", "csat", "llm_calls", "llm_cost_usd")
    measures = [measure for measure in MEASURES if measure.name in names]
    columns = ["day", "weekday"]
    units = ["", ""]
    for measure in measures:
        columns += [measure.title, f"usual {measure.title}"]
        units += [measure.unit, measure.unit]
    rows = tuple(
        (
            day["day"], day["weekday"],
            *(day["measures"][one.name][key] for one in measures for key in ("value", "expected")),
        )
        for day in trends["days"]
    )  # fmt: skip
    return Table("days", "Days beside the same weekdays", tuple(columns), rows, units=tuple(units))


def _advice(advice: Sequence[Mapping[str, str]]) -> Table:
    rows = tuple((one["severity"], one["text"], one["rule"]) for one in advice)
    return Table("advice", "What to do", ("severity", "advice", "rule"), rows, units=("", "", ""))


def _models(figures: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            one["model"], one["provider"], one["total_requests"], one["failed_requests"],
            one["total_prompt_tokens"] + one["failed_prompt_tokens"],
            one["total_completion_tokens"] + one["failed_completion_tokens"],
            one["cache_hit_rate"], one["p95_duration_ms"], one["priced_cost_usd"], one["unpriced_requests"],
        )
        for one in figures["llm"]["by_model"]
    )  # fmt: skip
    columns = (
        "model", "provider", "calls", "failed", "tokens in", "tokens out", "cache hit rate", "p95", "cost",
        "without a price",
    )  # fmt: skip
    units = ("", "", "", "", "", "", "rate", "ms", "usd", "")
    return Table("models", "Models", columns, rows, units=units)


def _intents(figures: Mapping[str, Any]) -> Table:
    names = ("intent", "messages", "share", "confidence", "right", "wrong", "accuracy")
    rows = tuple(tuple(one[name] for name in names) for one in figures["intents"])
    return Table("intents", "Intents", names, rows, units=("", "", "rate", "", "", "", "rate"))


def _platforms(figures: Mapping[str, Any]) -> Table:
    names = ("platform", "messages", "conversations")
    rows = tuple(tuple(one[name] for name in names) for one in figures["platforms"])
    return Table("platforms", "Platforms", names, rows)


def _words(figures: Mapping[str, Any]) -> Table:
    rows = tuple((one["word"], one["number"]) for one in figures["feedback"]["words"])
    return Table("words", "Words of critical reviews", ("word", "reviews"), rows)


def _steps(steps: Mapping[str, Any]) -> Table:
    names = (
        "from", "messages", "users", "conversations", "resolved", "feedback", "response_p50_ms", "response_p95_ms",
        "tokens_used", "priced_cost_usd", "unpriced_messages",
    )  # fmt: skip
    rows = tuple(tuple(one[name] for name in names) for one in steps["rows"])
    units = ("", "", "", "", "", "", "ms", "ms", "", "usd", "")
    return Table("steps", f"By {steps['step']}", names, rows, units=units)
