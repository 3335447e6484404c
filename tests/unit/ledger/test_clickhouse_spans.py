"""Traces of a fleet are read from the collector's table as they are from our own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.clickhouse.spans import NO_COLLECTOR
from otel_genapp.ledger.spans import TraceSummary
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.read.traces import Traces
from otel_genapp.records import KeptEvent, KeptSpan
from tests.builders import MINUTE_NS, START_NS, call, kept_span
from tests.clickhouse import Database
from tests.otel_table import FILE, export, make_table


def some_spans(traces: int = 40, *, seed: int = 5) -> list[KeptSpan]:
    """Traces of one to six spans over some days, of which every third has a sibling with its correlation id."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    spans = []
    for number in range(traces):
        trace_id = f"{chance.getrandbits(128):032x}"
        correlation_id = f"cid-{number // 3}" if number % 5 else trace_id
        at_ns = START_NS + number * 97 * MINUTE_NS
        for part in range(chance.randint(1, 6)):
            failed = chance.random() < 0.1
            said: dict[str, Any] = {"correlation.id": correlation_id} if correlation_id != trace_id else {}
            spans.append(
                kept_span(
                    f"{number:08x}{part:08x}",
                    trace_id,
                    parent_id=f"{number:08x}{0:08x}" if part else None,
                    correlation_id=correlation_id,
                    kind=chance.choice(("server", "client", "internal", "consumer")),
                    service=chance.choice(("shop", "bot")),
                    scope="tests",
                    started_at_ns=at_ns + part * 1_000_001,
                    duration_ms=chance.choice((1.5, 250.0, 12_000.0)),
                    status="error" if failed else chance.choice(("unset", "ok")),
                    status_message="it broke" if failed else "",
                    error_type="KeyError" if failed else None,
                    attributes={**said, "http.route": "/"},
                    events=(
                        KeptEvent(
                            name="exception", at_ns=at_ns + 5, attributes={"exception.type": "KeyError"}
                        ),
                    )
                    if failed
                    else (),
                    links=part % 2,
                )
            )
    return spans


def nothing() -> None:
    """There is nobody to catch up with."""


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLStore]:
    """Another store for the same."""
    found = SQLStore.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield found
    found.close()


def pages(traces: Traces, *, only_errors: bool, limit: int) -> list[TraceSummary]:
    """The list of traces, page by page."""
    found: list[TraceSummary] = []
    cursor = None
    while True:
        page = traces.recent(limit, cursor, only_errors=only_errors)
        found += page.traces
        cursor = page.next
        if cursor is None:
            return found


@pytest.mark.parametrize("kind", ["plain", *(["file"] if FILE.exists() else [])])
def test_a_fleets_traces_are_answered_as_our_own(database: Database, sqlite: SQLStore, kind: str) -> None:
    """By correlation id, by trace id and in a list, with their LLM calls: the same as from SQLite."""
    make_table(database, kind)
    spans = some_spans()
    fleet = database.open_store()
    sqlite.spans.add(spans)
    export(database, *spans[::2])
    export(database, *spans[1::2], *spans[:30])  # some come twice
    calls = [
        call(f"{number}", correlation_id=f"cid-{number}", trace_id=spans[number].trace_id)
        for number in range(9)
    ]
    for store in (fleet, sqlite):
        store.apply(calls)
    expected = Traces(sqlite.spans, sqlite, catch_up=nothing)
    found = Traces(fleet.spans, fleet, catch_up=nothing)
    assert found.notes == ()
    for correlation_id in {span.correlation_id for span in spans} | {"unknown"}:
        theirs, ours = (
            [trace.as_dict() for trace in each.by_correlation_id(correlation_id)]
            for each in (found, expected)
        )
        assert theirs == ours
    for trace_id in {span.trace_id for span in spans}:
        mine, his = found.by_trace_id(trace_id), expected.by_trace_id(trace_id)
        assert mine is not None
        assert his is not None
        assert mine.as_dict() == his.as_dict()
    assert found.by_trace_id("unknown") is None
    for only_errors in (False, True):
        listed = pages(expected, only_errors=only_errors, limit=100)
        for limit in (1, 7, 100):
            assert pages(found, only_errors=only_errors, limit=limit) == listed


def test_without_a_collector_there_are_no_spans(database: Database) -> None:
    """Answers are empty and say why, until the table is there."""
    one = database.open_store()
    traces = Traces(one.spans, one, catch_up=nothing)
    assert (traces.by_correlation_id("cid"), traces.by_trace_id("1" * 32), traces.recent().traces) == (
        [],
        None,
        (),
    )
    assert (one.spans.problem, traces.notes) == (NO_COLLECTOR, (NO_COLLECTOR,))
    make_table(database, "plain")
    export(database, kept_span("1" * 16, correlation_id="cid"))
    assert len(traces.by_correlation_id("cid")) == 1
    assert traces.notes == ()
    with pytest.raises(ValueError, match="cursor must be one that an earlier page gave"):
        traces.recent(5, "x")


def test_a_store_says_so_when_it_is_made_ready(database: Database) -> None:
    """Before anybody asked for a trace."""
    one = ClickHouseStore.open(database.url)
    assert one.spans.problem == ""
    one.prepare()
    assert one.spans.problem == NO_COLLECTOR
    one.close()
