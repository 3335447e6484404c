"""Reports of conversations that are longer than what is looked at when something new comes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from otel_genapp.ledger.settling import WINDOW
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.reports import About, Reports
from tests.builders import START_NS
from tests.conversing import SECOND_NS, message, outcome

LONG = 2 * WINDOW + 100


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_long_conversations_end(kind: str, tmp_path: Path) -> None:
    """A conversation of hundreds of messages is ended, resolved, and took as long as it did; the next one repeats it."""
    store: Store = MemoryStore() if kind == "memory" else SQLStore.open(f"sqlite:///{tmp_path}/ledger.db")
    for start in range(0, LONG, 50):
        store.apply([message(f"m{at_s}", at_s) for at_s in range(start, start + 50)])
    store.apply([outcome("o1", LONG, escalated=True), outcome("o2", LONG + 1, resolved=True)])
    store.apply([message("again", LONG + 2)])
    day = datetime.fromtimestamp(START_NS / 1e9, UTC).date()
    reports = Reports(store, About("shop", "prod"), now_ns=lambda: START_NS + 86_400 * SECOND_NS)
    talks = reports.make("daily", day=day, detail="summary").as_dict()["summary"]["conversations"]
    store.close()
    counted = ("begun", "ended", "resolved", "escalated", "repeat_contacts")
    assert {name: talks[name] for name in counted} == {
        "begun": 2, "ended": 1, "resolved": 1, "escalated": 1, "repeat_contacts": 1,
    }  # fmt: skip
    assert talks["resolution_s"]["mean"] == LONG + 1
