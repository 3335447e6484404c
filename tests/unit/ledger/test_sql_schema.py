"""Tables have a version: older ones are brought to it, newer ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from otel_genapp.errors import StoreError
from otel_genapp.ledger.sql import SQLStore, migrations, schema
from tests.builders import amendment, call, kept_span


def set_version(store: SQLStore, version: int) -> None:
    with store._database.writing() as connection:
        connection.execute(text("UPDATE genapp_meta SET value = :v WHERE name = 'version'"), {"v": version})


def columns(store: SQLStore) -> set[str]:
    with store._database.reading() as connection:
        return {row[1] for row in connection.execute(text("PRAGMA table_info(genapp_sessions)"))}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_a_newer_version_is_refused(url: str) -> None:
    """The error names both versions and the ways out, for who opens it and for who has it open; it stays as it is."""
    running, new = SQLStore.open(url), SQLStore.open(url)
    running.apply((call("1"),))
    set_version(running, 99)
    said = r"schema version 99, this otel-genapp knows versions up to 3: install a newer otel-genapp, or .*GENAPP_STORE"
    with pytest.raises(StoreError, match=said):
        new.prepare()
    for use in (lambda: new.session("s1"), lambda: running.apply((call("2"),))):
        with pytest.raises(StoreError, match=said):
            use()
    set_version(running, schema.VERSION)
    assert new.totals().overall.calls == 1
    for store in (running, new):
        store.close()


def test_older_versions_are_brought_forward(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step in one transaction; a step that fails leaves the old version as it was."""
    old = SQLStore.open(url)
    old.apply((call("1"),))
    old.close()
    fails = True

    def first(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE genapp_sessions ADD COLUMN first BIGINT"))

    def second(connection: Connection) -> None:
        if fails:
            raise OSError("planted")
        connection.execute(text("ALTER TABLE genapp_sessions ADD COLUMN second BIGINT"))

    monkeypatch.setattr(schema, "VERSION", 5)
    monkeypatch.setattr(migrations, "STEPS", {3: first, 4: second})
    store = SQLStore.open(url)
    with pytest.raises(OSError, match="planted"):
        store.prepare()
    assert not {"first", "second"} & columns(store)
    fails = False
    store.prepare()
    assert {"first", "second"} <= columns(store)
    assert store.totals().overall.calls == 1
    monkeypatch.setattr(migrations, "STEPS", {})
    SQLStore.open(url).prepare()
    store.close()


OF_TRACES = ("genapp_traces", "genapp_spans", "genapp_trace_ids")
OF_CONVERSATIONS = ("genapp_conversation_facts", "conversation_metrics")


def make_older(store: SQLStore) -> None:
    """Turn a database into one of version 1."""
    with store._database.writing() as connection:
        for table in (*OF_TRACES, *OF_CONVERSATIONS):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("DROP INDEX genapp_records_correlation"))
        connection.execute(text("ALTER TABLE genapp_records DROP COLUMN correlation"))
        connection.execute(text("DELETE FROM genapp_meta WHERE name LIKE 'trace%'"))
    set_version(store, 1)


def described(store: SQLStore) -> list[tuple[str, ...]]:
    """Every table's columns, and every index."""
    with store._database.reading() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
        columns = [
            (table, *(str(value) for value in row))
            for table in tables.all()
            for row in connection.execute(text(f"PRAGMA table_info({table})"))
        ]
        indexes = connection.execute(text("SELECT tbl_name, name FROM sqlite_master WHERE type = 'index'"))
        return sorted([*columns, *(tuple(row) for row in indexes)])


def test_a_store_without_traces_gets_them(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From version 1 on the tables become what new ones are, and calls that are there are found."""
    monkeypatch.setattr(migrations, "_AT_ONCE", 2)
    old, new = SQLStore.open(url), SQLStore.open(f"sqlite:///{tmp_path / 'new.db'}")
    calls = [call(str(number), correlation_id="cid" if number % 2 else None) for number in range(7)]
    old.apply((*calls, amendment("1")))
    new.prepare()
    make_older(old)
    old.close()
    store = SQLStore.open(url)
    assert store.calls_by_correlation("cid", limit=9) == (calls[5], calls[3], calls[1])
    assert store.spans.add([kept_span()]) == 1
    assert described(store) == described(new)
    for opened in (store, new):
        opened.close()
