"""Sessions by what they cost, how many tokens they took or how many calls failed, a page at a time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select, tuple_

from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.sessions import UNBOUND, Session, id_of
from otel_genapp.ledger.store import RankedPage

_table = schema.sessions
_RANKS: dict[str, Any] = {
    "recent": _table.c.last_at_ns,
    "cost": _table.c.cost_nano_usd,
    "tokens": (
        _table.c.input_tokens
        + _table.c.output_tokens
        + _table.c.failed_input_tokens
        + _table.c.failed_output_tokens
    ),
    "failed": _table.c.failed,
}
"""The columns behind `ledger.store.RANKINGS`."""


def ranked(
    connection: Connection, *, by: str, limit: int, after: tuple[int, int] | None, search: str
) -> RankedPage:
    """See `Store.ranked`."""
    rank = _RANKS[by]
    # First which ones, by few columns: the rows are wide.
    query = select(_table.c.id, rank.label("rank"), _table.c.number).where(_table.c.session_key != UNBOUND)
    if search:
        query = query.where(func.substr(_table.c.session_key, 2).icontains(search, autoescape=True))
    if after is not None:
        query = query.where(tuple_(rank, _table.c.number) < tuple_(*after))
    found = connection.execute(query.order_by(rank.desc(), _table.c.number.desc()).limit(limit + 1)).all()
    ids = [row[0] for row in found[:limit]]
    rows = connection.execute(select(_table).where(_table.c.id.in_(ids))).all()
    sessions = {row[0]: Session.of_row(row) for row in rows}
    more = len(found) > limit > 0
    return RankedPage(
        tuple(_rollup(sessions[number]) for number in ids),
        f"{found[limit - 1][1]}.{found[limit - 1][2]}" if more else None,
    )


def _rollup(session: Session) -> SessionRollup:
    return SessionRollup(
        id_of(session.key), session.sums, dict.fromkeys(session.models), dict.fromkeys(session.users)
    )
