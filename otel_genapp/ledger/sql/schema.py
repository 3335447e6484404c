"""The tables, their version, and how older ones are brought to it.

Records are kept as the journal's bytes beside what is asked for by; sums are kept for each session,
each model, and each model in each minute, so no answer depends on how many calls there were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from otel_genapp.errors import StoreError
from otel_genapp.ledger.sql.sums import sum_columns

VERSION = 1
_TEXT = String(512)

metadata = MetaData()

meta = Table(
    "genapp_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`version` of the tables, and `number`, the last one given to a record."""

records = Table(
    "genapp_records",
    metadata,
    Column("call_id", _TEXT, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("session_key", _TEXT),
    Column("at_ns", BigInteger, nullable=False),
    Column("record", Text),
    Index("genapp_records_session", "session_key", "number"),
    Index("genapp_records_at", "at_ns"),
)
"""`session_key` and `record` are null once the detail is cleared: what remains is that it was counted."""

sessions = Table(
    "genapp_sessions",
    metadata,
    Column("session_key", _TEXT, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("models", Text, nullable=False),
    Column("users", Text, nullable=False),
    *sum_columns(),
    Index("genapp_sessions_number", "number"),
    Index("genapp_sessions_last", "last_at_ns"),
)
"""`number` is that of its last record: it orders by recency and is its place in a list."""

models = Table(
    "genapp_models",
    metadata,
    Column("provider", _TEXT, primary_key=True),
    Column("model", _TEXT, primary_key=True),
    Column("bound", BigInteger, primary_key=True, autoincrement=False),
    *sum_columns(),
)
"""Sums for ever; `bound` is 1 where the calls belong to a session."""

minutes = Table(
    "genapp_minutes",
    metadata,
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("provider", _TEXT, primary_key=True),
    Column("model", _TEXT, primary_key=True),
    Column("bound", BigInteger, primary_key=True, autoincrement=False),
    *sum_columns(),
)
"""The same in one minute since the epoch."""

positions = Table(
    "genapp_positions",
    metadata,
    Column("segment", String(128), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)
"""How far each journal is in these tables; written with what was read from it."""

_MIGRATIONS: Mapping[int, Callable[[Connection], None]] = MappingProxyType({})
"""Version -> what makes the next one of it."""


def prepare(connection: Connection) -> None:
    """Create the tables, or bring them to this version, in the transaction of `connection`.

    Raises:
        StoreError: a newer version of this package has made them.
    """
    if not inspect(connection).has_table(meta.name):
        metadata.create_all(connection)
        connection.execute(
            insert(meta), [{"name": "version", "value": VERSION}, {"name": "number", "value": 0}]
        )
        return
    found = connection.execute(select(meta.c.value).where(meta.c.name == "version")).scalar_one()
    if found > VERSION:
        raise StoreError(
            f"the store has schema version {found}, this otel-genapp knows versions up to {VERSION}; "
            "install a newer otel-genapp, or point GENAPP_STORE to another database"
        )
    for version in range(found, VERSION):
        _MIGRATIONS[version](connection)
    if found < VERSION:
        connection.execute(meta.update().where(meta.c.name == "version").values(value=VERSION))
