"""A look at a ledger from outside: exact, and without a trace in it.

Whoever reads as a part of the application drains the journals into the store. An onlooker must not:
it does not know the application's prices, and what it brought in would stay without. So living
workers are given a moment to bring in what they wrote, which they do by themselves, and what nobody
brings in (their journals, and those of the dead) is added up beside the store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote

from otel_genapp.config import CLICKHOUSE_STORE, MEMORY_STORE, without_userinfo
from otel_genapp.errors import ConfigError, StoreError
from otel_genapp.ledger import codec
from otel_genapp.ledger.journal import SEGMENT_START
from otel_genapp.ledger.opening import DATABASE
from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.segments import Segment, read, segments
from otel_genapp.ledger.store import NOWHERE, Arrivals, CallPage, SessionPage, Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.records import LLMCall, Record
from otel_genapp.semconv import NO_SESSION
from otel_genapp.state_directory import StateDirectory

T = TypeVar("T")

SETTLE_S = 1.0
"""How long living workers are given, beside the time in which they let records gather."""
_TRIES = 20
_PAUSE_S = 0.02
_PAGE = 500
_WAITING = "journal:"


class ReadableStore(Store, Arrivals, Protocol):
    """A store that several processes share."""

    def try_writing(self) -> None:
        """Write what changes nothing.

        Raises:
            Exception: what the database says against it.
        """


class View:
    """What there is at one moment: a store's records, and those that are still on their way to it."""

    def __init__(self, store: Store | None, waiting: Sequence[Record]) -> None:
        self.waiting = waiting
        self._store = store
        self._beside = MemoryStore(session_limit=len(waiting) + 1)
        self._beside.apply(waiting)

    def session(self, session_id: str) -> SessionRollup | None:
        """One session's sums; None when it is unknown."""
        found = self._store.session(session_id) if self._store is not None else None
        more = self._beside.session(session_id)
        if found is None or more is None:
            return found or more
        found.sums.merge(more.sums)
        found.models.update(more.models)
        found.users.update(more.users)
        found.newest.extend(more.newest)
        return found

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        """A page of session ids, those with calls on their way first.

        Raises:
            ValueError: the cursor is not one that a page gave.
        """
        ids: tuple[str, ...] = ()
        beside = set(self._beside.sessions(limit=len(self.waiting) + 1, cursor=None).ids)
        if cursor is None or cursor.startswith(_WAITING):
            page = self._beside.sessions(
                limit=limit, cursor=None if cursor is None else cursor.removeprefix(_WAITING)
            )
            if page.next is not None:
                return SessionPage(page.ids, self._count(beside), f"{_WAITING}{page.next}")
            ids, cursor = page.ids, None
        while self._store is not None:
            # One more than is missing, so that a page that ends here says so.
            page = self._store.sessions(limit=max(limit - len(ids), 1), cursor=cursor)
            if len(ids) >= limit:
                return SessionPage(ids, self._count(beside), f"{_WAITING}0" if page.ids else None)
            ids += tuple(each for each in page.ids if each not in beside)
            cursor = page.next
            if cursor is None or len(ids) >= limit:
                return SessionPage(ids, self._count(beside), cursor)
        return SessionPage(ids, len(beside), None)

    def calls(self, session_id: str, *, limit: int) -> list[LLMCall]:
        """A session's kept calls, the newest first."""
        own = session_id if session_id != NO_SESSION else None
        found = [
            record
            for record in reversed(self.waiting)
            if isinstance(record, LLMCall) and record.session_id in {session_id, own}
        ]
        cursor: str | None = None
        while self._store is not None and len(found) < limit:
            page = self._store.history(session_id, limit=min(limit - len(found), _PAGE), cursor=cursor)
            found += page.calls
            cursor = page.next
            if cursor is None:
                break
        return found[:limit]

    def _count(self, beside: set[str]) -> int:
        if self._store is None:
            return len(beside)
        new = sum(self._store.session(session_id) is None for session_id in beside)
        return self._store.sessions(limit=1, cursor=None).total + new


