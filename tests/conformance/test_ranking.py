"""Sessions by rank, in every store."""

from __future__ import annotations

import pytest

from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.store import Store
from otel_genapp.records import Usage, UsageRecord
from tests.builders import MINUTE_NS, START_NS, call
from tests.conformance.test_store import session_of, sums_of


def ranking_of(store: Store, by: str, *, limit: int = 2, search: str = "") -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = store.ranked(by=by, limit=limit, cursor=cursor, search=search)
        found += [session.session_id for session in page.sessions]
        if page.next is None:
            return found
        cursor = page.next


def test_sessions_by_rank(store: Store) -> None:
    """By each of the rankings, page by page, with the sums they have; those without a session are in none."""
    records: list[UsageRecord] = [
        call("1", session_id="cheap", cost_nano_usd=1, usage=Usage(100, 50)),
        call("2", session_id="dear", cost_nano_usd=900, usage=Usage(10, 5)),
        call("3", session_id="Failing", cost_nano_usd=5, usage=Usage(20, 5), status="fail"),
        call("4", session_id="Failing", cost_nano_usd=5, usage=Usage(20, 5), status="cancelled"),
        call("5", session_id="old", cost_nano_usd=7, usage=Usage(1, 1), started_at_ns=START_NS - MINUTE_NS),
        call("6", session_id=None, cost_nano_usd=10**6, usage=Usage(10**6, 10**6)),
    ]
    store.apply(records)
    assert ranking_of(store, "cost") == ["dear", "Failing", "old", "cheap"]
    assert ranking_of(store, "tokens") == ["cheap", "Failing", "dear", "old"]
    assert ranking_of(store, "failed")[0] == "Failing"
    assert {*ranking_of(store, "recent")[:3]} == {"cheap", "dear", "Failing"}
    assert ranking_of(store, "recent")[3] == "old"
    assert ranking_of(store, "cost", search="FAIL") == ["Failing"]
    assert ranking_of(store, "cost", search="%") == []
    (session,) = store.ranked(by="cost", limit=1, cursor=None, search="ail").sessions
    assert session == SessionRollup(
        "Failing",
        sums_of(*records[2:4]),
        session_of("", *records[2:4]).models,
        session_of("", *records[2:4]).users,
    )
    store.clear("dear")
    assert ranking_of(store, "cost") == ["Failing", "old", "cheap"]
    with pytest.raises(ValueError, match="cursor"):
        store.ranked(by="cost", limit=1, cursor="no cursor")
