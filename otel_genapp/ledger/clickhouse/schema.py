"""The tables, for one server and for a cluster of them, both made of the same description.

Rows are only ever added, and no row holds a sum: sums are made when they are asked for, of rows that
were told apart first. A row that is added twice is one row, so whatever was interrupted can be done
again.

`python -m otel_genapp.ledger.clickhouse` prints `collector/clickhouse/ledger_cluster.sql`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 2
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
class Index:
    """What lets the server skip the parts of a table that have no row with a value of a column."""

    column: str
    type: str

    def sql(self) -> str:
        """Its line in a table."""
        return f"{self.column}_index {self.column} TYPE {self.type} GRANULARITY 1"


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
    indexes: tuple[Index, ...] = ()

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

    def add(self, column: Column, index: Index) -> str:
        """The statement that adds these to the table of one server, if it has them not."""
        return f"ALTER TABLE {self.name} {_added(column)}, ADD INDEX IF NOT EXISTS {index.sql()}"

    def add_on_cluster(self, column: Column, index: Index) -> Iterator[str]:
        """The statements that do so on a cluster."""
        scope = "ON CLUSTER '{cluster}'"
        yield (
            f"ALTER TABLE {self.name}{LOCAL} {scope}\n"
            f"    {_added(column)},\n    ADD INDEX IF NOT EXISTS {index.sql()}"
        )
        yield f"ALTER TABLE {self.name} {scope} {_added(column)}"

    def _create(self, name: str, engine: str) -> str:
        lines = [column.sql() for column in self.columns] + [f"INDEX {index.sql()}" for index in self.indexes]
        columns = ",\n".join(f"    {line}" for line in lines)
        partition = f"PARTITION BY {self.partition}\n" if self.partition else ""
        return (
            f"CREATE TABLE IF NOT EXISTS {name}\n(\n{columns}\n)\n"
            f"ENGINE = {engine}\n{partition}ORDER BY {self.order}"
        )


def _added(column: Column) -> str:
    return f"ADD COLUMN IF NOT EXISTS {column.sql()}"


_HOUR = Column("hour", "DateTime('UTC')", "Delta, ZSTD")
_SESSION = Column("session", "FixedString(16)")
_AT = Column("at_ns", "Int64", "Delta, ZSTD")
_IDENTITY = Column("identity", "FixedString(16)")
_ARRIVAL = (
    Column("number", "Int64", "Delta, ZSTD"),
    Column("epoch", "Int64", "Delta, ZSTD"),
    Column("rank", "UInt64", "Delta, ZSTD"),
)
_CORRELATION = Column("correlation", "FixedString(16)")
_BY_CORRELATION = Index("correlation", "bloom_filter(0.0001)")
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
(`rank` counts down as `number` counts up). `epoch` is which life of its session a record belongs to.
`correlation` is a hash of the correlation id, zeros where there is none.""",
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
        _CORRELATION,
    ),
    engine="ReplacingMergeTree(rank)",
    order=_KEY,
    partition="toYYYYMM(hour)",
    shard=_SHARD_OF_RECORD,
    indexes=(_BY_CORRELATION,),
)  # fmt: skip

