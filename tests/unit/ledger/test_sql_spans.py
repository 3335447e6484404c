"""What is particular to spans in SQLite: how long nobody else can write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event

from otel_genapp.ledger.sql import SQLStore
from tests.builders import kept_span


def test_a_batch_takes_a_handful_of_statements(tmp_path: Path) -> None:
    """However many spans it has: each statement waits for the interpreter, and holds up other writers."""
    store = SQLStore.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    store.prepare()
    seen: list[tuple[str, bool]] = []

    def note(_c: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, many: bool) -> None:
        seen.append((statement, many))

    event.listen(store._database._engine, "before_cursor_execute", note)
    for number in range(2):
        spans = [kept_span(f"{number}-{at}", f"{at % 50:032x}") for at in range(200)]
        assert store.spans.add(spans) == 200
    assert len(seen) <= 2 * 8
    assert not any(many for _, many in seen)
    store.close()
