"""The ledger's store in SQLite or PostgreSQL.

Exact by one rule: every change happens in a transaction that no other writer runs beside, and
holds everything at once: which records are new, what they add to the sums, and how far into the
journals they go. A transaction that fails changed nothing and may be tried again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DatabaseError

from otel_genapp.ledger import codec
from otel_genapp.ledger.conversations import News
from otel_genapp.ledger.rollup import CALLS_KEPT, Rollup, SessionRollup
from otel_genapp.ledger.sql import conversations, migrations, ranking, retention, schema
from otel_genapp.ledger.sql.applying import apply
from otel_genapp.ledger.sql.cells import MINUTE_NS, cells_between
from otel_genapp.ledger.sql.conversations import SQLConversations
from otel_genapp.ledger.sql.engine import RECORDS, SPANS, Database
from otel_genapp.ledger.sql.gate import Gate
from otel_genapp.ledger.sql.sessions import UNBOUND, Session, id_of, keys_of
from otel_genapp.ledger.sql.spans import SQLSpans
from otel_genapp.ledger.sql.sqlite_file import ReplacedError
from otel_genapp.ledger.sql.statements import Statements
from otel_genapp.ledger.sql.sums import LIMIT, from_row
from otel_genapp.ledger.sql.texts import said, stored
from otel_genapp.ledger.store import NOWHERE, CallPage, RankedPage, SessionPage, Totals, number_in, rank_in
from otel_genapp.records import LLMCall, Record

T = TypeVar("T")
_TRIES = 5
_STILL_S = 2.0
"""How long a fork waits for what is being written."""


class SQLStore:
    """Sessions and totals in one database, shared by all who write to it.

    It is opened with the first use, so that a server may come up later; an error of the database
    comes through as SQLAlchemy raises it, and the next use tries anew.
    """

    write_every_s = 0.25
    tidy_every_s = 30.0

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = Statements(database.dialect)
        self.spans = SQLSpans(database.dialect, self._read, write=partial(self._write, what=SPANS))
        """The store of spans in the same database."""
        self.conversations = SQLConversations(self._read)
        self._begin()
        self._ready = False
        self._made: int | None = None

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._preparing = threading.Lock()
        self._gate = Gate()

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `sqlite:///path` or `postgresql+psycopg://user@host/database`.

        Raises:
            ConfigError: the URL cannot be understood.
            MissingDependencyError: what it needs is not installed.
        """
        return cls(Database(url))

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return self._database.file.path if self._database.file is not None else None

    @property
    def problem(self) -> str:
        """What is wrong with the place of a SQLite database, before it is opened; empty where nothing is."""
        return self._database.file.problem if self._database.file is not None else ""

    def prepare(self) -> None:
        """Make the tables, or bring them to this version; any other use does so too.

        Raises:
            StoreError: a newer version of this package has made them.
        """
        with self._working():
            pass

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        batch = tuple(records)
        if not batch and not through:
            return 0
        try:
            new, news = self._write(partial(self._apply, batch=batch, through=through))
        except DatabaseError as error:
            if self._database.is_damage(error):
                self._made = None  # with this error the caller knows that there will be another one
            raise
        self.conversations.tell(news)
        return new

    def positions(self) -> Mapping[str, int]:
        table = schema.positions
        query = select(table.c.segment, table.c.bytes).where(table.c.gone_at_ns.is_(None))
        return self._read(lambda connection: {row[0]: row[1] for row in connection.execute(query)})

    def forget(self, segments: Iterable[str]) -> None:
        self._write(partial(retention.forget, segments=tuple(segments)))

    def session(self, session_id: str) -> SessionRollup | None:
        def read(connection: Connection) -> SessionRollup | None:
            found = self._session(connection, session_id)
            if found is None:
                return None
            rollup = SessionRollup(
                session_id, found.sums, dict.fromkeys(found.models), dict.fromkeys(found.users)
            )
            rows = self._statements.calls(connection, found.id, before=LIMIT, limit=CALLS_KEPT)
            rollup.newest.extend(reversed(_calls_in(rows)))
            return rollup

        return self._read(read)

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        after = number_in(cursor)
        table = schema.sessions
        query = select(table.c.session_key, table.c.number).where(table.c.session_key != UNBOUND)
        if after is not None:
            query = query.where(table.c.number < after)
        query = query.order_by(table.c.number.desc()).limit(limit + 1)
        # Without a condition it can be read off an index.
        everything = select(func.count()).select_from(table)
        unbound = everything.where(table.c.session_key == UNBOUND)

        def read(connection: Connection) -> SessionPage:
            total, others = (connection.execute(count).scalar_one() for count in (everything, unbound))
            rows = connection.execute(query).all()
            more = len(rows) > limit > 0
            return SessionPage(
                ids=tuple(id_of(row[0]) for row in rows[:limit]),
                total=total - others,
                next=str(rows[limit - 1][1]) if more else None,
            )

        return self._read(read)

    def ranked(self, *, by: str, limit: int, cursor: str | None, search: str = "") -> RankedPage:
        after = rank_in(cursor)
        return self._read(partial(ranking.ranked, by=by, limit=limit, after=after, search=search))

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        number = number_in(cursor)
        before = LIMIT if number is None else number

        def read(connection: Connection) -> CallPage:
            found = self._session(connection, session_id)
            if found is None:
                return CallPage((), None)
            rows = self._statements.calls(connection, found.id, before=before, limit=limit + 1)
            more = len(rows) > limit > 0
            return CallPage(tuple(_calls_in(rows[:limit])), str(rows[limit - 1][0]) if more else None)

        return self._read(read)

    def calls_by_correlation(self, correlation_id: str, *, limit: int) -> tuple[LLMCall, ...]:
        table = schema.records
        # Of a session that was cleared a moment ago there may be records still.
        is_seen = table.c.session.in_(select(schema.sessions.c.id))
        query = (
            select(table.c.number, table.c.record)
            .where(table.c.correlation == stored(correlation_id), table.c.seq == 0, is_seen)
            .order_by(table.c.number.desc())
            .limit(limit)
        )
        rows = self._read(lambda connection: connection.execute(query).all())
        return tuple(_calls_in(rows))

    def clear(self, session_id: str) -> bool:
        def clear(connection: Connection) -> bool:
            was_known = retention.clear(connection, keys_of(session_id))
            return conversations.clear(connection, session_id) or was_known

        was_known = self._write(clear)
        if was_known:
            self._empty_cleared()
        return was_known

    def totals(self, *, from_ns: int | None = None, to_ns: int | None = None) -> Totals:
        # Rounded up at both ends: a minute belongs to where it starts.
        first = None if from_ns is None else -(-from_ns // MINUTE_NS)
        end = None if to_ns is None else -(-to_ns // MINUTE_NS)
        query = select(schema.cells).where(cells_between(first, end))

        def read(connection: Connection) -> Totals:
            overall, without = Rollup(), Rollup()
            by_model: dict[tuple[str, str], Rollup] = {}
            for row in connection.execute(query):
                _, _, provider, model, bound, *_ = row
                sums = from_row(row)
                by_model.setdefault((said(provider), said(model)), Rollup()).merge(sums)
                if not bound:
                    without.merge(sums)
            for sums in by_model.values():
                overall.merge(sums)
            return Totals(overall, by_model, without)

        return self._read(read)

    def active_sessions(self, *, since_ns: int) -> int:
        table = schema.sessions
        query = select(func.count()).where(table.c.last_at_ns >= since_ns, table.c.session_key != UNBOUND)
        return self._read(lambda connection: int(connection.execute(query).scalar_one()))

    def tidy(self, *, before_ns: int, keep_bytes: int | None = None) -> int:
        if keep_bytes is not None:
            oldest_ns = self._read(partial(retention.age_to_keep, keep_bytes=keep_bytes))
            before_ns = max(before_ns, oldest_ns)
        removed = 0
        while some := self._write(partial(retention.remove_sessions, before_ns=before_ns)):
            removed += some
        while self._write(partial(retention.remove_records, before_ns=before_ns)):
            pass
        while self._write(partial(conversations.remove_old, before_ns=before_ns, limit=retention.AT_ONCE)):
            pass
        self._empty_cleared()
        with self._working():
            self._database.shrink()
        return removed

    def close(self) -> None:
        self._database.close()

    def stand_still(self) -> None:
        # SQLite has locks of its own, which nobody would ever release in the child; and a child that inherits
        # what it knows of an open file takes the parent's locks for its own.
        if self._pid != os.getpid():
            self.restart()
        self._gate.shut(_STILL_S)
        self._database.close()

    def go_on(self) -> None:
        self._gate.open()

    def restart(self) -> None:
        self._begin()
        self._database.restart()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Work with the database, which is as it has to be."""
        if self._pid != os.getpid():
            self.restart()
        with self._gate.entered():
            if not (self._ready and self._database.is_current):
                with self._preparing:
                    if not (self._ready and self._database.is_current):
                        self._prepare()
            identity = self._database.identity
            try:
                yield
            except DatabaseError as error:
                # See what is there anew the next time: the tables may be gone, or the file be damaged.
                self._database.set_aside(error, identity=identity)
                self._ready = False
                raise

    def _prepare(self) -> None:
        for _ in range(_TRIES):
            self._database.renew()
            try:
                with self._database.reading() as connection:
                    made = migrations.current(connection)
                if made is None:
                    with self._database.writing() as connection:
                        made = migrations.prepare(connection)
            except ReplacedError:
                continue
            except DatabaseError as error:
                aside = self._database.set_aside(error, identity=self._database.identity)
                if not aside and self._database.is_current:
                    raise
                continue
            if not self._database.is_current:
                continue  # what was read is another file than the one that was found
            if self._made is None:
                self._made = made
            self._ready = True
            return
        raise OSError("the store's file was damaged again as soon as it was made anew")

    def _apply(
        self, connection: Connection, *, batch: tuple[Record, ...], through: Mapping[str, int]
    ) -> tuple[int, News]:
        meta = self._statements.meta(connection)
        migrations.require_known(meta["version"])
        if through and meta["made"] != self._made:
            # What came before this part may be in the old one only: positions say where to begin again.
            self._made = meta["made"]
            raise OSError("the store is another one than before: the journals have to be read again")
        return apply(
            connection,
            batch,
            statements=self._statements,
            through=through,
            meta=meta,
            repeat_ns=self.conversations.repeat_ns,
        )

    def _session(self, connection: Connection, session_id: str) -> Session | None:
        keys = keys_of(session_id)
        found = {row[1]: row for row in self._statements.sessions(connection, keys)}
        return next((Session.of_row(found[key]) for key in keys if key in found), None)

    def _empty_cleared(self) -> None:
        while self._write(retention.empty_cleared):
            pass

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._working(), self._database.reading() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T], *, what: int = RECORDS) -> T:
        with self._working(), self._database.writing(what) as connection:
            return work(connection)


def _calls_in(rows: Sequence[Any]) -> list[LLMCall]:
    """The calls in rows of number and record, but for those that only a newer version can read."""
    calls = []
    for _, text in rows:
        with suppress(codec.DecodeError):
            record = codec.decode(text.encode("ascii"))
            if isinstance(record, LLMCall):
                calls.append(record)
    return calls