CALLS = Table(
    "genapp_calls",
    """\
The detail of calls: the whole record as text. It goes when its session is cleared, and when it is
old; that is whole partitions then, so little has to be written anew.""",
    (_HOUR, _SESSION, _AT, _IDENTITY, *_ARRIVAL, Column("record", "String", "ZSTD"), _CORRELATION),
    engine="ReplacingMergeTree(rank)",
    order=_KEY,
    partition="toYYYYMMDD(hour)",
    shard=_SHARD_OF_RECORD,
    indexes=(_BY_CORRELATION,),
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

FACTS = Table(
    "genapp_conversation_facts",
    """\
Messages (`kind` 0), feedback (1) and outcomes (2) as they came, each known by its id, of which `identity`
is a hash; `ends` is 1 where an outcome ends its conversation. A row of `kind` 3 says that its session was
cleared: of a session's facts only those of its highest `epoch` are seen. Those of the others are emptied,
and stay, so that a fact that comes again is still known.""",
    (
        _HOUR, _SESSION, _AT, _IDENTITY, *_ARRIVAL,
        Column("kind", "UInt8"),
        Column("ends", "UInt8"),
        _CORRELATION,
        Column("person", "FixedString(16)"),
        Column("id", "String"),
        Column("fact", "String", "ZSTD"),
    ),
    engine="ReplacingMergeTree(rank)",
    order="(session, at_ns, identity)",
    partition="toYYYYMM(hour)",
    shard=_SHARD_OF_RECORD,
    indexes=(_BY_CORRELATION, Index("person", "bloom_filter(0.0001)")),
)  # fmt: skip

METRICS = Table(
    "conversation_metrics",
    """\
For people to read with SQL: one row for each message, with what is known of it by now. The table holds
older versions of rows too, and rows that say that a message is gone, so read it with FINAL:
SELECT platform, avg(satisfaction_score) FROM conversation_metrics FINAL GROUP BY platform.
`version` is when the writer of a row began to read what it is made of, by the server's clock (UTC
nanoseconds): every writer adds first and reads then, so the highest version has seen all there was.""",
    (
        Column("id", "String"),
        Column("timestamp", "DateTime64(6, 'UTC')", "Delta, ZSTD"),
        Column("user_id", "Nullable(String)"),
        Column("platform", "LowCardinality(String)"),
        Column("intent", "LowCardinality(String)"),
        Column("confidence", "Nullable(Float64)"),
        Column("response_time_ms", "Nullable(Float64)"),
        Column("tokens_used", "Nullable(Int64)"),
        Column("cost_usd", "Nullable(Float64)"),
        Column("satisfaction_score", "Nullable(Float64)"),
        Column("resolved", "Nullable(Bool)"),
        Column("session_id", "Nullable(String)"),
        Column("correlation_id", "Nullable(String)"),
        Column("escalated", "Nullable(Bool)"),
        Column("converted", "Nullable(Bool)"),
        Column("abandoned", "Nullable(Bool)"),
        Column("intent_correct", "Nullable(Bool)"),
        Column("nps", "Nullable(Float64)"),
        Column("quality", "Nullable(Float64)"),
        Column("critical", "Bool"),
        Column("llm_calls", "Int64"),
        Column("cost_nano_usd", "Nullable(Int64)"),
        _AT,
        Column("began_at_ns", "Int64"),
        Column("ended_at_ns", "Nullable(Int64)"),
        Column("version", "UInt64"),
        Column("is_gone", "UInt8"),
    ),
    engine="ReplacingMergeTree(version, is_gone)",
    order="(at_ns, id)",
    partition="toYYYYMM(timestamp)",
    shard="cityHash64(id)",
    indexes=(Index("timestamp", "minmax"),),
)

META = Table(
    "genapp_meta",
    f"`version` of the tables; `made`: which ones these are, a number of theirs; `{DROPPED}`.",
    (Column("name", "String"), Column("value", "Int64", fold="max")),
    engine="AggregatingMergeTree",
    order="name",
    shard="cityHash64(name)",
)

TABLES = (RECORDS, CALLS, SESSIONS, POSITIONS, FACTS, METRICS, META)
"""In the order in which they are made: with the last one there are all."""

CHANGED = ((RECORDS, _CORRELATION, _BY_CORRELATION), (CALLS, _CORRELATION, _BY_CORRELATION))
"""What tables of version 1 lack, besides those of conversations."""

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
-- ALTER DELETE and ALTER UPDATE on the `_local` ones and CLUSTER. Where an OpenTelemetry Collector fills
-- otel_traces in the same database (traces.sql), it needs SELECT on otel_traces and its tables of times too.
--
-- A cluster that has the tables of an earlier version of otel-genapp gets what they lack by running this
-- again: tables that are there stay, and the ALTERs at the end add the rest. What those change:
-- version 2 adds `correlation` with an index to genapp_records and genapp_calls (calls that were stored
-- before are not found by their correlation ids), and the two tables of conversations. Update the
-- applications after that: those of an earlier version refuse the tables from then on, and keep their
-- calls in their journals until they are updated.
"""

_FOOT = """\
-- What tables of earlier versions lack. To new ones it changes nothing.
"""


def cluster_file() -> str:
    """The text of `collector/clickhouse/ledger_cluster.sql`."""
    parts = [_HEAD]
    for table in TABLES:
        why = "\n".join(f"-- {line}" for line in table.why.splitlines())
        parts.append("\n".join([why, *(f"{statement};\n" for statement in table.create_on_cluster())]))
    parts.append(_FOOT)
    parts += [
        f"{statement};\n" for changed in CHANGED for statement in changed[0].add_on_cluster(*changed[1:])
    ]
    parts.append(f"INSERT INTO {META.name} (name, value) SELECT 'version', {VERSION};\n")
    return "\n".join(parts)
