"""The tables.

Records are kept as the journal's bytes beside what they are asked for by. Sums are kept for each
session, and for each model in each minute, hour, day and over all time, so that no answer takes
longer because there were more calls.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from otel_genapp.ledger.sql.sums import sum_columns

VERSION = 3
"""A change of the tables makes a new one, and a step to it in `migrations`."""

ALL_TIME = 0
SPANS = (24 * 60, 60, 1)
"""Minutes that a cell covers, the longest first."""

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite keeps a table in the order of an `INTEGER` key: rows are only ever added at its end."""

metadata = MetaData()

meta = Table(
    "genapp_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""`version`: of the tables; `made`: which database this is, a random number; `number`: the last one given
out; `detail_bytes`: what the rows of records take, about; `dropped_before_ns`: older records may be gone;
`trace_number` and `trace_bytes`: as `number` and `detail_bytes`, of traces.
"""

records = Table(
    "genapp_records",
    metadata,
    Column("number", _ROW_ID, primary_key=True, autoincrement=False),
    Column("call_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("session", BigInteger),
    Column("at_ns", BigInteger, nullable=False),
    Column("record", Text),
    Column("correlation", Text),
    UniqueConstraint("call_id", "seq", name="genapp_records_identity"),
    Index("genapp_records_session", "session", "seq", "number"),
    Index("genapp_records_at", "at_ns"),
)
by_correlation = Index(
    "genapp_records_correlation",
    records.c.correlation,
    records.c.number,
    sqlite_where=records.c.correlation.is_not(None),
    postgresql_where=records.c.correlation.is_not(None),
)
"""In the order of their arrival. `record` is null once its session was cleared: what remains is that it
was counted. `correlation` finds calls and what amends them.
"""

sessions = Table(
    "genapp_sessions",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("session_key", Text, nullable=False, unique=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("models", Text, nullable=False),
    Column("users", Text, nullable=False),
    *sum_columns(),
    Index("genapp_sessions_last", "last_at_ns"),
)
"""`number` is that of its last record: it orders by recency, and is the session's place in a list. A session
that begins again after it was cleared has another `id`, so it does not see the records of the first.
"""

cleared = Table(
    "genapp_cleared",
    metadata,
    Column("session", _ROW_ID, primary_key=True, autoincrement=False),
)
"""Sessions whose records are still to be emptied."""

cells = Table(
    "genapp_cells",
    metadata,
    Column("span", BigInteger, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("bound", BigInteger, primary_key=True, autoincrement=False),
    *sum_columns(),
    sqlite_with_rowid=False,
)
"""Sums for ever, over `span` minutes from `start` on (minutes since the epoch); a `span` of 0 is all time.
`bound` is 1 where the calls belong to a session.
"""

positions = Table(
    "genapp_positions",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("gone_at_ns", BigInteger),
)
"""How far each journal segment is in these tables, written with what was read from it; those that are no
more are kept for a while, for a reader that still has a part of one in its hands.
"""

traces = Table(
    "genapp_traces",
    metadata,
    Column("number", _ROW_ID, primary_key=True, autoincrement=False),
    Column("trace_id", Text, nullable=False, unique=True),
    Column("correlation", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("named_at_ns", BigInteger, nullable=False),
    Column("started_at_ns", BigInteger, nullable=False),
    Column("ended_at_ns", BigInteger, nullable=False),
    Column("worth", BigInteger, nullable=False),
    Column("spans", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("genapp_traces_worth", "worth", "number"),
    Index("genapp_traces_ended", "ended_at_ns"),
)
"""What is known of each trace, in the order in which they came: the columns are the fields of `Trace`. By
`worth` and `number` they go when there is no room.
"""

spans = Table(
    "genapp_spans",
    metadata,
    Column("trace", BigInteger, primary_key=True, autoincrement=False),
    Column("span_id", Text, primary_key=True),
    Column("span", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The spans of a trace lie together: they are read and removed at once."""

trace_ids = Table(
    "genapp_trace_ids",
    metadata,
    Column("trace", BigInteger, primary_key=True, autoincrement=False),
    Column("correlation", Text, primary_key=True),
    Index("genapp_trace_ids_correlation", "correlation", "trace"),
    sqlite_with_rowid=False,
)
"""The correlation ids of a trace's spans: mostly one."""

conversation_facts = Table(
    "genapp_conversation_facts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Integer, nullable=False),
    Column("session", Text),
    Column("correlation", Text),
    Column("person", Text),
    Column("at_ns", BigInteger, nullable=False),
    Column("ends", Integer, nullable=False),
    Column("fact", Text),
    Index("genapp_conversation_facts_session", "session", "at_ns", "id"),
    Index("genapp_conversation_facts_correlation", "correlation", "kind"),
    Index("genapp_conversation_facts_person", "person", "ends", "at_ns"),
    Index("genapp_conversation_facts_at", "kind", "at_ns", "id"),
    sqlite_with_rowid=False,
)
"""Messages (`kind` 0), feedback (1) and outcomes (2) as they came; `ends` is 1 where an outcome ends its
conversation. `fact` is null once the session was cleared.
"""

conversation_metrics = Table(
    "conversation_metrics",
    metadata,
    Column("id", Text, primary_key=True),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("user_id", Text),
    Column("platform", Text, nullable=False),
    Column("intent", Text, nullable=False),
    Column("confidence", Double),
    Column("response_time_ms", Double),
    Column("tokens_used", BigInteger),
    Column("cost_usd", Double),
    Column("satisfaction_score", Double),
    Column("resolved", Boolean),
    Column("session_id", Text),
    Column("correlation_id", Text),
    Column("escalated", Boolean),
    Column("converted", Boolean),
    Column("abandoned", Boolean),
    Column("intent_correct", Boolean),
    Column("nps", Double),
    Column("quality", Double),
    Column("critical", Boolean, nullable=False),
    Column("llm_calls", BigInteger, nullable=False),
    Column("cost_nano_usd", BigInteger),
    Column("at_ns", BigInteger, nullable=False),
    Column("began_at_ns", BigInteger, nullable=False),
    Column("ended_at_ns", BigInteger),
    Index("conversation_metrics_at", "at_ns", "id"),
    Index("conversation_metrics_session", "session_id"),
)
"""For people to read with SQL: the columns are the fields of `ConversationRow`, with the time (UTC) and the
cost in US dollars beside. It has the name that such a table has had elsewhere.
"""
