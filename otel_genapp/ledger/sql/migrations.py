"""How a database gets its tables, and how those of an older version are brought to this one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, insert, inspect, select

from otel_genapp.errors import StoreError
from otel_genapp.ledger import codec
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.texts import correlation_of
from otel_genapp.records import UsageRecord

_AT_ONCE = 2_000


def _add_traces(connection: Connection) -> None:
    """Calls are found by their correlation id, those that are there too; spans have tables of their own."""
    connection.exec_driver_sql(f"ALTER TABLE {schema.records.name} ADD COLUMN correlation TEXT")
    _fill_correlation(connection)
    schema.by_correlation.create(connection)
    for table in (schema.traces, schema.spans, schema.trace_ids):
        table.create(connection)
    connection.execute(insert(schema.meta), [{"name": name, "value": 0} for name in _OF_TRACES])


def _fill_correlation(connection: Connection) -> None:
    table = schema.records
    query = select(table.c.number, table.c.record).where(table.c.record.is_not(None))
    change = table.update().where(table.c.number == bindparam("at")).values(correlation=bindparam("id"))
    last = 0
    while True:
        # In parts, as a record takes more room here than there.
        part = query.where(table.c.number > last).order_by(table.c.number).limit(_AT_ONCE)
        rows = connection.execute(part).all()
        if not rows:
            return
        last = rows[-1][0]
        found = []
        for number, text in rows:
            with suppress(codec.DecodeError):
                record = codec.decode(text.encode("ascii"))
                key = correlation_of(record) if isinstance(record, UsageRecord) else None
                if key is not None:
                    found.append({"at": number, "id": key})
        if found:
            connection.execute(change, found)


def _add_conversations(connection: Connection) -> None:
    """Facts of conversations, and the rows of their messages."""
    for table in (schema.conversation_facts, schema.conversation_metrics):
        table.create(connection)


_OF_TRACES = ("trace_number", "trace_bytes")
STEPS: Mapping[int, Callable[[Connection], Any]] = MappingProxyType({1: _add_traces, 2: _add_conversations})
"""Version -> what makes the next one of it, forward only."""


def current(connection: Connection) -> int | None:
    """Which database this is, if its tables are of this version; None where `prepare` has something to do."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    found = read_meta(connection)
    return found["made"] if found.get("version") == schema.VERSION else None


def prepare(connection: Connection) -> int:
    """Create the tables, or bring them to this version, all in the transaction of `connection`.

    Returns which database this is: the number it was given when its tables were made.

    Raises:
        StoreError: a newer version of this package has made them.
    """
    if not inspect(connection).has_table(schema.meta.name):
        schema.metadata.create_all(connection)
        made = secrets.randbits(62)
        values = {
            "version": schema.VERSION,
            "made": made,
            "number": 0,
            "detail_bytes": 0,
            "dropped_before_ns": 0,
            **dict.fromkeys(_OF_TRACES, 0),
        }
        connection.execute(insert(schema.meta), [{"name": name, "value": values[name]} for name in values])
        return made
    found = read_meta(connection)
    version = found["version"]
    require_known(version)
    for older in range(version, schema.VERSION):
        STEPS[older](connection)
    if version < schema.VERSION:
        name = schema.meta.c.name
        connection.execute(schema.meta.update().where(name == "version").values(value=schema.VERSION))
    return found["made"]


def read_meta(connection: Connection) -> dict[str, int]:
    """What a database says about itself."""
    return {row.name: row.value for row in connection.execute(select(schema.meta))}


def require_known(version: int) -> None:
    """Refuse tables that a newer version has made.

    Raises:
        StoreError: it has.
    """
    if version > schema.VERSION:
        raise StoreError(
            f"the store has schema version {version}, this otel-genapp knows versions up to {schema.VERSION}: "
            "install a newer otel-genapp, or name another database in GENAPP_STORE"
        )
