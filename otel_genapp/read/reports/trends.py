"""A period beside the one before it, and each of its days beside the same weekdays of the 4 weeks before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import fmean, median
from typing import Any, Literal

from otel_genapp.read.reports.figures import rate

WEEKS = 4
LEAST_KNOWN = 3
MARKED_FROM = 3.5
LEAST_OF_LEVEL = 20
_MAD_TO_SIGMA = 1.4826
RULE = (
    f"A day is marked where a value lies {MARKED_FROM:g} or more spreads from the median of the same weekday in the "
    f"{WEEKS} weeks before, of which at least {LEAST_KNOWN} must be known. The spread is {_MAD_TO_SIGMA} times the "
    "median absolute deviation, and at least 10 % of the median (20 % of tokens and cost), the square root of a count, "
    f"and the measure's own least. Rates, means and quantiles of fewer than {LEAST_OF_LEVEL} are not judged."
)

Numbers = Mapping[str, float | None]
Sort = Literal["count", "amount", "level"]


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is compared: a count, an amount that adds up, or a level that does not."""

    name: str
    title: str
    sort: Sort
    least: float = 0.0
    """The least spread, in its own unit."""
    unit: str = ""


MEASURES: tuple[Measure, ...] = (
    Measure("messages", "messages", "count"),
    Measure("users", "users", "count"),
    Measure("conversations", "conversations begun", "count"),
    Measure("resolved_rate", "resolved", "level", least=0.05, unit="rate"),
    Measure("escalated_rate", "escalated", "level", least=0.05, unit="rate"),
    Measure("abandoned_rate", "abandoned", "level", least=0.05, unit="rate"),
    Measure("csat", "CSAT", "level", least=0.15),
    Measure("nps", "NPS", "level", least=10.0),
    Measure("critical", "critical reviews", "count"),
    Measure("response_p95_ms", "response time p95", "level", least=50.0, unit="ms"),
    Measure("llm_calls", "LLM calls", "count"),
    Measure("llm_failed_rate", "failed LLM calls", "level", least=0.02, unit="rate"),
    Measure("llm_tokens", "LLM tokens", "amount", least=1.0),
    Measure("llm_cost_usd", "LLM cost", "amount", least=1e-6, unit="usd"),
)


def numbers_of(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The measures of a stretch of time; `figures` has what its LLM calls took under `llm`."""
    conversations, feedback, llm = figures["conversations"], figures["feedback"], figures["llm"]
    return {
        "messages": figures["messages"],
        "users": figures["users"],
        "conversations": conversations["begun"],
        "resolved_rate": conversations["resolved_rate"],
        "escalated_rate": conversations["escalated_rate"],
        "abandoned_rate": conversations["abandoned_rate"],
        "csat": feedback["csat"]["mean"],
        "nps": feedback["nps"]["score"],
        "critical": feedback["critical"],
        "response_p95_ms": figures["response_time_ms"]["p95"],
        "llm_calls": llm["total_requests"],
        "llm_failed_rate": rate(llm["failed_requests"], llm["total_requests"]),
        "llm_tokens": tokens_of(llm),
        "llm_cost_usd": llm["cost_usd"],
    }


def numbers_of_day(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The same of a day, without the levels that rest on too little to be judged."""
    conversations, feedback, llm = figures["conversations"], figures["feedback"], figures["llm"]
    rests_on = {
        "resolved_rate": conversations["ended"],
        "abandoned_rate": conversations["ended"],
        "escalated_rate": conversations["begun"],
        "csat": feedback["csat"]["count"],
        "nps": feedback["nps"]["count"],
        "response_p95_ms": figures["response_time_ms"]["count"],
        "llm_failed_rate": llm["total_requests"],
    }
    found = numbers_of(figures)
    return {
        name: value if rests_on.get(name, LEAST_OF_LEVEL) >= LEAST_OF_LEVEL else None
        for name, value in found.items()
    }


def tokens_of(llm: Mapping[str, Any]) -> int:
    """All tokens of calls, those of failed ones too."""
    total: int = llm["total_tokens"] + llm["failed_prompt_tokens"] + llm["failed_completion_tokens"]
    return total


def change(value: float | None, before: float | None) -> float | None:
    """By how many per cent a value differs from an earlier one; None where that cannot be said."""
    if value is None or not before:
        return None
    return round(100 * (value - before) / abs(before), 1)


def beside_previous(now: Numbers, before: Numbers, *, days: int, days_before: int) -> list[dict[str, Any]]:
    """Each measure now and before; what adds up is compared by the day where the periods are not equally long."""
    found = []
    for measure in MEASURES:
        value, earlier = now[measure.name], before[measure.name]
        by_day = measure.sort != "level" and days != days_before
        per, per_before = (days, days_before) if by_day else (1, 1)
        found.append({
            "measure": measure.name,
            "title": measure.title,
            "unit": measure.unit,
            "value": value,
            "previous": earlier,
            "change_percent": change(
                None if value is None else value / per, None if earlier is None else earlier / per_before
            ),
            "by_day": by_day,
        })  # fmt: skip
    return found


def beside_weekdays(days: Sequence[date], known: Mapping[date, Numbers]) -> list[dict[str, Any]]:
    """Each day beside the same weekdays before it; `known` has the days something is known of that are over."""
    found = []
    for day in days:
        before = [known.get(day - timedelta(weeks=week)) for week in range(1, WEEKS + 1)]
        measures = {}
        for measure in MEASURES:
            numbers = known.get(day)
            value = numbers[measure.name] if numbers is not None else None
            earlier = [
                number for one in before if one is not None and (number := one[measure.name]) is not None
            ]
            measures[measure.name] = _judged(measure, value, earlier=earlier)
        found.append({"day": day.isoformat(), "weekday": day.strftime("%A"), "measures": measures})
    return found


def anomalies_in(days: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is marked, the farthest off first."""
    titles = {measure.name: measure for measure in MEASURES}
    found = [
        {
            "day": day["day"],
            "measure": name,
            "title": titles[name].title,
            "unit": titles[name].unit,
            **{key: judged[key] for key in ("value", "expected", "change_percent", "spreads")},
        }
        for day in days
        for name, judged in day["measures"].items()
        if judged["anomaly"]
    ]
    return sorted(found, key=lambda one: (-abs(one["spreads"]), one["day"], one["measure"]))


def _judged(measure: Measure, value: float | None, *, earlier: Sequence[float]) -> dict[str, Any]:
    spreads = None
    if value is not None and len(earlier) >= LEAST_KNOWN:
        middle = median(earlier)
        spread = max(
            _MAD_TO_SIGMA * median(abs(one - middle) for one in earlier),
            abs(middle) * (0.2 if measure.sort == "amount" else 0.1),
            math.sqrt(max(middle, 1.0)) if measure.sort == "count" else 0.0,
            measure.least,
        )
        spreads = round((value - middle) / spread, 2)
    expected = fmean(earlier) if earlier else None
    return {
        "value": value,
        "expected": None if expected is None else round(expected, 6),
        "change_percent": change(value, expected),
        "spreads": spreads,
        "anomaly": spreads is not None and abs(spreads) >= MARKED_FROM,
    }
