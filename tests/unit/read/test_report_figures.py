"""Reports of a synthetic quarter beside what pandas makes of the raw rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.ledger.sql import SQLStore
from otel_genapp.read.reports import About, Reports
from tests.conversation_quarter import BERLIN, Made, make_quarter

pd: Any = pytest.importorskip("pandas", reason="pandas is not installed")

QUARTERS = {"spring": datetime(2026, 3, 1, tzinfo=BERLIN), "autumn": datetime(2026, 10, 1, tzinfo=BERLIN)}
DAYS = {"spring": 92, "autumn": 92}
CHANGES = {"spring": (date(2026, 3, 29), 23.0), "autumn": (date(2026, 10, 25), 25.0)}


@pytest.fixture(scope="module", params=tuple(QUARTERS))
def quarter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """(its name, what was made, reports over it in a database)."""
    made = make_quarter(QUARTERS[request.param], DAYS[request.param], busy=8)
    folder: Path = tmp_path_factory.mktemp("quarter")
    store = SQLStore.open(f"sqlite:///{folder}/ledger.db")
    for start in range(0, len(made.records), 500):
        store.apply(made.records[start : start + 500])
    now_ns = int((QUARTERS[request.param] + timedelta(days=120)).timestamp()) * 10**9
    reports = Reports(store, About("shop", "prod", retention_days=400), now_ns=lambda: now_ns)
    yield request.param, made, reports
    store.close()


def local(frame: Any, column: str) -> Any:
    """A column of UTC nanoseconds as local times in Berlin."""
    return pd.to_datetime(frame[column], unit="ns", utc=True).dt.tz_convert("Europe/Berlin")


def within(rows: list[dict[str, Any]], column: str, *, start: date, end: date) -> Any:
    """The rows whose local day lies between two days, the last not included."""
    frame = pd.DataFrame(rows)
    days = local(frame, column).dt.date
    return frame[(days >= start) & (days < end)]


def rounded(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def expected(made: Made, start: date, end: date) -> dict[str, Any]:
    """The figures of a period, by pandas."""
    messages = within(made.messages, "at_ns", start=start, end=end)
    talks = within(made.conversations, "began_ns", start=start, end=end)
    ended = talks[talks.ended_ns.notna()]
    feedback = within(made.feedback, "at_ns", start=start, end=end)
    calls = within(made.calls, "ended_ns", start=start, end=end)
    asked = feedback.nps.dropna()
    score = 100 * ((asked >= 9).sum() - (asked <= 6).sum()) / len(asked) if len(asked) else None
    solved = ended[ended.resolved == True]  # noqa: E712 - a column
    return {
        "messages": len(messages),
        "users": messages.user.nunique(),
        "begun": len(talks),
        "ended": len(ended),
        "resolved_rate": rounded(len(solved), len(ended)),
        "abandoned_rate": rounded((ended.abandoned == True).sum(), len(ended)),  # noqa: E712
        "escalated_rate": rounded((talks.escalated == True).sum(), len(talks)),  # noqa: E712
        "converted_rate": rounded((talks.converted == True).sum(), len(talks)),  # noqa: E712
        "resolution_s": round(((solved.ended_ns - solved.began_ns) / 1e9).mean(), 3),
        "csat": (int(feedback.csat.count()), round(feedback.csat.mean(), 4)),
        "quality": (int(feedback.quality.count()), round(feedback.quality.mean(), 4)),
        "nps": (len(asked), None if score is None else round(score, 1)),
        "critical": int(feedback.critical.sum()),
        "intents": {name: len(some) for name, some in messages.groupby("intent")},
        "confidence": {
            name: round(some.confidence.mean(), 4)
            for name, some in messages[messages.confidence.notna()].groupby("intent")
        },
        "right": {name: int((some.right == True).sum()) for name, some in messages.groupby("intent")},  # noqa: E712
        "wrong": {name: int((some.right == False).sum()) for name, some in messages.groupby("intent")},  # noqa: E712
        "platforms": {name: len(some) for name, some in messages.groupby("platform")},
        "tokens": int(messages.tokens.sum()),
        "cost": int(messages.cost_nano.sum()) / 1e9,
        "llm": (
            len(calls), int(calls.failed.sum()), int(calls.input.sum() + calls.output.sum()),
            int(calls.cost_nano.sum()) / 1e9, rounded(calls.cached.sum(), calls.input.sum()),
        ),
        "models": {name: len(some) for name, some in calls.groupby("model")},
    }  # fmt: skip


def told(summary: dict[str, Any]) -> dict[str, Any]:
    """The same figures, from a report."""
    talks, feedback, llm = summary["conversations"], summary["feedback"], summary["llm"]
    intents = {one["intent"]: one for one in summary["intents"]}
    tokens = llm["total_tokens"] + llm["failed_prompt_tokens"] + llm["failed_completion_tokens"]
    return {
        "messages": summary["messages"],
        "users": summary["users"],
        **{name: talks[name] for name in ("begun", "ended", "resolved_rate", "abandoned_rate")},
        **{name: talks[name] for name in ("escalated_rate", "converted_rate")},
        "resolution_s": talks["resolution_s"]["mean"],
        "csat": (feedback["csat"]["count"], feedback["csat"]["mean"]),
        "quality": (feedback["quality"]["count"], feedback["quality"]["mean"]),
        "nps": (feedback["nps"]["count"], feedback["nps"]["score"]),
        "critical": feedback["critical"],
        "intents": {name: one["messages"] for name, one in intents.items()},
        "confidence": {
            name: one["confidence"] for name, one in intents.items() if one["confidence"] is not None
        },
        "right": {name: one["right"] for name, one in intents.items()},
        "wrong": {name: one["wrong"] for name, one in intents.items()},
        "platforms": {one["platform"]: one["messages"] for one in summary["platforms"]},
        "tokens": summary["tokens_used"],
        "cost": summary["cost_usd"],
        "llm": (
            llm["total_requests"], llm["failed_requests"], tokens, llm["cost_usd"], llm["cache_hit_rate"],
        ),
        "models": {one["model"]: one["total_requests"] for one in llm["by_model"]},
    }  # fmt: skip


def spans(name: str) -> list[tuple[str, date, date]]:
    """(kind, first day, day after the last) of the periods that are compared."""
    change, _hours = CHANGES[name]
    monday = change - timedelta(days=change.weekday())
    first = change.replace(day=1)
    return [
        ("daily", change, change + timedelta(days=1)),
        ("daily", change - timedelta(days=1), change),
        ("weekly", monday, monday + timedelta(days=7)),
        ("monthly", first, (first + timedelta(days=31)).replace(day=1)),
    ]


def test_figures_equal_an_independent_computation(quarter: Any) -> None:
    """Days, weeks and months in Berlin, with both changes of the clocks and late events, are as pandas has them."""
    name, made, reports = quarter
    for kind, start, end in spans(name):
        report = reports.make(kind, day=start, zone="Europe/Berlin").as_dict()
        assert told(report["summary"]) == expected(made, start, end), (
            kind,
            start,
        )
        times = sorted(within(made.messages, "at_ns", start=start, end=end).took_ms)
        for quantile, label in ((0.5, "p50"), (0.95, "p95")):
            exact = times[math.ceil(quantile * len(times)) - 1]
            assert report["summary"]["response_time_ms"][label] == pytest.approx(exact, rel=0.021)


def test_days_on_which_clocks_change(quarter: Any) -> None:
    """They have 23 and 25 hours, and as many steps; the steps of a period add up to it."""
    name, made, reports = quarter
    day, hours = CHANGES[name]
    report = reports.make("daily", day=day, zone="Europe/Berlin").as_dict()
    rows = report["steps"]["rows"]
    assert (report["period"]["hours"], len(rows)) == (hours, int(hours))
    assert sum(row["messages"] for row in rows) == report["summary"]["messages"]
    frame = within(made.messages, "at_ns", start=day, end=day + timedelta(days=1))
    by_hour = local(frame, "at_ns").map(
        lambda moment: moment.floor("h", ambiguous=moment.fold == 0).isoformat()
    )
    assert {
        row["from"]: row["messages"] for row in rows if row["messages"]
    } == by_hour.value_counts().to_dict()
    minutes = reports.make("daily", day=day, zone="Europe/Berlin", step="minute", detail="summary").as_dict()
    assert len(minutes["steps"]["rows"]) == 60 * int(hours)
    assert sum(row["messages"] for row in minutes["steps"]["rows"]) == report["summary"]["messages"]


def test_trends_equal_an_independent_computation(quarter: Any) -> None:
    """The usual number of messages of a day is the mean of the same weekday of the 4 weeks before."""
    name, made, reports = quarter
    change, _hours = CHANGES[name]
    day = change + timedelta(days=14)
    report = reports.make("daily", day=day, zone="Europe/Berlin").as_dict()
    by_day = local(pd.DataFrame(made.messages), "at_ns").dt.date.value_counts()
    earlier = [int(by_day.get(day - timedelta(weeks=week), 0)) for week in range(1, 5)]
    (row,) = report["trends"]["days"]
    assert row["measures"]["messages"]["value"] == by_day[day]
    assert row["measures"]["messages"]["expected"] == pytest.approx(sum(earlier) / 4)
    before = {one["measure"]: one for one in report["trends"]["previous"]["measures"]}
    assert before["messages"]["previous"] == by_day[day - timedelta(days=1)]
