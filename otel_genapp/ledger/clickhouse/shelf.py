"""What `arrivals.settle` sees of conversations in ClickHouse: asked for in bulk, and kept while it works.

Each worker adds its records first and reads then, so who reads last has seen what all of them added. A
row's `version` is the time at which its writer began to read, which makes that one's row the one that
stays, whoever writes last. For that a row must be made of what was read, never of an older row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from otel_genapp import semconv
from otel_genapp.ledger.arrivals import USAGE_LIMIT
from otel_genapp.ledger.clickhouse.facts import COLUMNS, decoded, metrics_row, person_key, row_of
from otel_genapp.ledger.clickhouse.living import Session, calls_between, session_of
from otel_genapp.ledger.clickhouse.rows import (
    NOBODY,
    NUMBER_LIMIT,
    UNBOUND,
    correlation_key,
    hex_of,
    said,
    session_key,
    stored,
    within,
)
from otel_genapp.ledger.clickhouse.schema import DROPPED, FACTS, META, METRICS, RECORDS, SESSIONS
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.conversations import ConversationRow, Place
from otel_genapp.ledger.conversations_memory import place_of
from otel_genapp.ledger.settling import WINDOW
from otel_genapp.records import ConversationRecord, LLMAmendment, LLMCall, Message, Usage, UsageRecord

_UNSURE_NS = 60 * 10**9
"""Another worker may take so long from its reading to its writing."""
_ENDS_KEPT = 1000
_FIRST = -NUMBER_LIMIT
_LOT_BYTES = 300_000
"""Of keys in one query: they are written in hex, twice, and a query has at most 4,000,000 characters."""
_TAIL = 3 * WINDOW
"""Facts of a session that are asked for with those of the others; most sessions have fewer."""
NOT_DROPPED = f"at_ns >= (SELECT max(value) FROM {META.name} WHERE name = '{DROPPED}')"  # noqa: S608 - our own names
"""The condition for what retention lets be seen."""
_KEYS = "(SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '<keys>'))), 16))"
_UNBOUND = f"unhex('{NOBODY.hex()}')"

# No FINAL: with it the server would read parts that an index says have none of them.
_SEEN = f"""\
SELECT <what> FROM (
    SELECT identity AS key, any(session) AS of_session, argMin(epoch, number) AS life, any(at_ns) AS at,
        any(id) AS name, any(person) AS of_person, max(fact) AS text
    FROM {FACTS.name} WHERE kind < 3 AND <where> AND {NOT_DROPPED}
    GROUP BY identity
) AS found
LEFT JOIN (
    SELECT session, max(epoch) AS present FROM {FACTS.name}
    WHERE session != {_UNBOUND} AND session GLOBAL IN (SELECT session FROM {FACTS.name} WHERE <where>)
    GROUP BY session
) AS lives ON of_session = session
WHERE life >= present AND text != '' <rest>"""  # noqa: S608 - as above
_USAGE = f"""\
SELECT of_correlation, of_session, name, call, state, ended, began, tokens, cost, open FROM (
    SELECT identity AS key, any(correlation) AS of_correlation, any(session) AS of_session,
        argMin(epoch, number) AS life, any(is_call) AS call, any(status) AS state, any(at_ns) AS ended,
        any(started_at_ns) AS began, any(cost_nano_usd) AS cost, any(is_unpriced) AS open,
        any((input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, is_unknown)) AS tokens
    FROM {RECORDS.name} WHERE correlation IN {_KEYS} AND {NOT_DROPPED}
    GROUP BY identity
) AS found
LEFT JOIN (
    SELECT session, max(epoch) AS present, max(session_id) AS name FROM {SESSIONS.name}
    WHERE session GLOBAL IN (SELECT session FROM {RECORDS.name} WHERE correlation IN {_KEYS})
    GROUP BY session
) AS lives ON of_session = session
WHERE life >= present
LIMIT {USAGE_LIMIT + 1} BY of_correlation"""  # noqa: S608 - as above
_ROWS = f"""\
SELECT version, {", ".join(COLUMNS)} FROM {METRICS.name} FINAL
WHERE (at_ns, id) IN (
    SELECT reinterpretAsInt64(substring(packed, 1, 8)), substring(packed, 9)
    FROM (SELECT unhex(arrayJoin(splitByChar(',', '<places>'))) AS packed)
)"""  # noqa: S608 - as above


class _Unsure(ConversationRow):
    """A row that another worker may be writing at this moment: equal to no other, it is written again."""

    __slots__ = ()


class Shelf:
    """What one worker sees after it has added its records.

    `facts` are those of the batch: what has to do with them is asked for together.
    """

    def __init__(self, server: Server, facts: Iterable[ConversationRecord]) -> None:
        self._server = server
        ((self._version,),) = server.rows("SELECT toUnixTimestamp64Nano(now64(9))")
        facts = list(facts)
        self._sessions = {fact.session_id for fact in facts if fact.session_id is not None}
        self._users = {
            fact.user_id for fact in facts if isinstance(fact, Message) and fact.user_id is not None
        }
        self._messages: dict[str, list[Message]] = {}
        self._tails: dict[str, tuple[list[ConversationRecord], bool]] = {}
        self._about: dict[str, list[ConversationRecord]] = {}
        self._rows: dict[str, ConversationRow | None] = {}
        self._usage: dict[bytes, list[UsageRecord]] = {}
        self._lives: dict[str, Session | None] = {}
        self._ends: dict[str, list[int]] = {}
        self._contacts: dict[str, list[Place]] = {}
        self._places: dict[str, int] = {}
        self.saved: dict[str, ConversationRow] = {}
        """The rows that are to be written."""

    def messages_of(self, correlation_ids: Collection[str]) -> Sequence[Message]:
        unknown = {one for one in correlation_ids if one not in self._messages}
        if unknown:
            # And those of what else is looked at, which will be asked for one session after the other.
            unknown |= {
                fact.correlation_id
                for facts, _ in self._tails.values()
                for fact in facts
                if not isinstance(fact, Message) and fact.correlation_id is not None
            } - self._messages.keys()
            self._messages.update((one, []) for one in unknown)
            for fact in self._seen(map(correlation_key, unknown), "kind = 0 AND correlation"):
                if isinstance(fact, Message):
                    self._messages[fact.correlation_id or ""].append(fact)
                    if fact.session_id is not None:
                        self._sessions.add(fact.session_id)
        return [message for one in correlation_ids for message in self._messages[one]]

    def without_correlation(self, session_ids: Collection[str]) -> Collection[str]:
        keys = {session_key(one): one for one in session_ids}
        where = f"kind = 0 AND correlation = {_UNBOUND} AND session"
        found = {keys[key] for (key,) in self._ask(keys, where, what="DISTINCT of_session")}
        self._sessions |= found
        return found

    def facts_until(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        facts, is_whole = self._tail(session_id)
        found = [fact for fact in facts if place_of(fact) < place]
        if is_whole or len(found) >= limit:
            return found[-limit:]
        return self._around(session_id, place, side="<", rest=f"ORDER BY at DESC, name DESC LIMIT {limit}")

    def facts_from(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        facts, is_whole = self._tail(session_id)
        if is_whole or (facts and place_of(facts[0]) < place):
            return [fact for fact in facts if place_of(fact) >= place][:limit]
        return self._around(session_id, place, side=">=", rest=f"ORDER BY at, name LIMIT {limit}")

    def facts_about(self, correlation_ids: Collection[str]) -> Sequence[ConversationRecord]:
        def ask(ids: Collection[str]) -> dict[str, list[ConversationRecord]]:
            found: dict[str, list[ConversationRecord]] = {one: [] for one in ids}
            for fact in self._seen(map(correlation_key, ids), "kind > 0 AND correlation"):
                found[fact.correlation_id or ""].append(fact)
            return found

        asked = {
            fact.correlation_id
            for facts, _ in self._tails.values()
            for fact in facts
            if isinstance(fact, Message) and fact.correlation_id is not None
        } | set(correlation_ids)
        return [
            fact for one in correlation_ids for fact in self._kept(self._about, one, asked=asked, ask=ask)
        ]

    def rows_of(self, ids: Collection[str]) -> Mapping[str, ConversationRow]:
        unknown = [one for one in self._places if one not in self._rows]
        if unknown and any(one not in self._rows for one in ids):
            self._rows.update((one, None) for one in unknown)
            packed = (
                within(self._places[one]).to_bytes(8, "little", signed=True) + stored(one).encode()
                for one in unknown
            )
            for listed in _lots(packed):
                for version, *values in self._server.rows(_ROWS.replace("<places>", listed)):
                    row = row_of(values)
                    is_sure = version < self._version - _UNSURE_NS
                    self._rows[row.id] = row if is_sure else _Unsure(**_values_of(row))
        found = {one: self.saved.get(one) or self._rows.get(one) for one in ids}
        return {one: row for one, row in found.items() if row is not None}

    def usage_of(self, correlation_id: str, *, limit: int) -> Sequence[UsageRecord]:
        key = correlation_key(correlation_id)
        if key not in self._usage:
            # Those of messages only: there may be many calls that belong to none.
            asked = {correlation_key(one) for one, found in self._messages.items() if found} | {key}
            unknown = asked - self._usage.keys()
            self._usage.update((one, []) for one in unknown)
            for listed in _lots(unknown):
                for one, *values in self._server.rows(_USAGE.replace("<keys>", listed)):
                    self._usage[one].append(_usage_in(values))
        return self._usage[key][:limit]

    def calls_of(
        self, session_id: str, *, after_ns: int | None, until_ns: int | None, limit: int
    ) -> Sequence[LLMCall]:
        # One session at a time: only what is known of it says where its calls lie.
        if session_id not in self._lives:
            self._lives[session_id] = session_of(self._server, session_key(session_id))
        session = self._lives[session_id]
        if session is None:
            return ()
        after = _FIRST if after_ns is None else within(after_ns)
        until = NUMBER_LIMIT if until_ns is None else within(until_ns)
        return calls_between(self._server, session, after_ns=after, until_ns=until, limit=limit)

    def ended_before(self, user_id: str, at_ns: int) -> int | None:
        def ask(ids: Collection[str]) -> dict[str, list[int]]:
            keys = {person_key(one): one for one in ids}
            found: dict[str, list[int]] = {one: [] for one in ids}
            rest = f"ORDER BY at DESC LIMIT {_ENDS_KEPT} BY of_person"
            for key, at in self._ask(keys, "ends = 1 AND person", what="of_person, at", rest=rest):
                found[keys[key]].append(at)
            return {one: ends[::-1] for one, ends in found.items()}

        def ask_contacts(ids: Collection[str]) -> dict[str, list[Place]]:
            found: dict[str, list[Place]] = {one: [] for one in ids}
            rest = f"ORDER BY at DESC, name DESC LIMIT {_TAIL} BY of_person"
            for fact in self._seen(map(person_key, ids), "kind = 0 AND person", rest=rest):
                found[fact.user_id or ""].append(place_of(fact))
            return {one: places[::-1] for one, places in found.items()}

        ends = self._kept(self._ends, user_id, asked=self._users, ask=ask)
        place = bisect_left(ends, at_ns)
        # Whoever tells of an end may not know the user, but messages do.
        contacts = self._kept(self._contacts, user_id, asked=self._users, ask=ask_contacts)
        latest = contacts[: bisect_left(contacts, (at_ns, ""))][-WINDOW:]
        rows = self.rows_of([one for _, one in latest]).values()
        found = [row.ended_at_ns for row in rows if row.ended_at_ns is not None and row.ended_at_ns < at_ns]
        return max((*ends[max(place - 1, 0) : place], *found), default=None)

    def save(self, rows: Sequence[ConversationRow]) -> None:
        self.saved.update((row.id, row) for row in rows)

    def write(self) -> None:
        """Write the rows that were saved."""
        self._server.insert(METRICS, (metrics_row(row, version=self._version) for row in self.saved.values()))

    def _tail(self, session_id: str) -> tuple[list[ConversationRecord], bool]:
        """The last facts of a session in the order of time, and whether they are all."""

        def ask(ids: Collection[str]) -> dict[str, tuple[list[ConversationRecord], bool]]:
            found: dict[str, list[ConversationRecord]] = {one: [] for one in ids}
            rest = f"ORDER BY at DESC, name DESC LIMIT {_TAIL} BY of_session"
            for fact in self._seen(map(session_key, ids), "session", rest=rest):
                found[fact.session_id or ""].append(fact)
            return {one: (sorted(facts, key=place_of), len(facts) < _TAIL) for one, facts in found.items()}

        tail: tuple[list[ConversationRecord], bool] = self._kept(
            self._tails, session_id, asked=self._sessions, ask=ask
        )
        return tail

    def _around(self, session_id: str, place: Place, *, side: str, rest: str) -> list[ConversationRecord]:
        at_ns, fact_id = within(place[0]), stored(place[1]).encode().hex()
        where = f"(at_ns, id) {side} ({at_ns}, unhex('{fact_id}')) AND session"
        return self._seen([session_key(session_id)], where, rest=rest)

    def _kept(self, kept: dict[str, Any], one: str, *, asked: set[str], ask: Callable[..., Any]) -> Any:
        """What is kept of one, asked for with the others that will be asked for."""
        if one not in kept:
            kept.update(ask((asked | {one}) - kept.keys()))
        return kept[one]

    def _seen(self, keys: Iterable[bytes], where: str, *, rest: str = "") -> list[ConversationRecord]:
        found = list(decoded(text for (text,) in self._ask(keys, where, what="text", rest=rest)))
        self._places.update((fact.id, fact.at_ns) for fact in found if isinstance(fact, Message))
        return found

    def _ask(self, keys: Iterable[bytes], where: str, *, what: str, rest: str = "") -> list[Any]:
        return [
            row
            for listed in _lots(keys)
            for row in self._server.rows(
                seen(f"{where} IN {_KEYS.replace('<keys>', listed)}", what=what, rest=rest)
            )
        ]


def _lots(keys: Iterable[bytes]) -> Iterator[str]:
    """Keys as queries are told them, as many at a time as a query may be long; each is in one only."""
    lot: list[bytes] = []
    size = 0
    for key in keys:
        lot.append(key)
        size += len(key)
        if size >= _LOT_BYTES:
            yield hex_of(lot)
            lot, size = [], 0
    if lot:
        yield hex_of(lot)


def seen(where: str, *, what: str = "text", rest: str = "") -> str:
    """The query for facts that are not cleared: `text`, `at`, `name` (its id), `of_session`, `of_person`."""
    return _SEEN.replace("<what>", what).replace("<where>", where).replace("<rest>", rest)


def _values_of(row: ConversationRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS}


def _usage_in(values: Sequence[Any]) -> UsageRecord:
    """A usage record as far as sums need it: it holds no text, and is there as long as the totals."""
    session, name, is_call, status, at_ns, started_at_ns, tokens, cost, is_unpriced = values
    *numbers, is_unknown = tokens
    # Nobody's tokens and none are both 0 in the table: of a call that has none it is known which.
    nothing = not any(numbers) and (is_unknown or not is_call or status == semconv.FAIL)
    usage = Usage() if nothing else Usage(*numbers)
    said_by: dict[str, Any] = {
        "call_id": "", "session_id": None if session == UNBOUND else said(name), "status": status, "usage": usage, "cost_nano_usd": None if is_unpriced else cost,
    }  # fmt: skip
    if not is_call:
        return LLMAmendment(seq=1, at_ns=at_ns, **said_by)
    return LLMCall(started_at_ns=started_at_ns, duration_ms=(at_ns - started_at_ns) / 1e6, **said_by)
