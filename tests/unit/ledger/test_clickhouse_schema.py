"""The tables of one server and those of a cluster are the same."""

from __future__ import annotations

import re
from pathlib import Path

from otel_genapp.ledger.clickhouse import preparing
from otel_genapp.ledger.clickhouse.schema import CHANGED, TABLES, cluster_file
from tests.clickhouse import Database
from tests.processes import ROOT


def test_the_cluster_file_is_up_to_date() -> None:
    """It is what the description of the tables makes of it: `python -m otel_genapp.ledger.clickhouse > FILE`."""
    assert Path(ROOT, preparing.FILE).read_text() == cluster_file()


def test_the_tables_of_a_cluster_have_the_same_columns_and_order() -> None:
    """Only the name, the engine's first word and the cluster differ."""
    for table in TABLES:
        local, spread = table.create_on_cluster()
        plain = local.replace("_local ON CLUSTER '{cluster}'", "").replace("ENGINE = Replicated", "ENGINE = ")
        assert plain == table.create()
        assert f"AS {table.name}_local\n" in spread


def test_clickhouse_understands_the_cluster_file(database: Database) -> None:
    """Every statement is parsed by the engine itself, which has no Keeper to run them with."""
    text = re.sub(r"^--.*\n", "", cluster_file(), flags=re.MULTILINE)
    statements = [statement for part in text.split(";\n") if (statement := part.strip())]
    assert len(statements) == 2 * len(TABLES) + 2 * len(CHANGED) + 1
    for statement in statements:
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        assert database.client.command(f"SELECT formatQuery('{quoted}')")
