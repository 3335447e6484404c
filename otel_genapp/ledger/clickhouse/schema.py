"""The tables, for one server and for a cluster of them, both made of the same description.

Rows are only ever added, and no row holds a sum: sums are made when they are asked for, of rows that
were told apart first. A row that is added twice is one row, so whatever was interrupted can be done
again.

`python -m otel_genapp.ledger.clickhouse` prints `collector/clickhouse/ledger_cluster.sql`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 1
"""A change of the tables makes a new one, and a step to it in `preparing`."""

DROPPED = "dropped_before_ns"
"""The name in `META` of the time before which there is no detail, whatever is still on the disk."""
LOCAL = "_local"
"""What the names of a cluster's own tables end with; the names without it are spread over all shards."""

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type as the client writes it, and what the table makes of that."""

    name: str
    type: str
    codec: str = ""
    fold: str = ""
    """What is kept of rows with one key: `min` or `max`."""

    def sql(self) -> str:
        """Its line in a table."""
        kind = f"SimpleAggregateFunction({self.fold}, {self.type})" if self.fold else self.type
        return f"{self.name} {kind}" + (f" CODEC({self.codec})" if self.codec else "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and why it is as it is."""

    name: str
    why: str
    columns: tuple[Column, ...]
    engine: str
    order: str
    shard: str
    """What decides on which shard of a cluster a row is: rows with one key are on one."""
    partition: str = ""

    def create(self) -> str:
        """The statement for one server."""
        return self._create(self.name, self.engine)

    def create_on_cluster(self) -> Iterator[str]:
        """The statements for a cluster: the table of each server, and the one that is all of them."""
        local = f"{self.name}{LOCAL}"
        on_cluster = "ON CLUSTER '{cluster}'"
        yield self._create(f"{local} {on_cluster}", f"Replicated{self.engine}")
        yield (
            f"CREATE TABLE IF NOT EXISTS {self.name} {on_cluster} AS {local}\n"
            f"ENGINE = Distributed('{{cluster}}', currentDatabase(), {local}, {self.shard})"
        )

    def _create(self, name: str, engine: str) -> str:
        columns = ",\n".join(f"    {column.sql()}" for column in self.columns)
        partition = f"PARTITION BY {self.partition}\n" if self.partition else ""
        return (
            f"CREATE TABLE IF NOT EXISTS {name}\n(\n{columns}\n)\n"
            f"ENGINE = {engine}\n{partition}ORDER BY {self.order}"
        )


_HOUR = Column("hour", "DateTime('UTC')", "Delta, ZSTD")
_SESSION = Column("session", "FixedString(16)")
_AT = Column("at_ns", "Int64", "Delta, ZSTD")
_IDENTITY = Column("identity", "FixedString(16)")
_ARRIVAL = (
    Column("number", "Int64", "Delta, ZSTD"),
    Column("epoch", "Int64", "Delta, ZSTD"),
    Column("rank", "UInt64", "Delta, ZSTD"),
)
_KEY = "(hour, session, at_ns, identity)"
_SHARD_OF_RECORD = (
    "if(session = toFixedString('', 16), reinterpretAsUInt64(identity), reinterpretAsUInt64(session))"
)
_SHARD_OF_SESSION = "reinterpretAsUInt64(session)"

RECORDS = Table(
    "genapp_records",
    """\
What sums are made of, one row for each record, kept for ever: totals outlive the detail, and a record
that comes again years later is still known. `identity` is a hash of (call_id, seq), `session` one of
the session id; no text of a session is in here. A record never changes, so `identity` alone decides
which key it has; the rest of the key is there for speed. `hour` comes first, so that new records lie
close together: telling whether one is known, totals of a time, and FINAL read little. In an hour a
session's records lie together, so a session is read in as many pieces as it has hours.
`number` orders by arrival (microseconds of the server's clock); of two copies the first one stays
(`rank` counts down as `number` counts up). `epoch` is which life of its session a record belongs to.""",
    (
        _HOUR, _SESSION, _AT, _IDENTITY, *_ARRIVAL,
        Column("is_call", "UInt8"),
        Column("status", "LowCardinality(String)"),
        Column("provider", "LowCardinality(String)"),
        Column("model", "LowCardinality(String)"),
        Column("started_at_ns", "Int64", "Delta, ZSTD"),
        Column("duration_ns", "Int64", "T64, LZ4"),
        Column("bucket", "Int16"),
        *(Column(f"{name}_tokens", "Int64", "T64, LZ4") for name in _TOKENS),
        Column("cost_nano_usd", "Int64", "T64, LZ4"),
        Column("tool_calls", "Int64", "T64, LZ4"),
        Column("is_unknown", "UInt8"),
        Column("is_unpriced", "UInt8"),
    ),
    engine="ReplacingMergeTree(rank)",
    order=_KEY,
    partition="toYYYYMM(hour)",
    shard=_SHARD_OF_RECORD,
)  # fmt: skip

