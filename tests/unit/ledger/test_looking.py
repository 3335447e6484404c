"""A look at a ledger from outside: exact, and nothing is changed by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from otel_genapp.config import read_settings
from otel_genapp.errors import ConfigError, StoreError
from otel_genapp.ledger import codec, looking
from otel_genapp.ledger.journal import Journal, Position
from otel_genapp.ledger.looking import Onlooker, View, database_url, open_to_look
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import SessionPage
from otel_genapp.records import Record
from otel_genapp.state_directory import StateDirectory, open_state_directory
from tests.builders import call


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SETTLE_S", 0.05)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    tmp_path.chmod(0o700)
    return open_state_directory(read_settings({}, app="shop", state_dir=str(tmp_path)))


@pytest.fixture
def journal(state: StateDirectory) -> Iterator[Journal]:
    journal = Journal(state, on_loss=lambda *_: None)
    yield journal
    journal.close()


def written(journal: Journal, *records: Record) -> list[Position | None]:
    places: list[Position | None] = []
    for record in records:
        journal.append(codec.encode(record), then=places.append)
    return places


def stored(state: StateDirectory) -> SQLStore:
    return SQLStore.open(f"sqlite:///{state.path}/ledger.db")


def files(state: StateDirectory) -> dict[str, tuple[int, int, int]]:
    """Name -> mode, owner and size, without those that SQLite keeps while the database is open."""
    assert state.path is not None
    found = {entry.name: entry.stat() for entry in os.scandir(state.path)}
    return {
        name: (status.st_mode, status.st_uid, status.st_size)
        for name, status in found.items()
        if not name.endswith(("-wal", "-shm"))
    }


def unpriced(record: Record) -> Record:
    return record


def test_the_store_and_the_journals_add_up(state: StateDirectory, journal: Journal) -> None:
    """Of a journal only what lies beyond the store's position is added, and all files stay as they are."""
    store = stored(state)
    places = written(journal, call("1"), call("2"), call("3", session_id="s2"), call("4", session_id=None))
    assert places[0] is not None
    store.apply([call("0", session_id="s0"), call("1")], through={places[0][0]: places[0][1]})
    store.close()
    before = files(state)
    url = database_url(state)
    assert url is not None
    onlooker = Onlooker(lambda: open_to_look(url), state, price=unpriced)

    def read(view: View) -> object:
        ids = [view.sessions(limit=10, cursor=None).ids, view.sessions(limit=10, cursor=None).total]
        sums = [view.session(name) for name in ("s0", "s1", "s2", "no_session", "s9")]
        return ids, [found and found.sums.calls for found in sums]

    assert onlooker.look(read) == ([("s2", "s1", "s0"), 3], [1, 2, 1, 1, None])
    assert [each.call_id for each in onlooker.look(lambda view: view.calls("s1", limit=9))] == ["2", "1"]
    onlooker.close()
    assert files(state) == before


def page_of(view: View, *, limit: int, cursor: str | None) -> SessionPage:
    return view.sessions(limit=limit, cursor=cursor)


def test_pages_go_on_from_the_journals_to_the_store(state: StateDirectory, journal: Journal) -> None:
    """Each session is on one page, whatever the size of a page is."""
    store = stored(state)
    store.apply(call(f"a{number}", session_id=f"s{number}") for number in range(6))
    written(journal, *(call(f"b{number}", session_id=f"s{number}") for number in range(4, 9)))
    onlooker = Onlooker(lambda: store, state, price=unpriced)
    for limit in (1, 2, 3, 4, 5, 9, 20):
        ids: list[str] = []
        cursor = None
        while True:
            page = onlooker.look(partial(page_of, limit=limit, cursor=cursor))
            assert (page.total, len(page.ids) <= limit) == (9, True)
            ids += page.ids
            cursor = page.next
            if cursor is None:
                break
        assert ids == [f"s{number}" for number in (8, 7, 6, 5, 4, 3, 2, 1, 0)]
    store.close()


def test_what_is_brought_in_meanwhile_counts_once(state: StateDirectory, journal: Journal) -> None:
    """Where the store takes a journal in while it is looked at, the look begins again."""
    store = stored(state)
    [place] = written(journal, call("1"))
    assert place is not None
    looks: list[int] = []

    def read(view: View) -> int:
        if not looks:
            store.apply([call("1")], through={place[0]: place[1]})
        looks.append(len(view.waiting))
        found = view.session("s1")
        assert found is not None
        return found.sums.calls

    assert Onlooker(lambda: store, state, price=unpriced).look(read) == 1
    assert looks == [1, 0]
    store.close()


def test_journals_without_a_store(state: StateDirectory, journal: Journal) -> None:
    """Before there is a database the journals are all there is, and none is made."""
    written(journal, call("1"))
    assert database_url(state) is None
    found = Onlooker(lambda: None, state, price=unpriced).look(lambda view: view.session("s1"))
    assert found is not None
    assert (found.sums.calls, database_url(state)) == (1, None)


def test_a_view_of_nothing() -> None:
    """Without store and journals there are no sessions."""
    page = View(None, ()).sessions(limit=5, cursor=None)
    assert (page.ids, page.total, page.next, View(None, ()).calls("s1", limit=5)) == ((), 0, None, [])


def test_an_onlooker_makes_no_store(tmp_path: Path) -> None:
    """What is not there, is empty, newer or only in memory is said, and stays so."""
    path = tmp_path / "ledger.db"
    with pytest.raises(StoreError, match="cannot be read"):
        open_to_look(f"sqlite:///{path}")
    path.touch(mode=0o600)
    with pytest.raises(StoreError, match="no tables yet"):
        open_to_look(f"sqlite:///{path}").sessions(limit=1, cursor=None)
    assert path.stat().st_size == 0
    with pytest.raises(ConfigError, match="--url"):
        open_to_look("memory://")
    path.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(Exception, match="not a database"):
        open_to_look(f"sqlite:///{path}").sessions(limit=1, cursor=None)
    names = {each.name for each in tmp_path.iterdir()}
    assert names - {"ledger.db-wal", "ledger.db-shm"} == {"ledger.db", "ledger.db.lock"}
