"""The ledger's store in SQLite or PostgreSQL.

Exact by one rule: every change happens in a transaction that no other writer runs beside, and
holds everything at once: which records are new, what they add to the sums, and how far into the
journals they go. A transaction that fails changed nothing and may be tried again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Self, TypeVar

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from otel_genapp import semconv
from otel_genapp.ledger import codec
from otel_genapp.ledger.rollup import CALLS_KEPT, Rollup, SessionRollup
from otel_genapp.ledger.sql import folding, schema
from otel_genapp.ledger.sql.engine import Database
from otel_genapp.ledger.sql.folding import UNBOUND, at_ns, in_parts, key_of, plain
from otel_genapp.ledger.sql.sums import from_row
from otel_genapp.ledger.store import NOWHERE, CallPage, SessionPage, Totals, number_in
from otel_genapp.records import LLMCall, Record

T = TypeVar("T")
_MINUTE_NS = 60_000_000_000
_TIDY_AT_ONCE = 500


class SQLStore:
    """Sessions and totals in one database, shared by all who write to it.

    It is opened with the first use, so that a server may come up later; an error of the database
    comes through as SQLAlchemy raises it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ready = False
        self._preparing = threading.Lock()

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `sqlite:///path` or `postgresql+psycopg://user@host/database`.

        Raises:
            ConfigError: the URL cannot be understood.
            MissingDependencyError: what it needs is not installed.
        """
        return cls(Database(url))

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        batch: dict[tuple[str, int], Record] = {}
        for record in records:
            batch.setdefault((plain(record.call_id), record.seq), record)
        if not batch and not through:
            return 0
        return self._write(lambda connection: _apply(connection, tuple(batch.values()), through=through))

    def positions(self) -> Mapping[str, int]:
        return self._read(
            lambda connection: {
                row.segment: row.bytes for row in connection.execute(select(schema.positions))
            }
        )

    def forget(self, segments: Iterable[str]) -> None:
        names = list(segments)
        self._write(
            lambda connection: [
                connection.execute(delete(schema.positions).where(schema.positions.c.segment.in_(some)))
                for some in in_parts(names)
            ]
        )

    def session(self, session_id: str) -> SessionRollup | None:
        def read(connection: Connection) -> SessionRollup | None:
            for key in _keys(session_id):
                found = _session(connection, key, session_id=session_id)
                if found is not None:
                    return found
            return None

        return self._read(read)

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        after = number_in(cursor)
        table = schema.sessions

        def read(connection: Connection) -> SessionPage:
            bound = table.c.session_key != UNBOUND
            total = connection.execute(select(func.count()).select_from(table).where(bound)).scalar_one()
            query = select(table.c.session_key, table.c.number).where(bound)
            if after is not None:
                query = query.where(table.c.number < after)
            rows = connection.execute(query.order_by(table.c.number.desc()).limit(limit + 1)).all()
            page = rows[:limit]
            return SessionPage(
                ids=tuple(row.session_key[1:] for row in page),
                total=total,
                next=str(page[-1].number) if len(rows) > limit and page else None,
            )

        return self._read(read)

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        before = number_in(cursor)

        def read(connection: Connection) -> CallPage:
            for key in _keys(session_id):
                found = _calls(connection, key, limit=limit + 1, before=before)
                if found:
                    page = found[:limit]
                    more = len(found) > limit
                    return CallPage(tuple(call for _, call in page), str(page[-1][0]) if more else None)
            return CallPage((), None)

        return self._read(read)

    def clear(self, session_id: str) -> bool:
        return self._write(lambda connection: any(_clear(connection, key) for key in _keys(session_id)))

    def totals(self, *, from_ns: int | None = None, to_ns: int | None = None) -> Totals:
        table = schema.models if from_ns is None and to_ns is None else schema.minutes
        query = select(table)
        if from_ns is not None:  # rounded up at both ends: a minute belongs to where it starts
            query = query.where(schema.minutes.c.minute >= -(-from_ns // _MINUTE_NS))
        if to_ns is not None:
            query = query.where(schema.minutes.c.minute < -(-to_ns // _MINUTE_NS))

        def read(connection: Connection) -> Totals:
            overall, without = Rollup(), Rollup()
            by_model: dict[tuple[str, str], Rollup] = {}
            for row in connection.execute(query).mappings():
                sums = from_row(row)
                overall.merge(sums)
                by_model.setdefault((row["provider"], row["model"]), Rollup()).merge(sums)
                if not row["bound"]:
                    without.merge(sums)
            return Totals(overall, by_model, without)

        return self._read(read)

    def active_sessions(self, *, since_ns: int) -> int:
        table = schema.sessions
        query = select(func.count()).where(table.c.last_at_ns >= since_ns, table.c.session_key != UNBOUND)
        return self._read(lambda connection: int(connection.execute(query).scalar_one()))

    def tidy(self, *, before_ns: int) -> int:
        table = schema.sessions
        old = (
            select(table.c.session_key)
            .where(table.c.last_at_ns < before_ns, table.c.session_key != UNBOUND)
            .limit(_TIDY_AT_ONCE)
        )
        removed = 0
        while True:
            keys = self._read(lambda connection: connection.execute(old).scalars().all())
            if not keys:
                break
            removed += self._write(partial(_remove, keys=keys, before_ns=before_ns))
        self._write(
            lambda connection: connection.execute(
                delete(schema.records).where(
                    schema.records.c.at_ns < before_ns,
                    (schema.records.c.session_key == UNBOUND) | schema.records.c.session_key.is_(None),
                )
            )
        )
        return removed

    def close(self) -> None:
        self._database.close()

    def stand_still(self) -> None:
        self._database.stand_still()

    def go_on(self) -> None:
        self._database.go_on()

    def restart(self) -> None:
        self._preparing = threading.Lock()
        self._database.restart()

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._prepare()
        with self._database.reading() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._prepare()
        with self._database.writing() as connection:
            return work(connection)

    def _prepare(self) -> None:
        if self._ready:
            return
        with self._preparing:
            for _ in range(2):
                try:
                    with self._database.writing() as connection:
                        schema.prepare(connection)
                    self._ready = True
                    return
                except DatabaseError as error:
                    if not self._database.set_aside(error):
                        raise
        raise OSError("the store's file was damaged again as soon as it was made anew")


def _keys(session_id: str) -> tuple[str, ...]:
    key = key_of(session_id)
    return (key, UNBOUND) if session_id == semconv.NO_SESSION else (key,)


def _apply(connection: Connection, records: Sequence[Record], *, through: Mapping[str, int]) -> int:
    new = _new_ones(connection, records)
    if new:
        last = connection.execute(
            select(schema.meta.c.value).where(schema.meta.c.name == "number")
        ).scalar_one()
        numbered = list(enumerate(new, last + 1))
        connection.execute(
            insert(schema.records),
            [
                {
                    "call_id": plain(record.call_id),
                    "seq": record.seq,
                    "number": number,
                    "session_key": key_of(record.session_id),
                    "at_ns": at_ns(record),
                    "record": codec.encode(record).decode("ascii"),
                }
                for number, record in numbered
            ],
        )
        folding.add(connection, numbered)
        connection.execute(
            update(schema.meta).where(schema.meta.c.name == "number").values(value=numbered[-1][0])
        )
    if through:
        _set_positions(connection, through)
    return len(new)


def _new_ones(connection: Connection, records: Sequence[Record]) -> list[Record]:
    table = schema.records
    known: set[tuple[str, int]] = set()
    for some in in_parts(sorted({plain(record.call_id) for record in records})):
        rows = connection.execute(select(table.c.call_id, table.c.seq).where(table.c.call_id.in_(some)))
        known.update((row.call_id, row.seq) for row in rows)
    return [record for record in records if (plain(record.call_id), record.seq) not in known]


def _set_positions(connection: Connection, through: Mapping[str, int]) -> None:
    table = schema.positions
    rows = connection.execute(select(table).where(table.c.segment.in_(list(through))))
    before = {row.segment: row.bytes for row in rows}
    connection.execute(delete(table).where(table.c.segment.in_(list(through))))
    connection.execute(
        insert(table),
        [{"segment": name, "bytes": max(end, before.get(name, 0))} for name, end in through.items()],
    )


def _session(connection: Connection, key: str, *, session_id: str) -> SessionRollup | None:
    table = schema.sessions
    row = connection.execute(select(table).where(table.c.session_key == key)).mappings().first()
    if row is None:
        return None
    found = SessionRollup(session_id, from_row(row))
    found.models.update(dict.fromkeys(json.loads(row["models"])))
    found.users.update(dict.fromkeys(json.loads(row["users"])))
    found.newest.extend(call for _, call in reversed(_calls(connection, key, limit=CALLS_KEPT, before=None)))
    return found


def _calls(connection: Connection, key: str, *, limit: int, before: int | None) -> list[tuple[int, LLMCall]]:
    """The newest calls with their numbers, newest first. Every call is number 0 of its records."""
    table = schema.records
    query = select(table.c.number, table.c.record).where(table.c.session_key == key, table.c.seq == 0)
    if before is not None:
        query = query.where(table.c.number < before)
    found = []
    for row in connection.execute(query.order_by(table.c.number.desc()).limit(limit)):
        record = codec.decode(row.record.encode("ascii"))
        if isinstance(record, LLMCall):
            found.append((row.number, record))
    return found


def _clear(connection: Connection, key: str) -> bool:
    gone = connection.execute(delete(schema.sessions).where(schema.sessions.c.session_key == key)).rowcount
    connection.execute(
        update(schema.records)
        .where(schema.records.c.session_key == key)
        .values(session_key=None, record=None)
    )
    return gone > 0


def _remove(connection: Connection, *, keys: Sequence[str], before_ns: int) -> int:
    """Remove these sessions and their records, but for those that had a call meanwhile."""
    table = schema.sessions
    removed = 0
    for some in in_parts(keys):
        still_old = (
            connection.execute(
                select(table.c.session_key).where(
                    table.c.session_key.in_(some), table.c.last_at_ns < before_ns
                )
            )
            .scalars()
            .all()
        )
        connection.execute(delete(table).where(table.c.session_key.in_(still_old)))
        connection.execute(delete(schema.records).where(schema.records.c.session_key.in_(still_old)))
        removed += len(still_old)
    return removed
