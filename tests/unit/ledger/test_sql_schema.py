"""Tables have a version: older ones are brought to it, newer ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from otel_genapp.errors import StoreError
from otel_genapp.ledger.sql import SQLStore, migrations, schema
from tests.builders import call


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
    said = r"schema version 99, this otel-genapp knows versions up to 1: install a newer otel-genapp, or .*GENAPP_STORE"
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

    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.setattr(migrations, "STEPS", {1: first, 2: second})
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