CALLS = Table(
    "genapp_calls",
    """\
The detail of calls: the whole record as text. It goes when its session is cleared, and when it is
old; that is whole partitions then, so little has to be written anew.""",
    (_HOUR, _SESSION, _AT, _IDENTITY, *_ARRIVAL, Column("record", "String", "ZSTD")),
    engine="ReplacingMergeTree(rank)",
    order=_KEY,
    partition="toYYYYMMDD(hour)",
    shard=_SHARD_OF_RECORD,
)

SESSIONS = Table(
    "genapp_sessions",
    """\
Which sessions there are, with their users and models. Only firsts and lasts are folded, which come
out the same however often a row is added. The highest `epoch` of a session is its present life; one
whose `last_number` is 0 says that the session was cleared, and the lives before it are over.""",
    (
        _SESSION,
        Column("epoch", "Int64"),
        Column("user_id", "String"),
        Column("model", "String"),
        Column("session_id", "String", fold="max"),
        Column("first_number", "Int64", fold="min"),
        Column("last_number", "Int64", fold="max"),
        Column("first_at_ns", "Int64", fold="min"),
        Column("last_at_ns", "Int64", fold="max"),
    ),
    engine="AggregatingMergeTree",
    order="(session, epoch, user_id, model)",
    shard=_SHARD_OF_SESSION,
)

POSITIONS = Table(
    "genapp_positions",
    """\
How far each journal segment is in the tables, added after what was read from it. Of segments that are
no more, `gone_at` says since when.""",
    (
        Column("segment", "String"),
        Column("bytes", "Int64", fold="max"),
        Column("gone_at", "DateTime('UTC')", fold="max"),
    ),
    engine="AggregatingMergeTree",
    order="segment",
    shard="cityHash64(segment)",
)

META = Table(
    "genapp_meta",
    f"`version` of the tables; `made`: which ones these are, a number of theirs; `{DROPPED}`.",
    (Column("name", "String"), Column("value", "Int64", fold="max")),
    engine="AggregatingMergeTree",
    order="name",
    shard="cityHash64(name)",
)

TABLES = (RECORDS, CALLS, SESSIONS, POSITIONS, META)
"""In the order in which they are made: with the last one there are all."""

_HEAD = """\
-- otel-genapp's ledger on a ClickHouse cluster, sharded by session and replicated.
-- Printed by `python -m otel_genapp.ledger.clickhouse`, from `schema.py`; change it there.
--
-- On one server nothing has to be run: the store makes its tables itself. On a cluster run this once,
-- in the database the store's URL names (it has to exist on every server):
--
--     clickhouse-client --database genapp --multiquery < ledger_cluster.sql
--
-- and give every application the URL of any server, or of a balancer in front of them:
--
--     GENAPP_STORE=clickhouse://user:password@host:8123/genapp
--
-- The servers need a Keeper, the macros {cluster}, {shard} and {replica}, and in `remote_servers` shards
-- with internal_replication = true. Tables with `_local` at the end of their names are those of one
-- server; the others are spread over all shards, and are what the store uses. All copies of a record go
-- to one shard, which takes them for one.
--
-- A replica shows what another one was told a moment ago only when it has fetched it. Where an
-- application has to see at once what it wrote, let it talk to one replica of each shard, by setting
-- for its user: load_balancing = 'first_or_random'.
--
-- The user of the store needs SELECT and INSERT on these tables, and for clearing and ageing
-- ALTER DELETE on the `_local` ones and CLUSTER.
"""


def cluster_file() -> str:
    """The text of `collector/clickhouse/ledger_cluster.sql`."""
    parts = [_HEAD]
    for table in TABLES:
        why = "\n".join(f"-- {line}" for line in table.why.splitlines())
        parts.append("\n".join([why, *(f"{statement};\n" for statement in table.create_on_cluster())]))
    return "\n".join(parts)
