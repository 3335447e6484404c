"""Sessions as they are now: their present life, its calls, and the list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from otel_genapp.ledger import codec
from otel_genapp.ledger.clickhouse.rows import NUMBER_LIMIT, UNBOUND, hour_of, said, said_user
from otel_genapp.ledger.clickhouse.schema import CALLS, DROPPED, META, SESSIONS
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.rollup import MODELS_KEPT, USERS_KEPT
from otel_genapp.ledger.store import SessionPage
from otel_genapp.records import LLMCall

_KEY_DIGITS = len(str(2**128))
_NUMBER_DIGITS = len(str(NUMBER_LIMIT))

# Of each session what is highest in its highest epoch; as one number, which is five times as fast as a tuple.
_PACKED = "max(bitShiftLeft(toUInt128(epoch), 64) + toUInt64(greatest({column}, 0)))"
_LOW = "toInt64(bitAnd({packed}, toUInt128(18446744073709551615)))"
_NEWEST = f"{_PACKED.format(column='last_number')} AS newest"
_LATEST = f"{_PACKED.format(column='last_at_ns')} AS latest"
_LISTED = f"number > 0 AND session != unhex('{UNBOUND.hex()}')"
_ALL_LISTED = f"""\
SELECT session, {_LOW.format(packed="newest")} AS number
FROM (SELECT session, {_NEWEST} FROM {SESSIONS.name} GROUP BY session) WHERE {_LISTED}"""  # noqa: S608 - our own names
LIVES = f"""\
SELECT session, toInt64(bitShiftRight(newest, 64)) AS life
FROM (SELECT session, {_NEWEST} FROM {SESSIONS.name} GROUP BY session)
WHERE {_LISTED.replace("number", _LOW.format(packed="newest"))}"""  # noqa: S608 - as above
"""The query for the sessions there are, each with which life of it that is."""
_PAGE = f"""\
SELECT session, number, total FROM (SELECT *, count() OVER () AS total FROM ({_ALL_LISTED}))
WHERE number <= {{number:Int64}} AND (number, session) < ({{number:Int64}}, unhex({{key:String}}))
ORDER BY number DESC, session DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above
_TOTAL = f"SELECT count() FROM ({_ALL_LISTED})"  # noqa: S608 - as above
_IDS = f"""\
SELECT session, max(session_id) FROM {SESSIONS.name}
WHERE session IN (SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '<sessions>'))), 16)) GROUP BY session"""  # noqa: S608 - as above
# A condition for some sessions is tried on rows first: most sessions have none that fits.
_SOME = f"""\
SELECT session, toInt64(bitShiftRight(newest, 64)) AS life,
    {_LOW.format(packed="newest")} AS number, {_LOW.format(packed="latest")} AS last_at
FROM (
    SELECT session, {_NEWEST}, {_LATEST} FROM {SESSIONS.name}
    WHERE session GLOBAL IN (SELECT session FROM {SESSIONS.name} WHERE last_number > 0 AND <rows>)
    GROUP BY session
)
WHERE {_LISTED}"""  # noqa: S608 - as above
_ACTIVE = f"""\
SELECT count() FROM ({_SOME.replace("<rows>", "last_at_ns >= {since_ns:Int64}")} AND last_at >= {{since_ns:Int64}})"""  # noqa: S608 - as above
_AGED = f"""\
SELECT session, life FROM ({_SOME.replace("<rows>", "last_at_ns < {before_ns:Int64}")} AND last_at < {{before_ns:Int64}})
LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above

_ROWS_OF_ONE = f"""\
SELECT epoch, user_id, model, first_number, last_number, first_at_ns, last_at_ns
FROM {SESSIONS.name} FINAL WHERE session = unhex({{session:String}}) ORDER BY first_number"""  # noqa: S608 - as above

# First which ones, by the short columns only; then what they say.
_CALLS = f"""\
SELECT number, identity, record FROM {CALLS.name} FINAL
WHERE (hour, session, at_ns, identity) GLOBAL IN (
    SELECT hour, session, at_ns, identity FROM {CALLS.name} FINAL
    WHERE session = unhex({{session:String}}) AND epoch = {{epoch:Int64}}
        AND hour >= toDateTime({{first_hour:UInt32}}, 'UTC') AND hour <= toDateTime({{last_hour:UInt32}}, 'UTC')
        AND at_ns >= (SELECT max(value) FROM {META.name} WHERE name = '{DROPPED}')
        AND (number, identity) < ({{number:Int64}}, unhex({{key:String}}))
    ORDER BY number DESC, identity DESC LIMIT {{limit:UInt64}}
)
ORDER BY number DESC, identity DESC"""  # noqa: S608 - as above

_BETWEEN = f"""\
SELECT any(record) FROM {CALLS.name}
WHERE session = unhex({{session:String}}) AND epoch = {{epoch:Int64}}
    AND hour >= toDateTime({{first_hour:UInt32}}, 'UTC') AND hour <= toDateTime({{last_hour:UInt32}}, 'UTC')
    AND at_ns >= (SELECT max(value) FROM {META.name} WHERE name = '{DROPPED}')
    AND at_ns > {{after_ns:Int64}} AND at_ns <= {{until_ns:Int64}}
GROUP BY identity ORDER BY any(at_ns) DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above

