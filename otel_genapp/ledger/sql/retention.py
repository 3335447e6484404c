"""Removing detail: of sessions that were cleared, of old ones, and of the oldest where it takes too much room.

Always some at a time, so that other writers get their turn; what is interrupted goes on the next
time. Sums over time are never touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.applying import ROW_BYTES
from otel_genapp.ledger.sql.migrations import read_meta
from otel_genapp.ledger.sql.sessions import UNBOUND
from otel_genapp.ledger.sql.statements import in_parts

AT_ONCE = 2_000
"""Rows that one transaction removes."""
_GONE_KEPT_NS = 7 * 24 * 3600 * 10**9

_table = schema.records
_text_bytes = func.coalesce(func.length(_table.c.record), 0)
_row_bytes = _text_bytes + func.length(_table.c.call_id) + ROW_BYTES


def clear(connection: Connection, keys: Iterable[str]) -> bool:
    """Remove the sessions of these keys; their records are unseen from now on, and `empty_cleared` empties them."""
    sessions = schema.sessions
    ids = (
        connection.execute(select(sessions.c.id).where(sessions.c.session_key.in_(list(keys))))
        .scalars()
        .all()
    )
    if ids:
        connection.execute(delete(sessions).where(sessions.c.id.in_(ids)))
        connection.execute(insert(schema.cleared), [{"session": number} for number in ids])
    return bool(ids)


def empty_cleared(connection: Connection) -> bool:
    """Empty some records of cleared sessions, so that only their ids are left; False if there were none."""
    session = connection.execute(select(schema.cleared.c.session).limit(1)).scalar()
    if session is None:
        return False
    query = select(_table.c.number, _text_bytes).where(_table.c.session == session).limit(AT_ONCE)
    rows = connection.execute(query).all()
    for some in in_parts([row[0] for row in rows]):
        change = (
            update(_table)
            .where(_table.c.number.in_(some))
            .values(session=None, record=None, correlation=None)
        )
        connection.execute(change)
    _give_back(connection, sum(row[1] for row in rows))
    if len(rows) < AT_ONCE:
        connection.execute(delete(schema.cleared).where(schema.cleared.c.session == session))
    return True


def remove_sessions(connection: Connection, before_ns: int) -> int:
    """Remove some sessions whose last record is older; returns how many."""
    sessions = schema.sessions
    old = select(sessions.c.id).where(sessions.c.last_at_ns < before_ns, sessions.c.session_key != UNBOUND)
    ids = connection.execute(old.limit(AT_ONCE)).scalars().all()
    for some in in_parts(ids):
        connection.execute(delete(sessions).where(sessions.c.id.in_(some)))
    return len(ids)


def remove_records(connection: Connection, before_ns: int) -> bool:
    """Remove some records that are older; False if there were none."""
    query = select(_table.c.number, _row_bytes).where(_table.c.at_ns < before_ns).limit(AT_ONCE)
    rows = connection.execute(query).all()
    if not rows:
        return False
    for some in in_parts([row[0] for row in rows]):
        connection.execute(delete(_table).where(_table.c.number.in_(some)))
    _give_back(connection, sum(row[1] for row in rows))
    meta = schema.meta
    known = select(meta.c.value).where(meta.c.name == "dropped_before_ns")
    dropped_ns = max(before_ns, connection.execute(known).scalar_one())
    connection.execute(update(meta).where(meta.c.name == "dropped_before_ns").values(value=dropped_ns))
    return True


def age_to_keep(connection: Connection, keep_bytes: int) -> int:
    """The time before which detail has to go so that about `keep_bytes` of it are left; 0 if none has to."""
    excess = read_meta(connection)["detail_bytes"] - keep_bytes
    if excess <= 0:
        return 0
    query = select(_table.c.at_ns, _row_bytes).order_by(_table.c.at_ns)
    oldest_ns = 0
    with closing(connection.execute(query, execution_options={"yield_per": AT_ONCE})) as rows:
        for at_ns, size in rows:
            oldest_ns = at_ns + 1
            excess -= size
            if excess <= 0:
                break
    return oldest_ns


def forget(connection: Connection, segments: Sequence[str]) -> None:
    """Mark the positions of segments that are no more, and remove those that have been so for days."""
    table = schema.positions
    now_ns = time.time_ns()
    for some in in_parts(segments):
        connection.execute(update(table).where(table.c.segment.in_(some)).values(gone_at_ns=now_ns))
    connection.execute(delete(table).where(table.c.gone_at_ns < now_ns - _GONE_KEPT_NS))


def _give_back(connection: Connection, size: int) -> None:
    meta = schema.meta
    change: Any = {"value": meta.c.value - size}
    connection.execute(update(meta).where(meta.c.name == "detail_bytes").values(change))
