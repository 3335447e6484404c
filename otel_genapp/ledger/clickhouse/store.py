"""The ledger's store in ClickHouse.

Exact by one rule: rows are added, never changed, and told apart by what they identify before they are
summed. So every write may be repeated, by anybody and in any order, and adds up to the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from otel_genapp import semconv
from otel_genapp.ledger.clickhouse import applying, conversations, retention
from otel_genapp.ledger.clickhouse.facts import KeyedFact, keyed_facts
from otel_genapp.ledger.clickhouse.living import (
    IN_SESSION,
    Cursor,
    Session,
    active_since,
    calls_by_correlation,
    calls_of,
    page_of,
    session_of,
)
from otel_genapp.ledger.clickhouse.preparing import prepare, require_known
from otel_genapp.ledger.clickhouse.ranking import ranked
from otel_genapp.ledger.clickhouse.rows import (
    UNBOUND,
    Keyed,
    correlation_key,
    hour_of,
    keyed,
    said,
    session_keys,
    within,
)
from otel_genapp.ledger.clickhouse.schema import DROPPED, POSITIONS, VERSION
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.clickhouse.spans import FleetSpans
from otel_genapp.ledger.clickhouse.sums import sums_of, sums_query
from otel_genapp.ledger.conversations import News
from otel_genapp.ledger.rollup import CALLS_KEPT, Rollup, SessionRollup
from otel_genapp.ledger.store import NOWHERE, CallPage, RankedPage, SessionPage, Totals
from otel_genapp.records import LLMCall, Record, parted

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

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: int | None = None
        self._on_cluster = False
        self._number = 0
        self.conversations = conversations.ClickHouseConversations(self._working)
        self.spans = FleetSpans(self._working)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._preparing = threading.Lock()
        self._applying = threading.Lock()
        self._ready = False

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `clickhouse://user:password@host:8123/database`.

        With `?secure=true` it is TLS on port 8443; `verify=false` and `ca_cert=/path` go with that.

        Raises:
            ConfigError: the URL cannot be understood.
            MissingDependencyError: what it needs is not installed.
        """
        return cls(Server(url))

    def prepare(self) -> None:
        """Make the tables, or bring them to this version; any other use does so too.

        Raises:
            StoreError: a newer version of this package has made them.
        """
        with self._working():
            pass

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        usage, facts = parted(records)
        if not usage and not facts and not through:
            return 0
        self._check_process()
        new, news = 0, list[News]()
        try:
            with self._applying, self._working() as server:
                for part, of_conversations in applying.in_parts(keyed(usage), keyed_facts(facts)):
                    found = applying.look_up(server, part, facts=of_conversations)
                    self._require_same(found.meta, positioned=bool(through))
                    first = max(found.meta["now"], self._number)
                    self._number = first + len(part) + len(of_conversations)
                    new += applying.add(server, part, found=found, first_number=first)
                    first += len(part)
                    news.append(
                        self._converse(server, part, facts=of_conversations, found=found, first_number=first)
                    )
                applying.go_through(server, through)
        finally:
            for one in news:  # whatever comes after them fails: what is stored is not told again
                self.conversations.tell(one)
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

    def calls_by_correlation(self, correlation_id: str, *, limit: int) -> tuple[LLMCall, ...]:
        with self._working() as server:
            return calls_by_correlation(server, correlation_key(correlation_id), limit=limit)

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

    def ranked(self, *, by: str, limit: int, cursor: str | None, search: str = "") -> RankedPage:
        with self._working() as server:
            return ranked(server, by=by, limit=limit, cursor=cursor, search=search)

    def clear(self, session_id: str) -> bool:
        with self._working() as server:
            now_us = applying.look_up(server).meta["now"]
            removal = self._removal(server)
            was_known = conversations.clear(server, session_id, now_us=now_us, removal=removal)
            found = [
                session
                for key in session_keys(session_id)
                if (session := session_of(server, key)) is not None
            ]
            if found:
                lives = [(session.key, session.epoch) for session in found]
                retention.end_lives(server, lives, now_us=now_us)
            for session in found:
                retention.remove_session(removal, session)
        return was_known or bool(found)

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

    def stand_still(self) -> None:
        """Nothing has to: a child makes a client and locks of its own."""

    def go_on(self) -> None:
        """Nothing stood still."""

    def restart(self) -> None:
        self._begin()
        self._server.restart()

    def close(self) -> None:
        self._server.close()

    def _converse(
        self,
        server: Server,
        part: Sequence[Keyed],
        *,
        facts: Sequence[KeyedFact],
        found: applying.Found,
        first_number: int,
    ) -> News:
        """Take facts in, and what new usage changes of conversations."""
        dropped_ns = found.meta.get(DROPPED, 0)
        # What is older than what retention has dropped is unseen, and would be new each time it comes.
        facts = [item for item in facts if item.fact.at_ns >= dropped_ns]
        if not facts and not (part and found.has_messages):
            return News()
        new = applying.add_facts(server, facts, found=found, first_number=first_number)
        return conversations.take(
            server,
            [item.fact for item in facts],
            new=new,
            usage=[item.record for item in part],
            repeat_ns=self.conversations.repeat_ns,
        )

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
        made, self._on_cluster = prepare(self._server)
        if self._made is None:
            self._made = made
        self.spans.look(self._server)
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


def _session(server: Server, session_id: str) -> Session | None:
    found = (session_of(server, key) for key in session_keys(session_id))
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