# No FINAL: with it the server would read parts that the index says have none of them.
_FOUND = f"""\
SELECT text FROM (
    SELECT identity AS key, any(session) AS of_session, min(number) AS first, argMin(epoch, number) AS life,
        any(record) AS text
    FROM {CALLS.name}
    WHERE correlation = unhex({{correlation:String}})
        AND at_ns >= (SELECT max(value) FROM {META.name} WHERE name = '{DROPPED}')
    GROUP BY identity
) AS found
LEFT JOIN (
    SELECT session, max(epoch) AS present FROM {SESSIONS.name}
    WHERE session GLOBAL IN (SELECT session FROM {CALLS.name} WHERE correlation = unhex({{correlation:String}}))
    GROUP BY session
) AS lives ON of_session = session
WHERE life >= present
ORDER BY first DESC, key DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list, before which the next page begins."""

    number: int = NUMBER_LIMIT
    key: bytes = b""

    @classmethod
    def read(cls, text: str | None) -> Self:
        """The place a cursor stands for.

        Raises:
            ValueError: it is not one that a page gave.
        """
        if text is None:
            return cls()
        if text.isascii() and text.isdigit() and _KEY_DIGITS < len(text) <= _KEY_DIGITS + _NUMBER_DIGITS:
            number, key = int(text[:-_KEY_DIGITS]), int(text[-_KEY_DIGITS:])
            if number <= NUMBER_LIMIT and key < 2**128:
                return cls(number, key.to_bytes(16))
        raise ValueError(f"cursor must be one that an earlier page gave, got {text[:80]!r}")

    def __str__(self) -> str:
        return f"{self.number}{int.from_bytes(self.key):0{_KEY_DIGITS}d}"

    def parameters(self, limit: int) -> dict[str, Any]:
        """Those of a query for a page."""
        return {"number": self.number, "key": self.key.hex(), "limit": limit}


@dataclass(frozen=True, slots=True)
class Session:
    """A session's present life."""

    key: bytes
    epoch: int
    models: tuple[str, ...]
    users: tuple[str, ...]
    first_at_ns: int
    last_at_ns: int

    @property
    def where(self) -> dict[str, Any]:
        """The parameters that say which rows are its own."""
        return {
            "session": self.key.hex(),
            "epoch": self.epoch,
            "first_hour": hour_of(self.first_at_ns),
            "last_hour": hour_of(self.last_at_ns),
        }


IN_SESSION = """\
session = unhex({session:String}) AND epoch = {epoch:Int64} AND hour >= toDateTime({first_hour:UInt32}, 'UTC')
    AND hour <= toDateTime({last_hour:UInt32}, 'UTC')"""
"""The condition for the records of a `Session`, with the parameters of its `where`."""


def session_of(server: Server, key: bytes) -> Session | None:
    """The present life of a session, or None where it has none."""
    rows = server.rows(_ROWS_OF_ONE, {"session": key.hex()})
    epoch = max((row[0] for row in rows), default=0)
    alive = [row for row in rows if row[0] == epoch and row[4] > 0]
    if not alive:
        return None
    users = dict.fromkeys(said_user(row[1]) for row in alive if row[1])
    models = dict.fromkeys(said(row[2]) for row in alive)
    return Session(
        key,
        epoch,
        tuple(models)[:MODELS_KEPT],
        tuple(users)[:USERS_KEPT],
        min(row[5] for row in alive),
        max(row[6] for row in alive),
    )


def calls_of(server: Server, session: Session, *, limit: int, cursor: Cursor) -> list[tuple[Cursor, LLMCall]]:
    """The newest calls before a place, newest first, each with its own."""
    found = []
    for number, identity, text in server.rows(_CALLS, {**session.where, **cursor.parameters(limit)}):
        record = codec.decode(text.encode("ascii"))
        if isinstance(record, LLMCall):
            found.append((Cursor(number, identity), record))
    return found


def calls_between(
    server: Server, session: Session, *, after_ns: int, until_ns: int, limit: int
) -> list[LLMCall]:
    """Calls that ended after one time and not after another, those that ended last first."""
    between = {"after_ns": after_ns, "until_ns": until_ns, "limit": limit}
    found = []
    for (text,) in server.rows(_BETWEEN, {**session.where, **between}):
        record = codec.decode(text.encode("ascii"))
        if isinstance(record, LLMCall):
            found.append(record)
    return found


def calls_by_correlation(server: Server, correlation: bytes, *, limit: int) -> tuple[LLMCall, ...]:
    """The latest calls with a correlation id, the last ones first."""
    found = []
    for (text,) in server.rows(_FOUND, {"correlation": correlation.hex(), "limit": limit}):
        record = codec.decode(text.encode("ascii"))
        if isinstance(record, LLMCall):
            found.append(record)
    return tuple(found)


def page_of(server: Server, *, limit: int, cursor: Cursor) -> SessionPage:
    """A page of the list of sessions."""
    rows = server.rows(_PAGE, cursor.parameters(limit + 1))
    total = rows[0][2] if rows else server.rows(_TOTAL)[0][0]
    keys = [row[0] for row in rows[:limit]]
    texts = server.rows(_IDS.replace("<sessions>", ",".join(key.hex() for key in keys))) if keys else ()
    ids = {key: said(text) for key, text in texts}
    more = len(rows) > limit > 0
    return SessionPage(
        ids=tuple(ids[key] for key in keys if key in ids),
        total=total,
        next=str(Cursor(rows[limit - 1][1], keys[-1])) if more else None,
    )


def active_since(server: Server, since_ns: int) -> int:
    """How many sessions have been active since then."""
    ((number,),) = server.rows(_ACTIVE, {"since_ns": since_ns})
    return int(number)


def aged_before(server: Server, before_ns: int, *, limit: int) -> list[tuple[bytes, int]]:
    """Some sessions that have not been active since then, with their epochs."""
    return [(key, life) for key, life in server.rows(_AGED, {"before_ns": before_ns, "limit": limit})]
