"""The source that reads a store, with the journals of a state directory or without."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from otel_genapp.cli.source import Call, Calls, Listing, Session
from otel_genapp.cli.writing import note
from otel_genapp.config import without_userinfo
from otel_genapp.context import clean_id
from otel_genapp.errors import ConfigError, StoreError
from otel_genapp.ledger.looking import Onlooker, ReadableStore, View, database_url, open_to_look
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.read.sessions import SessionSummary, call_dict
from otel_genapp.records import LLMCall, Record
from otel_genapp.state_directory import StateDirectory

ARRIVALS_AT_ONCE = 500
"""Calls read at once while following."""


class StoredSource:
    """Reads from outside: no telemetry is started, and nothing is written or removed."""

    limits = ""

    def __init__(self, onlooker: Onlooker, shown: str) -> None:
        self.shown = shown
        self._onlooker = onlooker
        self._waiting = 0

    @classmethod
    def of_store(cls, url: str, prices: str) -> Self:
        """The store at a URL: what journals hold beyond it is not seen."""
        shown = without_userinfo(url)
        with _told(shown):
            store = open_to_look(url)
        return cls(Onlooker(lambda: store, None, price=_prices(prices)), shown)

    @classmethod
    def of_state_directory(cls, state: StateDirectory, *, store: str, prices: str) -> Self:
        """A state directory's journals, with the store they go to: the database in it, or the one named."""

        def find() -> ReadableStore | None:
            url = store or database_url(state)
            return open_to_look(url) if url else None

        return cls(Onlooker(find, state, price=_prices(prices)), str(state.path))

    def sessions(self, *, limit: int, cursor: str | None) -> Listing:
        def read(view: View) -> Listing:
            page = view.sessions(limit=limit, cursor=cursor)
            found = (view.session(session_id) for session_id in page.ids)
            shown = [SessionSummary(each).as_dict() for each in found if each is not None]
            self._waiting = len(view.waiting)
            return Listing(shown, page.total, page.next)

        with _told(self.shown):
            return self._onlooker.look(read)

    def session(self, session_id: str) -> Session | None:
        with _told(self.shown):
            found = self._onlooker.look(lambda view: view.session(clean_id(session_id) or ""))
        return SessionSummary(found).as_dict() if found is not None else None

    def calls(self, session_id: str, *, limit: int) -> Sequence[Call]:
        with _told(self.shown):
            found = self._onlooker.look(lambda view: view.calls(clean_id(session_id) or "", limit=limit))
        return [_shown(call) for call in found]

    def newest(self, *, limit: int, session_id: str | None) -> Calls:
        def read(view: View) -> Calls:
            # The place first: what comes in while this is read comes again rather than never.
            page = self._onlooker.arrivals(after=None, limit=max(limit, 1))
            calls = [call for call in view.waiting if isinstance(call, LLMCall)]
            if session_id is None:
                calls = [*page.calls, *calls]
            else:
                calls = list(reversed(view.calls(clean_id(session_id) or "", limit=limit)))
            return Calls([_shown(call) for call in calls[-limit:]] if limit else [], page.next)

        with _told(self.shown):
            return self._onlooker.look(read)

    def since(self, place: object, *, session_id: str | None) -> Calls:
        after = place if isinstance(place, str) else None
        wanted = clean_id(session_id) if session_id is not None else None
        with _told(self.shown):
            page = self._onlooker.arrivals(after=after, limit=ARRIVALS_AT_ONCE)
        calls = map(_shown, page.calls)
        return Calls([call for call in calls if wanted in {None, call["session_id"]}], page.next)

    def notes(self) -> Iterator[str]:
        if self._waiting:
            yield (
                f"{self._waiting} records are in journals and not in the store yet; they are counted here, "
                "and an application that runs brings them in"
            )

    def close(self) -> None:
        with _told(self.shown):
            self._onlooker.close()


def _prices(path: str) -> Callable[[Record], Record]:
    """What prices records that are in no store yet: nothing, where the application would not start either."""
    try:
        return Prices(path).priced
    except ConfigError as error:
        note(f"{error}; calls that are in no store yet are shown without a price")
        return lambda record: record


def _shown(call: LLMCall) -> Call:
    return {"session_id": call.session_id or "no_session", **call_dict(call)}


@contextmanager
def _told(shown: str) -> Iterator[None]:
    """Errors of databases are told in one line, without what their drivers say: it may hold a password."""
    try:
        yield
    except errors_of_stores() as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"{shown} cannot be read: {type(cause).__name__}") from error


def errors_of_stores() -> tuple[type[Exception], ...]:
    """What a database raises when it cannot do what it was asked; ClickHouse's, if its client is loaded."""
    module = sys.modules.get("clickhouse_connect.driver.exceptions")
    return (SQLAlchemyError, OSError, *((module.ClickHouseError,) if module is not None else ()))
