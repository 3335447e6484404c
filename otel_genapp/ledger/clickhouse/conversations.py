"""Conversations in ClickHouse: facts as they came, and `conversation_metrics`, one row for each message.

There are no transactions: facts are added, then read with all that belongs to them, then the rows are
written. What is interrupted in between is made good when the part is delivered again, and two workers
at once come out right (see `shelf`). Not exactly once is what new facts made happen: it is not told
where the process ended before it was, and told twice where two workers add the same fact at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from otel_genapp.ledger.arrivals import settle
from otel_genapp.ledger.clickhouse.facts import (
    COLUMNS,
    KINDS,
    decoded,
    ending_row,
    gone_row,
    row_of,
)
from otel_genapp.ledger.clickhouse.retention import Removal
from otel_genapp.ledger.clickhouse.rows import NOBODY, hour_of, session_key, stored, within
from otel_genapp.ledger.clickhouse.schema import FACTS, METRICS
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.clickhouse.shelf import NOT_DROPPED, Shelf, seen
from otel_genapp.ledger.conversations import PAGE, ConversationRow, Listener, News, Place, ignore
from otel_genapp.records import ConversationRecord, Feedback, Message, Outcome, UsageRecord

_BETWEEN = f"at_ns >= {{from_ns:Int64}} AND at_ns < {{to_ns:Int64}} AND {NOT_DROPPED}"
_ROWS = f"""\
SELECT {", ".join(COLUMNS)} FROM {METRICS.name} FINAL
WHERE {_BETWEEN} AND (at_ns, id) > ({{at_ns:Int64}}, unhex({{id:String}}))
ORDER BY at_ns, id LIMIT {{limit:UInt64}}"""  # noqa: S608 - our own names
_COUNT = f"SELECT count() FROM {METRICS.name} FINAL WHERE {_BETWEEN}"  # noqa: S608 - as above
_FACTS = seen(
    "kind = {kind:UInt8} AND at_ns >= {from_ns:Int64} AND at_ns < {to_ns:Int64} "
    "AND hour >= toDateTime({first_hour:UInt32}, 'UTC') AND hour <= toDateTime({last_hour:UInt32}, 'UTC')",
    rest=f"AND (at, name) > ({{at_ns:Int64}}, unhex({{id:String}})) ORDER BY at, name LIMIT {PAGE}",
)
_LIFE = f"SELECT max(epoch) FROM {FACTS.name} WHERE session = unhex({{session:String}})"  # noqa: S608 - as above
_SEEN = seen("session = unhex({session:String})", what="count()")
_MESSAGES = f"""\
SELECT max(fact) FROM {FACTS.name} WHERE session = unhex({{session:String}}) AND kind = 0 AND fact != ''
GROUP BY identity"""  # noqa: S608 - as above
_FIRST = -(2**63)


class ClickHouseConversations:
    """What a database keeps of conversations; `working` gives its server for some reading."""

    def __init__(self, working: Callable[[], AbstractContextManager[Server]]) -> None:
        self._working = working
        self._listener = ignore()

    @property
    def repeat_ns(self) -> int:
        """How soon a contact is a repeated one."""
        return self._listener.repeat_ns

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on what new records make happen."""
        self._listener = listener

    def tell(self, news: News) -> None:
        """Say what a batch brought; after it is stored."""
        news.tell(self._listener)

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        said_by = {"from_ns": within(from_ns), "to_ns": within(to_ns), "limit": limit, **_after(after)}
        with self._working() as server:
            return tuple(map(row_of, server.rows(_ROWS, said_by)))

    def count(self, *, from_ns: int, to_ns: int) -> int:
        with self._working() as server:
            ((number,),) = server.rows(_COUNT, {"from_ns": within(from_ns), "to_ns": within(to_ns)})
            return int(number)

    def facts(
        self, kind: type[Feedback | Outcome], *, from_ns: int, to_ns: int, after: Place | None = None
    ) -> tuple[ConversationRecord, ...]:
        said_by = {
            "kind": KINDS[kind],
            "from_ns": within(from_ns),
            "to_ns": within(to_ns),
            "first_hour": hour_of(from_ns),
            "last_hour": hour_of(to_ns),
            **_after(after),
        }
        with self._working() as server:
            return tuple(decoded(text for (text,) in server.rows(_FACTS, said_by)))


def take(
    server: Server,
    facts: Sequence[ConversationRecord],
    *,
    new: Sequence[ConversationRecord],
    usage: Sequence[UsageRecord],
    repeat_ns: int,
) -> News:
    """Bring the rows up to date with facts, of which some are new, and with usage, all of it stored already."""
    shelf = Shelf(server, facts)
    happened = settle(shelf, new, usage=usage, repeat_ns=repeat_ns)
    known = {fact.id for fact in new}
    again = [fact for fact in facts if fact.id not in known]
    if again:
        # Who added them may have been interrupted before it wrote their rows.
        settle(shelf, again, usage=(), repeat_ns=0)
    asked = {record.correlation_id for record in usage}
    asked |= {fact.correlation_id for fact in facts if isinstance(fact, Message)}
    left = [
        row for row in shelf.saved.values() if row.correlation_id is None or row.correlation_id not in asked
    ]
    if left:
        # Usage out of an older row may be older than what was read: another worker may be writing a newer one.
        settle(shelf, (), usage=(), repeat_ns=0, rows=left)
    shelf.write()
    return News(len(new), tuple(happened))


def clear(server: Server, session_id: str, *, now_us: int, removal: Removal) -> bool:
    """Let a session's facts and rows be unseen, then have them emptied and removed; False if there were none."""
    key = session_key(session_id)
    said_by = {"session": key.hex()}
    ((seen_now,),) = server.rows(_SEEN, said_by)
    if not seen_now:
        return False
    ((life,),) = server.rows(_LIFE, said_by)
    epoch = max(now_us, life + 1)
    server.insert(FACTS, [ending_row(key, epoch=epoch)])
    # After that row: whoever writes a row of a message now has seen the message before it, so it is in here.
    messages = decoded(text for (text,) in server.rows(_MESSAGES, said_by))
    server.insert(METRICS, (gone_row(one) for one in messages if isinstance(one, Message)))
    zeros = f"unhex('{NOBODY.hex()}')"
    over = f"session = unhex('{key.hex()}') AND epoch < {epoch}"
    removal.change(FACTS, f"fact = '', correlation = {zeros}, person = {zeros}", where=over)
    removal.remove(METRICS, f"session_id = unhex('{stored(session_id).encode().hex()}') AND is_gone = 0")
    return True


def _after(place: Place | None) -> dict[str, Any]:
    at_ns, fact_id = (_FIRST, "") if place is None else (within(place[0]), place[1])
    return {"at_ns": at_ns, "id": stored(fact_id).encode().hex()}
