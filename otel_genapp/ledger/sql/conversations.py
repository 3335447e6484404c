"""Conversations in a database: facts as they came, and `conversation_metrics`, one row for each message.

The rows are brought up to date in the transaction that takes in what changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, insert, literal, select, tuple_, update

from otel_genapp.ledger import codec
from otel_genapp.ledger.arrivals import settle
from otel_genapp.ledger.conversations import PAGE, ConversationRow, Listener, News, Place, ignore
from otel_genapp.ledger.settling import WINDOW
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.sessions import key_of
from otel_genapp.ledger.sql.statements import in_parts
from otel_genapp.ledger.sql.sums import within
from otel_genapp.ledger.sql.texts import said, stored
from otel_genapp.records import ConversationRecord, Feedback, LLMCall, Message, Outcome, UsageRecord

T = TypeVar("T")

_facts, _rows, _records = schema.conversation_facts, schema.conversation_metrics, schema.records
_place = tuple_(_facts.c.at_ns, _facts.c.id)
_KINDS: Mapping[type[ConversationRecord], int] = {Message: 0, Feedback: 1, Outcome: 2}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXTS = ("id", "platform", "intent")
_OPEN_TEXTS = ("user_id", "session_id", "correlation_id")
_AS_THEY_ARE = (
    "confidence", "response_time_ms", "llm_calls", "tokens_used", "cost_nano_usd", "satisfaction_score", "nps",
    "quality", "critical", "intent_correct", "resolved", "escalated", "converted", "abandoned", "at_ns",
    "began_at_ns", "ended_at_ns",
)  # fmt: skip


class SQLConversations:
    """What a database keeps of conversations; `read` runs a query in it."""

    def __init__(self, read: Callable[[Callable[[Connection], Any]], Any]) -> None:
        self._read = read
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
        query = (
            select(_rows)
            .where(*_within(_rows, from_ns, to_ns=to_ns, after=after))
            .order_by(_rows.c.at_ns, _rows.c.id)
            .limit(limit)
        )
        found: tuple[ConversationRow, ...] = self._read(
            lambda connection: tuple(_row_of(row) for row in connection.execute(query))
        )
        return found

    def count(self, *, from_ns: int, to_ns: int) -> int:
        query = select(func.count()).where(*_within(_rows, from_ns, to_ns=to_ns, after=None))
        found: int = self._read(lambda connection: int(connection.execute(query).scalar_one()))
        return found

    def facts(
        self, kind: type[Feedback | Outcome], *, from_ns: int, to_ns: int, after: Place | None = None
    ) -> tuple[ConversationRecord, ...]:
        query = (
            select(_facts.c.fact)
            .where(
                *_within(_facts, from_ns, to_ns=to_ns, after=after),
                _facts.c.kind == _KINDS[kind],
                _facts.c.fact.is_not(None),
            )
            .order_by(_facts.c.at_ns, _facts.c.id)
            .limit(PAGE)
        )
        found: tuple[ConversationRecord, ...] = self._read(
            lambda connection: tuple(_decoded(connection.execute(query).scalars()))
        )
        return found


def take(
    connection: Connection,
    facts: Sequence[ConversationRecord],
    *,
    usage: Sequence[UsageRecord],
    repeat_ns: int,
) -> News:
    """Add those facts that are new and bring the rows up to date with them, and with usage that is stored already."""
    shelf = _Shelf(connection)
    new = shelf.add(facts)
    if not new and not shelf.has_messages:
        return News()
    return News(len(new), tuple(settle(shelf, new, usage=usage, repeat_ns=repeat_ns)))


def clear(connection: Connection, session_id: str) -> bool:
    """Empty the facts of a session and remove its rows; False if there were none."""
    key = stored(session_id)
    found = connection.execute(
        update(_facts)
        .where(_facts.c.session == key)
        .values(session=None, correlation=None, person=None, fact=None)
    )
    connection.execute(delete(_rows).where(_rows.c.session_id == key))
    return found.rowcount > 0


def remove_old(connection: Connection, before_ns: int, *, limit: int) -> bool:
    """Remove some facts that are older, and their rows; False if there were none."""
    ids = (
        connection.execute(select(_facts.c.id).where(_facts.c.at_ns < before_ns).limit(limit)).scalars().all()
    )
    for some in in_parts(ids):
        connection.execute(delete(_facts).where(_facts.c.id.in_(some)))
        connection.execute(delete(_rows).where(_rows.c.id.in_(some)))
    return bool(ids)


class _Shelf:
    """What one transaction sees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def has_messages(self) -> bool:
        """Whether there is any message that usage could belong to."""
        return self._connection.execute(select(literal(1)).select_from(_rows).limit(1)).first() is not None

    def add(self, facts: Sequence[ConversationRecord]) -> list[ConversationRecord]:
        """Add those that are new, and return them."""
        by_id = {stored(fact.id): fact for fact in facts}
        known = set(self._all(by_id, lambda some: select(_facts.c.id).where(_facts.c.id.in_(some))))
        new = {key: fact for key, fact in by_id.items() if key not in known}
        if new:
            self._connection.execute(insert(_facts), [_fact_row(key, fact) for key, fact in new.items()])
        return list(new.values())

    def messages_of(self, correlation_ids: Collection[str]) -> Sequence[Message]:
        found = self._facts_where(
            [stored(one) for one in correlation_ids], _facts.c.correlation, _facts.c.kind == _KINDS[Message]
        )
        return [fact for fact in found if isinstance(fact, Message)]

    def without_correlation(self, session_ids: Collection[str]) -> Collection[str]:
        by_key = {stored(one): one for one in session_ids}
        found = self._all(
            by_key,
            lambda some: (
                select(_facts.c.session)
                .where(
                    _facts.c.session.in_(some),
                    _facts.c.kind == _KINDS[Message],
                    _facts.c.correlation.is_(None),
                )
                .distinct()
            ),
        )
        return {by_key[key] for key in found}

    def facts_until(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        before = _place < (within(place[0]), stored(place[1]))
        order = (_facts.c.at_ns.desc(), _facts.c.id.desc())
        return self._facts_of(session_id, before, order=order, limit=limit)

    def facts_from(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        after = _place >= (within(place[0]), stored(place[1]))
        return self._facts_of(session_id, after, order=(_facts.c.at_ns, _facts.c.id), limit=limit)

    def facts_about(self, correlation_ids: Collection[str]) -> Sequence[ConversationRecord]:
        return self._facts_where(
            [stored(one) for one in correlation_ids],
            _facts.c.correlation,
            _facts.c.kind.in_((_KINDS[Feedback], _KINDS[Outcome])),
        )

    def rows_of(self, ids: Collection[str]) -> Mapping[str, ConversationRow]:
        found: dict[str, ConversationRow] = {}
        for some in in_parts([stored(one) for one in ids]):
            for row in self._connection.execute(select(_rows).where(_rows.c.id.in_(some))):
                made = _row_of(row)
                found[made.id] = made
        return found

    def usage_of(self, correlation_id: str, *, limit: int) -> Sequence[UsageRecord]:
        query = (
            select(_records.c.record)
            .where(
                _records.c.correlation == stored(correlation_id),
                _records.c.session.in_(select(schema.sessions.c.id)),
            )
            .limit(limit)
        )
        return _usage_in(self._connection.execute(query).scalars())

    def calls_of(
        self, session_id: str, *, after_ns: int | None, until_ns: int | None, limit: int
    ) -> Sequence[LLMCall]:
        sessions = schema.sessions
        of_session = select(sessions.c.id).where(sessions.c.session_key == key_of(session_id))
        query = select(_records.c.record).where(
            _records.c.session.in_(of_session), _records.c.seq == 0, _records.c.record.is_not(None)
        )
        if after_ns is not None:
            query = query.where(_records.c.at_ns > within(after_ns))
        if until_ns is not None:
            query = query.where(_records.c.at_ns <= within(until_ns))
        query = query.order_by(_records.c.at_ns.desc()).limit(limit)
        return [
            record
            for record in _usage_in(self._connection.execute(query).scalars())
            if isinstance(record, LLMCall)
        ]

    def ended_before(self, user_id: str, at_ns: int) -> int | None:
        person, before = _facts.c.person == stored(user_id), _facts.c.at_ns < within(at_ns)
        said = select(func.max(_facts.c.at_ns)).where(person, _facts.c.ends == 1, before)
        # Whoever tells of an end may not know the user, but messages do.
        latest = (
            select(_facts.c.id)
            .where(person, _facts.c.ends == 0, before)
            .order_by(_facts.c.at_ns.desc())
            .limit(WINDOW)
        )
        seen = select(func.max(_rows.c.ended_at_ns)).where(
            _rows.c.id.in_(latest), _rows.c.ended_at_ns < within(at_ns)
        )
        found = [self._connection.execute(query).scalar() for query in (said, seen)]
        return max((one for one in found if one is not None), default=None)

    def save(self, rows: Sequence[ConversationRow]) -> None:
        for some in in_parts([stored(row.id) for row in rows]):
            self._connection.execute(delete(_rows).where(_rows.c.id.in_(some)))
        self._connection.execute(insert(_rows), [_row_values(row) for row in rows])

    def _facts_of(
        self, session_id: str, where: Any, *, order: tuple[Any, Any], limit: int
    ) -> list[ConversationRecord]:
        query = select(_facts.c.fact).where(_facts.c.session == stored(session_id), where)
        return list(_decoded(self._connection.execute(query.order_by(*order).limit(limit)).scalars()))

    def _facts_where(self, keys: Iterable[str], column: Any, *conditions: Any) -> list[ConversationRecord]:
        texts = self._all(keys, lambda some: select(_facts.c.fact).where(column.in_(some), *conditions))
        return list(_decoded(texts))

    def _all(self, keys: Iterable[str], query: Callable[[list[str]], Any]) -> list[Any]:
        found: list[Any] = []
        for some in in_parts(keys):
            found += self._connection.execute(query(some)).scalars().all()
        return found


def _within(table: Any, from_ns: int, *, to_ns: int, after: Place | None) -> list[Any]:
    conditions = [table.c.at_ns >= within(from_ns), table.c.at_ns < within(to_ns)]
    if after is not None:
        conditions.append(tuple_(table.c.at_ns, table.c.id) > (within(after[0]), stored(after[1])))
    return conditions


def _fact_row(key: str, fact: ConversationRecord) -> dict[str, Any]:
    return {
        "id": key,
        "kind": _KINDS[type(fact)],
        "session": None if fact.session_id is None else stored(fact.session_id),
        "correlation": None if fact.correlation_id is None else stored(fact.correlation_id),
        "person": None if fact.user_id is None else stored(fact.user_id),
        "at_ns": within(fact.at_ns),
        "ends": int(isinstance(fact, Outcome) and fact.ends),
        "fact": codec.encode(fact).decode("ascii"),
    }


def _row_values(row: ConversationRow) -> dict[str, Any]:
    return {
        "timestamp": _EPOCH + timedelta(microseconds=row.at_ns // 1000),
        "cost_usd": None if row.cost_nano_usd is None else row.cost_nano_usd / 1e9,
        **{name: stored(getattr(row, name)) for name in _TEXTS},
        **{name: None if getattr(row, name) is None else stored(getattr(row, name)) for name in _OPEN_TEXTS},
        **{name: getattr(row, name) for name in _AS_THEY_ARE},
    }


def _row_of(row: Any) -> ConversationRow:
    found = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    values: dict[str, Any] = {name: said(found[name]) for name in _TEXTS}
    values.update((name, None if found[name] is None else said(found[name])) for name in _OPEN_TEXTS)
    values.update((name, found[name]) for name in _AS_THEY_ARE)
    return ConversationRow(**values)


def _decoded(texts: Iterable[str | None]) -> Iterable[ConversationRecord]:
    """The facts in these texts, but for those that only a newer version can read."""
    for text in texts:
        if text is not None:
            with suppress(codec.DecodeError):
                record = codec.decode(text.encode("ascii"))
                if isinstance(record, ConversationRecord):
                    yield record


def _usage_in(texts: Iterable[str]) -> list[UsageRecord]:
    found = []
    for text in texts:
        with suppress(codec.DecodeError):
            record = codec.decode(text.encode("ascii"))
            if isinstance(record, UsageRecord):
                found.append(record)
    return found
