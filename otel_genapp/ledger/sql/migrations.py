"""How a database gets its tables, and how those of an older version are brought to this one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, insert, inspect, select

from otel_genapp.errors import StoreError
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.engine import NO_TABLES

STEPS: Mapping[int, Callable[[Connection], Any]] = MappingProxyType({})
"""Version -> what makes the next one of it, forward only."""


def current(connection: Connection) -> int | None:
    """Which database this is, if its tables are of this version; None where `prepare` has something to do."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    found = read_meta(connection)
    return found["made"] if found.get("version") == schema.VERSION else None


def require_current(connection: Connection) -> None:
    """See that the tables are there and of this version, and change nothing.

    Raises:
        StoreError: they are not.
    """
    if not inspect(connection).has_table(schema.meta.name):
        raise StoreError(NO_TABLES)
    version = read_meta(connection)["version"]
    require_known(version)
    if version < schema.VERSION:
        raise StoreError(
            f"the store has schema version {version}, this otel-genapp reads version {schema.VERSION}: "
            "start the application with it, which brings the store up to date"
        )


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
