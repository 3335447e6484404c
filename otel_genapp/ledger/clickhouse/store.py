"""The ledger's store in ClickHouse.

Exact by one rule: rows are added, never changed, and told apart by what they identify before they are
summed. So every write may be repeated, by anybody and in any order, and adds up to the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from otel_genapp import semconv
from otel_genapp.ledger.clickhouse import applying, retention
from otel_genapp.ledger.clickhouse.living import (
    IN_SESSION,
    Cursor,
    Session,
    active_since,
    arrivals_of,
    calls_of,
    page_of,
    session_of,
)
from otel_genapp.ledger.clickhouse.preparing import prepare, require_current, require_known
from otel_genapp.ledger.clickhouse.rows import UNBOUND, hour_of, keyed, said, session_key, within
from otel_genapp.ledger.clickhouse.schema import DROPPED, META, POSITIONS, VERSION
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.clickhouse.sums import sums_of, sums_query
from otel_genapp.ledger.rollup import CALLS_KEPT, Rollup, SessionRollup
from otel_genapp.ledger.store import NOWHERE, CallPage, SessionPage, Totals
from otel_genapp.records import Record

DIFFERENT_MODELS = 500
"""Past so many, the sums of further models are shown as one."""
_MINUTE_NS = 60_000_000_000
_POSITIONS = f"SELECT segment, max(bytes) FROM {POSITIONS.name} GROUP BY segment HAVING max(gone_at) = toDateTime(0, 'UTC')"  # noqa: S608 - our own name
_SESSION_SUMS = sums_query(where=IN_SESSION)
_BY_MODEL = {"provider": "provider", "model": "model", "bound": f"session != unhex('{UNBOUND.hex()}')"}


class ClickHouseStore:
    """Sessions and totals in one ClickHouse database, shared by all who write to it.

    It is opened with the first use, so that a server may come up later; an error of the server comes
    through as clickhouse-connect raises it, and the next use tries anew.
    """

    # Few large inserts: each makes files that have to be merged, and to see what is old reads all sessions.
    write_every_s = 1.0
    tidy_every_s = 300.0

    def __init__(self, server: Server, *, reads_only: bool = False) -> None:
        self._server = server
        self._reads_only = reads_only
        self._made: int | None = None
        self._on_cluster = False
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._preparing = threading.Lock()
        self._applying = threading.Lock()
        self._ready = False

    @classmethod
    def open(cls, url: str, *, reads_only: bool = False) -> Self:
        """The store at `clickhouse://user:password@host:8123/database`.

        With `?secure=true` it is TLS on port 8443; `verify=false` and `ca_cert=/path` go with that.
        One that `reads_only` makes no tables, and raises StoreError where there are none.

        Raises:
            ConfigError: the URL cannot be understood.
            MissingDependencyError: what it needs is not installed.
        """
        return cls(Server(url), reads_only=reads_only)

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
        self._check_process()
        with self._applying, self._working() as server:
            new = 0
            for part in applying.in_parts(keyed(batch)):
                found = applying.look_up(server, part)
                self._require_same(found.meta, positioned=bool(through))
                first = max(found.meta["now"], self._number)
                new += applying.add(server, part, found=found, first_number=first)
                self._number = first + len(part)
            applying.go_through(server, through)
            return new

    def positions(self) -> Mapping[str, int]:
        with self._working() as server:
            return dict(server.rows(_POSITIONS))

    def forget(self, segments: Iterable[str]) -> None:
        now_s = int(time.time())
        with self._working() as server:
            server.insert(POSITIONS, ((segment, 0, now_s) for segment in segments))

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        before = Cursor.read(cursor)
        with self._working() as server:
            session = _session(server, session_id)
            if session is None:
                return CallPage((), None)
            calls = calls_of(server, session, limit=limit + 1, cursor=before)
        more = len(calls) > limit > 0
        return CallPage(tuple(call for _, call in calls[:limit]), str(calls[limit - 1][0]) if more else None)

    def session(self, session_id: str) -> SessionRollup | None:
        with self._working() as server:
            session = _session(server, session_id)
            if session is None:
                return None
            rollup = SessionRollup(
                session_id, Rollup(), dict.fromkeys(session.models), dict.fromkeys(session.users)
            )
            for row in server.rows(_SESSION_SUMS, session.where):
                rollup.sums.merge(sums_of(row))
            newest = calls_of(server, session, limit=CALLS_KEPT, cursor=Cursor())
            rollup.newest.extend(call for _, call in reversed(newest))
            return rollup

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        before = Cursor.read(cursor)
        with self._working() as server:
            return page_of(server, limit=limit, cursor=before)

    def arrivals(self, *, after: str | None, limit: int) -> CallPage:
        place = None if after is None else Cursor.read(after)
        with self._working() as server:
            calls, end = arrivals_of(server, after=place, limit=limit)
        return CallPage(tuple(calls), str(end))

    def clear(self, session_id: str) -> bool:
        with self._working() as server:
            found = [session for key in _keys(session_id) if (session := session_of(server, key)) is not None]
            if found:
                now_us = applying.look_up(server).meta["now"]
                lives = [(session.key, session.epoch) for session in found]
                retention.end_lives(server, lives, now_us=now_us)
            for session in found:
                retention.remove_session(self._removal(server), session)
        return bool(found)

    def totals(self, *, from_ns: int | None = None, to_ns: int | None = None) -> Totals:
        query = sums_query(where=_between(from_ns, to_ns), by=_BY_MODEL)
        overall, without = Rollup(), Rollup()
        by_model: dict[tuple[str, str], Rollup] = {}
        with self._working() as server:
            rows = server.rows(query)
        for provider, name, bound, *rest in rows:
            sums = sums_of(rest)
            model = (said(provider), said(name))
            if model not in by_model and len(by_model) >= DIFFERENT_MODELS:
                model = (model[0], semconv.OVERFLOW)
            by_model.setdefault(model, Rollup()).merge(sums)
            overall.merge(sums)
            if not bound:
                without.merge(sums)
        return Totals(overall, by_model, without)

    def active_sessions(self, *, since_ns: int) -> int:
        with self._working() as server:
            return active_since(server, within(since_ns))

    def tidy(self, *, before_ns: int, keep_bytes: int | None = None) -> int:
        before_ns = within(before_ns)
        with self._working() as server:
            old_ns = retention.start_of_day(before_ns)
            if keep_bytes is not None:
                cutoff_ns = retention.age_to_keep(server, keep_bytes)
                before_ns, old_ns = max(before_ns, cutoff_ns), max(old_ns, cutoff_ns)
            meta = applying.look_up(server).meta
            ended = retention.end_aged(server, before_ns, now_us=meta["now"])
            retention.hide_old(server, before_ns, hidden_before_ns=meta.get(DROPPED, 0))
            retention.remove_old(server, old_ns, removal=self._removal(server))
            return ended

    def try_writing(self) -> None:
        """Write a row that is there already, and so changes no answer.

        Raises:
            Exception: what the server says against it.
        """
        with self._working() as server:
            server.insert(META, [("version", VERSION)])

    def stand_still(self) -> None:
        """Nothing has to: a child makes a client and locks of its own."""

    def go_on(self) -> None:
        """Nothing stood still."""

    def restart(self) -> None:
        self._begin()
        self._server.restart()

    def close(self) -> None:
        self._server.close()

    @contextmanager
    def _working(self) -> Iterator[Server]:
        """Work with the server, whose tables are as they have to be."""
        self._check_process()
        if not self._ready:
            with self._preparing:
                if not self._ready:
                    self._prepare()
        try:
            yield self._server
        except BaseException:
            self._ready = False  # see what is there anew the next time: the tables may be gone
            raise

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self.restart()

    def _prepare(self) -> None:
        if self._reads_only:
            require_current(self._server)
            self._ready = True
            return
        made, self._on_cluster = prepare(self._server)
        if self._made is None:
            self._made = made
        self._ready = True

    def _require_same(self, meta: Mapping[str, int], *, positioned: bool) -> None:
        require_known(meta.get("version", 0))
        if meta.get("version") != VERSION or "made" not in meta:
            raise OSError("the store's tables were changed meanwhile")
        if positioned and meta["made"] != self._made:
            # What came before this part may be in the old ones only: positions say where to begin again.
            self._made = meta["made"]
            raise OSError("the store is another one than before: the journals have to be read again")

    def _removal(self, server: Server) -> retention.Removal:
        return retention.Removal(server, on_cluster=self._on_cluster)


def _keys(session_id: str) -> tuple[bytes, ...]:
    """The keys of a session id, the likeliest first."""
    key = session_key(session_id)
    return (key, UNBOUND) if session_id == semconv.NO_SESSION else (key,)


def _session(server: Server, session_id: str) -> Session | None:
    found = (session_of(server, key) for key in _keys(session_id))
    return next((session for session in found if session is not None), None)


def _between(from_ns: int | None, to_ns: int | None) -> str:
    """The condition for records of the whole minutes that start in a range."""
    conditions = []
    # Rounded up at both ends: a minute belongs to where it starts.
    if from_ns is not None:
        first_ns = within(-(-from_ns // _MINUTE_NS) * _MINUTE_NS)
        conditions += [f"at_ns >= {first_ns}", f"hour >= toDateTime({hour_of(first_ns)}, 'UTC')"]
    if to_ns is not None:
        end_ns = within(-(-to_ns // _MINUTE_NS) * _MINUTE_NS)
        conditions += [f"at_ns < {end_ns}", f"hour <= toDateTime({hour_of(end_ns)}, 'UTC')"]
    return " AND ".join(conditions) or "1"
