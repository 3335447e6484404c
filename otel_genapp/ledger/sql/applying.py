"""Taking a batch of records into the tables, in one transaction that no other writer runs beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from otel_genapp.ledger import codec
from otel_genapp.ledger.conversations import News
from otel_genapp.ledger.sql import conversations, schema
from otel_genapp.ledger.sql.cells import add_to_cells
from otel_genapp.ledger.sql.sessions import Session, key_of
from otel_genapp.ledger.sql.statements import Row, Statements
from otel_genapp.ledger.sql.sums import within
from otel_genapp.ledger.sql.texts import correlation_of, stored
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMCall, Record, UsageRecord, parted

ROW_BYTES = 200
"""What a record's row takes besides its texts: the indexes, and room left in pages."""

_guarded = quiet("ledger")

_Sessions = dict[str | None, Session]
"""The sessions of a batch by their ids."""


def apply(
    connection: Connection,
    records: Sequence[Record],
    *,
    statements: Statements,
    through: Mapping[str, int],
    meta: Mapping[str, int],
    repeat_ns: int = 0,
) -> tuple[int, News]:
    """Add those that are new, and remember how far into the journals that goes.

    Returns how many of LLM usage were new, and what the others brought.
    """
    known = {row[0]: (row[1], row[2]) for row in statements.positions(connection, through)} if through else {}
    before = {segment: known.get(segment, (0, None)) for segment in through}
    usage, facts = parted(records)
    timed = _timed(usage)
    if through and all(before[segment][0] >= end for segment, end in through.items()):
        # Others have read this part meanwhile. What retention may have dropped since was counted then.
        timed = [item for item in timed if item[0] >= meta["dropped_before_ns"]]
        facts = [fact for fact in facts if fact.at_ns >= meta["dropped_before_ns"]]
    new: Sequence[Row] = ()
    if timed:
        new = _add(connection, timed, statements=statements, last=meta["number"])
        size = sum(len(row[1]) + len(row[5]) for row in new) + len(new) * ROW_BYTES
        changed = {"number": meta["number"] + len(timed), "detail_bytes": meta["detail_bytes"] + size}
        statements.replace(connection, schema.meta, rows=changed.items())
    rows = ((segment, max(end, before[segment][0]), before[segment][1]) for segment, end in through.items())
    statements.replace(connection, schema.positions, rows=rows)
    usage = [record for _, record in timed]
    return len(new), conversations.take(connection, facts, usage=usage, repeat_ns=repeat_ns)


def _timed(records: Sequence[UsageRecord]) -> list[tuple[int, UsageRecord]]:
    """The records with when they count: at the call's end.

    One whose duration is no number has no end. It is left out and reported: with it no batch could be kept.
    """
    timed = []
    for record in records:
        try:
            at_ns = within(record.ended_at_ns if isinstance(record, LLMCall) else record.at_ns)
        except (ValueError, OverflowError):
            with _guarded:
                raise
        else:
            timed.append((at_ns, record))
    return timed


def _add(
    connection: Connection, timed: Sequence[tuple[int, UsageRecord]], *, statements: Statements, last: int
) -> list[Row]:
    """Add the rows of records and their sums; returns the rows that were new."""
    sessions = _sessions_of(connection, [record for _, record in timed], statements=statements, last=last)
    rows = [
        (
            number,
            stored(record.call_id),
            within(record.seq),
            sessions[record.session_id].id,
            at_ns,
            codec.encode(record).decode("ascii"),
            correlation_of(record),
        )
        for number, (at_ns, record) in enumerate(timed, last + 1)
    ]
    new = statements.add_records(connection, rows)
    if len(new) < len(rows):
        timed = [timed[row[0] - last - 1] for row in new]
    for row, (_, record) in zip(new, timed, strict=True):
        sessions[record.session_id].add(row[0], record)
    changed = {session.key: session for session in sessions.values() if session.number > last}
    replaced = (session.row() for session in changed.values())
    statements.replace(connection, schema.sessions, rows=replaced)
    add_to_cells(connection, statements, records=timed)
    return new


def _sessions_of(
    connection: Connection, records: Sequence[UsageRecord], *, statements: Statements, last: int
) -> _Sessions:
    """The sessions of these records; those there are none of begin here."""
    keys = {session_id: key_of(session_id) for session_id in {record.session_id for record in records}}
    by_key = {row[1]: Session.of_row(row) for row in statements.sessions(connection, keys.values())}
    if len(by_key) < len(set(keys.values())):
        for number, record in enumerate(records, last + 1):
            key = keys[record.session_id]
            if key not in by_key:
                by_key[key] = Session(number, key)
    return {session_id: by_key[key] for session_id, key in keys.items()}
