"""How a database gets its tables, and how those of an older version are brought to this one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from otel_genapp.errors import StoreError
from otel_genapp.ledger.clickhouse.schema import (
    CHANGED,
    FACTS,
    LOCAL,
    META,
    METRICS,
    RECORDS,
    TABLES,
    VERSION,
)
from otel_genapp.ledger.clickhouse.server import Server

STEPS: Mapping[int, Sequence[str]] = MappingProxyType({
    1: (*(table.add(column, index) for table, column, index in CHANGED), FACTS.create(), METRICS.create()),
})  # fmt: skip
"""Version -> the statements that make the next one of it, forward only. Each may be run again: there are
no transactions, and several processes may do so at once."""

FILE = "collector/clickhouse/ledger_cluster.sql"

_TABLES_THERE = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'genapp%'"
_UUID = f"SELECT uuid FROM system.tables WHERE database = currentDatabase() AND name = '{META.name}'"  # noqa: S608 - our own name
_META = f"SELECT name, max(value) FROM {META.name} GROUP BY name"  # noqa: S608 - our own name


def prepare(server: Server) -> tuple[int, bool]:
    """Create the tables, or bring them to this version.

    Returns which ones they are, a number they were given when they were made, and whether they are spread
    over a cluster.

    Raises:
        StoreError: a newer version of this package has made them, or they have to be changed by hand.
    """
    there = {name for (name,) in server.rows(_TABLES_THERE)}
    on_cluster = f"{RECORDS.name}{LOCAL}" in there
    if META.name not in there:
        if on_cluster:
            raise StoreError(f"the store's tables are not complete: run {FILE} again")
        for table in TABLES:
            server.run(table.create())
    found: dict[str, int] = dict(server.rows(_META))
    if "made" not in found:
        server.insert(META, [("version", VERSION), ("made", _number_of_these(server))])
        found = dict(server.rows(_META))
    version = found["version"]
    require_known(version)
    if version < VERSION:
        if on_cluster:
            raise StoreError(f"the store's tables have version {version}, not {VERSION}: run {FILE} again")
        for older in range(version, VERSION):
            for statement in STEPS[older]:
                server.run(statement)
        server.insert(META, [("version", VERSION)])
    return found["made"], on_cluster


def _number_of_these(server: Server) -> int:
    """A number that no other tables have, and whoever else prepares these at the same moment finds too."""
    ((made,),) = server.rows(_UUID)
    return made.int % 2**62 or secrets.randbits(62)  # an old kind of database gives its tables no UUID


def require_known(version: int) -> None:
    """Refuse tables that a newer version has made.

    Raises:
        StoreError: it has.
    """
    if version > VERSION:
        raise StoreError(
            f"the store has schema version {version}, this otel-genapp knows versions up to {VERSION}: "
            "install a newer otel-genapp, or name another database in GENAPP_STORE"
        )