class Onlooker:
    """Reads a store and, where there is a state directory, the journals in it.

    `find` opens the store, or says None while there is none yet; `price` is asked for records that are
    in no store. In ClickHouse, which has no transactions, what a worker wrote that was killed before
    it noted so counts twice here until another worker has read its journal.
    """

    def __init__(
        self,
        find: Callable[[], ReadableStore | None],
        state: StateDirectory | None,
        *,
        price: Callable[[Record], Record],
    ) -> None:
        self._find = find
        self.store: ReadableStore | None = None
        self._state = state
        self._price = price

    def look(self, work: Callable[[View], T]) -> T:
        """What `work` finds in a view of everything that was written when this was called.

        Raises:
            Exception: the store's.
            OSError: the ledger never stood still.
        """
        self._open()
        self._settle()
        for _ in range(_TRIES):
            ends = segments(self._state) if self._state is not None else ()
            known = self._positions()
            waiting, read_from = self._waiting(ends, known)
            found = work(View(self.store, waiting))
            if self._is_unchanged(known, read_from):
                return found
        raise OSError("the ledger did not stand still for long enough to be read")

    def arrivals(self, *, after: str | None, limit: int) -> CallPage:
        """See `Arrivals`; none while there is no store."""
        self._open()
        return CallPage((), after) if self.store is None else self.store.arrivals(after=after, limit=limit)

    def _open(self) -> None:
        if self.store is None:
            self.store = self._find()

    def close(self) -> None:
        """Let go of the store."""
        if self.store is not None:
            self.store.close()

    def _positions(self) -> Mapping[str, int]:
        return self.store.positions() if self.store is not None else NOWHERE

    def _settle(self) -> None:
        """Let living workers bring in what they have written so far."""
        if self._state is None or self.store is None:
            return
        deadline = time.monotonic() + SETTLE_S + self.store.write_every_s
        ends = [segment for segment in segments(self._state) if not segment.sealed]
        while time.monotonic() < deadline:
            known = self._positions()
            if all(known.get(segment.name, 0) >= segment.size for segment in ends):
                return
            time.sleep(_PAUSE_S)

    def _waiting(self, ends: Sequence[Segment], known: Mapping[str, int]) -> tuple[list[Record], list[str]]:
        """Records beyond the store's positions in the order of their end, and the segments they are from."""
        records: list[Record] = []
        names = []
        for segment in ends:
            start = known.get(segment.name, 0)
            if start < segment.size:
                names.append(segment.name)
                records += self._records_of(segment, start)
        records.sort(key=lambda record: record.ended_at_ns if isinstance(record, LLMCall) else record.at_ns)
        return records, names

    def _records_of(self, segment: Segment, start: int) -> Iterator[Record]:
        while self._state is not None and start < segment.size:
            part = read(self._state, segment, start=start)
            if part.position <= start:
                return  # the beginning of a record that is being written now
            start = part.position
            for payload in part.payloads:
                with suppress(codec.DecodeError):
                    yield self._price(codec.decode(payload))

    def _is_unchanged(self, known: Mapping[str, int], names: Sequence[str]) -> bool:
        """Whether nobody has brought in meanwhile what was read from these segments."""
        if self.store is None or self._state is None or not names:
            return True
        now = self.store.positions()
        # The files last: a segment that is gone is forgotten by the store too.
        left = set(self._state.names(SEGMENT_START))
        return all(now.get(name, 0) == known.get(name, 0) and name in left for name in names)


def open_to_look(url: str) -> ReadableStore:
    """The store at a URL, which is never made or changed.

    Raises:
        ConfigError: the URL cannot be understood, or nobody else can read what is there.
        MissingDependencyError: what it needs is not installed.
        StoreError: it is a file that is not there, or somebody else's.
    """
    if url == MEMORY_STORE:
        raise ConfigError(f"{MEMORY_STORE} is in the application's own memory; ask its service with --url")
    if url.startswith(CLICKHOUSE_STORE):
        from otel_genapp.ledger.clickhouse import ClickHouseStore

        return ClickHouseStore.open(url, reads_only=True)
    from otel_genapp.ledger.sql import SQLStore

    if url.startswith("sqlite:///"):
        _require_own_file(Path(unquote(url.removeprefix("sqlite:///"))))
    return SQLStore.open(url, reads_only=True)


def database_url(state: StateDirectory) -> str | None:
    """The URL of the SQLite database in a state directory, or None where there is none yet."""
    path = state.path / DATABASE if state.path is not None else None
    return f"sqlite:///{quote(str(path))}" if path is not None and path.exists() else None


def _require_own_file(path: Path) -> None:
    """A file of SQLite is opened by its owner only: others would leave files beside it that lock the owner out."""
    try:
        status = path.stat()
    except OSError as error:
        raise StoreError(
            f"the store sqlite:///{without_userinfo(str(path))} cannot be read: {error.strerror}"
        ) from None
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise StoreError(
            f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}: run this as its owner"
        )
