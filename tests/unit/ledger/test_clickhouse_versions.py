"""Tables of earlier versions are brought forward, on one server and on a cluster."""

from __future__ import annotations

from otel_genapp.ledger.clickhouse.schema import CHANGED, META, RECORDS, TABLES, VERSION
from tests.builders import call
from tests.clickhouse import Database


def make_first_version(database: Database) -> None:
    """The tables as version 1 made them, with a record in them."""
    one = database.open_store()
    one.apply([call("1", correlation_id="old")])
    for table, column, index in CHANGED:
        run = database.client.command
        run(f"ALTER TABLE {table.name} DROP INDEX {index.column}_index SETTINGS mutations_sync = 2")
        run(f"ALTER TABLE {table.name} DROP COLUMN {column.name} SETTINGS mutations_sync = 2")
    database.client.command(f"TRUNCATE TABLE {META.name}")
    database.client.insert(META.name, [["version", 1], ["made", 5]])


def test_version_1_is_brought_forward(database: Database) -> None:
    """What was stored stays and is known; what comes now is found by its correlation id; all are as if new."""
    make_first_version(database)
    one = database.open_store()
    assert one.calls_by_correlation("old", limit=9) == ()
    assert one.apply([call("1", correlation_id="old"), call("2", correlation_id="new")]) == 1
    assert one.totals().overall.calls == 2
    assert [found.call_id for found in one.calls_by_correlation("new", limit=9)] == ["2"]
    names = {"version": VERSION, "made": 5}
    assert (
        dict(database.client.query("SELECT name, max(value) FROM genapp_meta GROUP BY name").result_rows)
        == names
    )
    changed = {table.name: _shape(database, table.name) for table in TABLES}
    for table in TABLES:
        database.client.command(f"DROP TABLE {table.name} SYNC")
    database.open_store().prepare()
    assert changed == {table.name: _shape(database, table.name) for table in TABLES}


def test_the_statements_of_a_cluster_bring_it_forward(database: Database) -> None:
    """What the file runs on a cluster's own tables, on one server that has them."""
    make_first_version(database)
    for table, column, index in CHANGED:
        local, spread = (
            one.replace(" ON CLUSTER '{cluster}'", "") for one in table.add_on_cluster(column, index)
        )
        for statement in (local.replace(f"{table.name}_local", table.name), spread):
            database.client.command(statement)
    database.client.insert(META.name, [["version", VERSION]])
    one = database.open_store()
    assert one.apply([call("2", correlation_id="new")]) == 1
    assert len(one.calls_by_correlation("new", limit=9)) == 1
    assert database.rows(RECORDS) == 2


def _shape(database: Database, name: str) -> list[object]:
    """The columns and indexes of a table."""
    where = f"WHERE database = currentDatabase() AND table = '{name}'"
    columns = f"SELECT name, type, compression_codec FROM system.columns {where}"  # noqa: S608 - our own names
    indexes = f"SELECT name, type_full, expr FROM system.data_skipping_indices {where}"  # noqa: S608 - as above
    return [row for query in (columns, indexes) for row in database.client.query(query).result_rows]
