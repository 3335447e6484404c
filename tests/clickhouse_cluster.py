"""A cluster of ClickHouse that has one server and no Keeper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otel_genapp.ledger.clickhouse.schema import TABLES
from otel_genapp.ledger.clickhouse.server import Server
from tests.clickhouse import Database


@contextmanager
def cluster_of_one(database: Database) -> Iterator[None]:
    """The tables of a cluster that has one server, without Keeper: `remote` is Distributed on an address."""
    for table in TABLES:
        local, _ = table.create_on_cluster()
        database.client.command(local.replace(" ON CLUSTER '{cluster}'", "").replace("Replicated", ""))
        there = f"remote('127.0.0.1', '{database.name}', {table.name}_local, {table.shard})"
        database.client.command(f"CREATE TABLE {table.name} AS {there}")
    yield
    for table in TABLES:
        database.client.command(f"DROP TABLE {table.name}")


class ServerWithoutKeeper(Server):
    """Runs by itself what the servers of a cluster would hand to each other."""

    def run(self, statement: str, **said: Any) -> None:
        assert " ON CLUSTER '{cluster}' " in statement
        super().run(statement.replace(" ON CLUSTER '{cluster}'", ""), **said)
