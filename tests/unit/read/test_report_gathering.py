"""What reports add up: usage without calls, contacts that repeat, whatever else is read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from otel_genapp.ledger.conversations import ConversationRow
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.reports import About, Reports
from otel_genapp.read.reports.delimited import report_csv
from otel_genapp.read.reports.figures import Figures
from otel_genapp.read.reports.markdown import report_markdown
from otel_genapp.read.reports.report import DETAILS
from otel_genapp.read.reports.tables import shown, tables_of
from otel_genapp.records import Message, Outcome

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR_NS = 3600 * 10**9


def at_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def row(**said: Any) -> ConversationRow:
    return ConversationRow(id="m", at_ns=1, session_id="s", began_at_ns=1, **said)


def test_usage_that_only_amendments_tell_is_added() -> None:
    """Tokens and cost count where no call is known any more; a message without either is none of unknown usage."""
    figures = Figures()
    for one in (row(tokens_used=30, cost_nano_usd=5_000), row(tokens_used=7), row(), row(llm_calls=1)):
        figures.add(one, begins=False, repeats=False)
    found = figures.as_dict()
    assert (found["tokens_used"], found["messages_of_unknown_usage"]) == (37, 1)
    assert (found["priced_cost_usd"], found["unpriced_messages"]) == (0.000005, 2)


@pytest.mark.parametrize(("begun_hours_ago", "repeats"), [(47, 1), (49, 0), (200, 0)])
def test_a_repeated_contact_is_one_in_every_detail(begun_hours_ago: int, repeats: int) -> None:
    """How much a report reads to compare with changes nothing of what it says of its own period."""
    store = MemoryStore()
    began = NOON - timedelta(hours=begun_hours_ago)
    store.apply(
        [
            Message(id="m1", at_ns=at_ns(began), session_id="s1", user_id="ann"),
            Outcome(id="o1", at_ns=at_ns(NOON) - HOUR_NS, session_id="s1", resolved=True),
            Message(id="m2", at_ns=at_ns(NOON), session_id="s2", user_id="ann"),
        ]
    )
    now_ns = at_ns(NOON + timedelta(days=2))
    reports = Reports(store, About("shop", "prod", retention_days=30), now_ns=lambda: now_ns)
    said = [
        reports.make("daily", day=DAY, detail=detail).as_dict()["summary"]["conversations"]["repeat_contacts"]
        for detail in DETAILS
    ]
    assert said == [repeats] * len(DETAILS)


def test_every_figure_of_a_day_has_a_name_of_its_own() -> None:
    """No two columns of a table have one name, and what is usual says of what."""
    report = Reports(MemoryStore(), About("shop", "prod")).make("daily", day=DAY)
    for table in tables_of(report):
        assert len(set(table.columns)) == table.width, table.name
    lines = report_csv(report).decode().splitlines()
    assert f"days,{DAY},usual messages," in lines
    keys = [line.rsplit(",", 1)[0] for line in lines if line.startswith("days,")]
    assert len(set(keys)) == len(keys)
    assert "| usual messages |" in report_markdown(report)


@pytest.mark.parametrize(
    ("day", "notes"),
    [
        (DAY - timedelta(days=1), []),
        (DAY, ["The period is not over yet: its figures go on growing."]),
        (DAY + timedelta(days=1), [f"The period has not begun: it begins on {DAY + timedelta(days=1)}."]),
    ],
)
def test_what_is_not_over_says_so(day: date, notes: list[str]) -> None:
    """A period that goes on is told from one that has not begun, which says when it does."""
    reports = Reports(MemoryStore(), About("shop", "prod"), now_ns=lambda: at_ns(NOON))
    found = reports.make("daily", day=day, detail="summary")
    assert found.as_dict()["notes"] == notes


def test_small_amounts_are_not_nothing() -> None:
    """Money is shown as far as it is counted, to a billionth of a dollar."""
    amounts = [shown(value, "usd") for value in (0, 4e-8, 0.000251, 0.0125, 12.5, 250.0)]
    assert amounts == ["$0.00", "$0.00000004", "$0.000251", "$0.0125", "$12.5", "$250.00"]
