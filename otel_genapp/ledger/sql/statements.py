"""The statements that take in a batch, as text with parameters by position.

SQLAlchemy makes most of it, once. Its own handling of many values takes four times as long as
SQLite takes for them, so they are handed to the driver as they are; lists go as one value, JSON.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from otel_genapp.ledger.sql import schema

T = TypeVar("T")
_KEYS_AT_ONCE = 500

Row = tuple[Any, ...]
"""The values of a table's columns, all of them, in their order."""
Cell = tuple[int, int, str, str, int]
"""The key of a row of cells: span, start, provider, model, bound."""

_SQLITE = {
    "texts": "SELECT value FROM json_each(?)",
    "cells": (
        "SELECT json_extract(value, '$[0]') AS span, json_extract(value, '$[1]') AS start, "
        "json_extract(value, '$[2]') AS provider, json_extract(value, '$[3]') AS model, "
        "json_extract(value, '$[4]') AS bound FROM json_each(?)"
    ),
    "range": "number BETWEEN ? AND ?",
    "calls": "session = ? AND seq = 0 AND number < ? ORDER BY number DESC LIMIT ?",
}
_POSTGRES = {
    "texts": "SELECT json_array_elements_text(CAST(%s AS json))",
    "cells": (
        "SELECT CAST(value ->> 0 AS bigint) AS span, CAST(value ->> 1 AS bigint) AS start, "
        "value ->> 2 AS provider, value ->> 3 AS model, CAST(value ->> 4 AS bigint) AS bound "
        "FROM json_array_elements(CAST(%s AS json))"
    ),
    "range": "number BETWEEN %s AND %s",
    # As whole keys of the index: left the choice, PostgreSQL may look through all records, or sort a session's.
    "calls": (
        "(session, seq, number) >= (CAST(%s AS bigint), 0, 0) "
        "AND (session, seq, number) < (CAST(%s AS bigint), 0, CAST(%s AS bigint)) "
        "ORDER BY session DESC, seq DESC, number DESC LIMIT %s"
    ),
}


class Statements:
    """What a batch needs, for one kind of database."""

    def __init__(self, dialect: Any) -> None:
        self._dialect = dialect
        is_sqlite = dialect.name == "sqlite"
        self._insert: Any = sqlite.insert if is_sqlite else postgresql.insert
        self._add_records = self._text(self._insert(schema.records).on_conflict_do_nothing())
        cell_keys = tuple(schema.cells.primary_key.columns.keys())
        self._replace = {
            table.name: self._text(self._replacing(table, keys))
            for table, keys in (
                (schema.meta, ("name",)),
                (schema.sessions, ("id",)),
                (schema.cells, cell_keys),
                (schema.positions, ("segment",)),
            )
        }
        said = _SQLITE if is_sqlite else _POSTGRES
        is_same = " AND ".join(f"cell.{name} = wanted.{name}" for name in cell_keys)
        names = ", ".join(f"cell.{column.name}" for column in schema.cells.c)
        # CROSS JOIN: SQLite keeps to this order, and looks each wanted one up.
        self._cells = (
            f"SELECT {names} FROM ({said['cells']}) AS wanted "  # noqa: S608 - names of ours
            f"CROSS JOIN {schema.cells.name} AS cell WHERE {is_same}"
        )
        self._sessions = self._selecting(schema.sessions, f"session_key IN ({said['texts']})")
        self._positions = self._selecting(schema.positions, f"segment IN ({said['texts']})")
        self._meta = self._selecting(schema.meta, "name <> ''")
        self._calls = f"SELECT number, record FROM {schema.records.name} WHERE {said['calls']}"  # noqa: S608 - as above
        self._session_twice = not is_sqlite
        self._numbers = f"SELECT number FROM {schema.records.name} WHERE {said['range']}"  # noqa: S608 - as above

    def meta(self, connection: Connection) -> dict[str, int]:
        """What the database says about itself."""
        return dict(self._rows(connection, self._meta))

    def sessions(self, connection: Connection, keys: Iterable[str]) -> Sequence[Row]:
        """The rows of the sessions with these keys."""
        return self._rows(connection, self._sessions, json.dumps(list(keys)))

    def calls(self, connection: Connection, session: int, *, before: int, limit: int) -> Sequence[Row]:
        """Number and record of a session's newest calls before that number, the newest first."""
        # Every call is number 0 of its records.
        key = (session, session) if self._session_twice else (session,)
        return self._rows(connection, self._calls, *key, before, limit)

    def positions(self, connection: Connection, segments: Iterable[str]) -> Sequence[Row]:
        """The rows of these segments' positions."""
        return self._rows(connection, self._positions, json.dumps(list(segments)))

    def cells(self, connection: Connection, keys: Iterable[Cell]) -> Sequence[Row]:
        """The rows of these cells."""
        return self._rows(connection, self._cells, json.dumps(list(keys)))

    def add_records(self, connection: Connection, rows: list[Row]) -> list[Row]:
        """Insert rows of records, but for those that are there already; returns the new ones."""
        if connection.exec_driver_sql(self._add_records, rows).rowcount == len(rows):
            return rows
        found = self._rows(connection, self._numbers, rows[0][0], rows[-1][0])
        numbers = {number for (number,) in found}
        return [row for row in rows if row[0] in numbers]

    def replace(self, connection: Connection, table: Table, *, rows: Iterable[Row]) -> None:
        """Insert rows, each in the place of the one with its key."""
        replacing = list(rows)
        if replacing:
            connection.exec_driver_sql(self._replace[table.name], replacing)

    @staticmethod
    def _rows(connection: Connection, statement: str, *values: Any) -> Sequence[Any]:
        return connection.exec_driver_sql(statement, values).all()

    @staticmethod
    def _selecting(table: Table, condition: str) -> str:
        names = ", ".join(column.name for column in table.c)
        return f"SELECT {names} FROM {table.name} WHERE {condition}"  # noqa: S608 - names of ours

    def _replacing(self, table: Table, keys: Collection[str]) -> Any:
        statement = self._insert(table)
        values = {column.name: statement.excluded[column.name] for column in table.c}
        return statement.on_conflict_do_update(
            index_elements=list(keys),
            set_={name: value for name, value in values.items() if name not in keys},
        )

    def _text(self, statement: Any) -> str:
        return str(statement.compile(dialect=self._dialect))


def in_parts(keys: Iterable[T]) -> Iterator[list[T]]:
    """The keys, as many at a time as one statement takes."""
    left = iter(keys)
    while some := list(islice(left, _KEYS_AT_ONCE)):
        yield some
