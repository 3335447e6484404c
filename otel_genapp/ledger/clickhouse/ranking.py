"""Sessions by what they cost, how many tokens they took or how many calls failed, a page at a time."""

from __future__ import annotations

from otel_genapp.ledger.clickhouse.living import LIVES, session_of
from otel_genapp.ledger.clickhouse.rows import NUMBER_LIMIT, said
from otel_genapp.ledger.clickhouse.schema import RECORDS, SESSIONS
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.clickhouse.sums import sums_of, sums_query
from otel_genapp.ledger.rollup import Rollup, SessionRollup
from otel_genapp.ledger.store import RankedPage, rank_in

_RANKS = {
    "recent": "max(greatest(started_at_ns, at_ns))",
    "cost": "sum(cost_nano_usd)",
    "tokens": "sum(input_tokens) + sum(output_tokens)",
    "failed": "countIf(is_call AND status != 'success')",
}
"""The sums behind `ledger.store.RANKINGS`."""
_SEARCHED = f"""\
AND session IN (
    SELECT session FROM {SESSIONS.name} WHERE positionCaseInsensitiveUTF8(session_id, {{search:String}}) > 0
)"""  # noqa: S608 - our own names
_RANKED = f"""\
SELECT session, <rank> AS value FROM {RECORDS.name} FINAL
WHERE (session, epoch) IN ({LIVES}) <searched>
GROUP BY session HAVING (value, session) < ({{value:Int64}}, unhex({{key:String}}))
ORDER BY value DESC, session DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above
_NAMES = f"""\
SELECT session, max(session_id) FROM {SESSIONS.name} WHERE session IN (<sessions>) GROUP BY session"""  # noqa: S608 - as above
_SUMS = sums_query(
    where=f"session IN (<sessions>) AND (session, epoch) IN ({LIVES})", by={"session": "session"}
)
_HIGHEST_KEY = 2**128 - 1


def ranked(server: Server, *, by: str, limit: int, cursor: str | None, search: str) -> RankedPage:
    """See `Store.ranked`."""
    value, key = rank_in(cursor) or (NUMBER_LIMIT, _HIGHEST_KEY)
    if value > NUMBER_LIMIT or key > _HIGHEST_KEY:
        raise ValueError(f"cursor must be one that an earlier page gave, got {cursor!r}")
    query = _RANKED.replace("<rank>", _RANKS[by]).replace("<searched>", _SEARCHED if search else "")
    said_by = {"value": value, "key": key.to_bytes(16).hex(), "limit": limit + 1}
    found = server.rows(query, {**said_by, "search": search} if search else said_by)
    keys = [row[0] for row in found[:limit]]
    more = len(found) > limit > 0
    if not keys:
        return RankedPage((), None)
    listed = ", ".join(f"unhex('{one.hex()}')" for one in keys)
    names = {one: said(text) for one, text in server.rows(_NAMES.replace("<sessions>", listed))}
    sums: dict[bytes, Rollup] = {one: Rollup() for one in keys}
    for row in server.rows(_SUMS.replace("<sessions>", listed)):
        sums[row[0]].merge(sums_of(row[1:]))
    sessions = []
    for one in keys:
        session = session_of(server, one)
        if session is not None:
            sessions.append(
                SessionRollup(
                    names[one], sums[one], dict.fromkeys(session.models), dict.fromkeys(session.users)
                )
            )
    last = f"{found[limit - 1][1]}.{int.from_bytes(keys[-1])}" if more else None
    return RankedPage(tuple(sessions), last)
