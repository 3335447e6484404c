"""What is particular to PostgreSQL: a server that goes and comes back, forks, and other writers."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from otel_genapp.ledger.sql import SQLStore, engine
from tests.builders import call
from tests.conformance.stores import postgres_schema
from tests.forked import in_child
from tests.postgres import Postgres
from tests.servers import Servers


@pytest.fixture
def server(servers: Servers) -> Postgres:
    return servers.postgres()


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    with postgres_schema(servers) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[SQLStore]:
    store = SQLStore.open(url)
    yield store
    store.close()


def plain(url: str) -> str:
    """The URL as the driver takes it."""
    return url.replace("+psycopg", "")


def test_a_server_that_was_killed(server: Postgres, store: SQLStore) -> None:
    """While it is away every use fails; then the next one works, and what was confirmed is there."""
    store.apply((call("1"),), through={"journal-a": 10})
    server.kill()
    for use in (lambda: store.apply((call("2"),), through={"journal-a": 20}), store.totals):
        with pytest.raises(OperationalError):
            use()
    server.start()
    assert (store.totals().overall.calls, store.positions()) == (1, {"journal-a": 10})
    assert store.apply((call("2"),), through={"journal-a": 20}) == 1
    server.kill()
    server.start()
    assert store.apply((call("2"), call("3")), through={"journal-a": 30}) == 1
    assert store.totals().overall.calls == 3


def test_a_connection_that_was_cut_in_the_middle(url: str, store: SQLStore) -> None:
    """The batch fails and nothing of it is kept; the next one works."""
    store.apply((call("1"),))

    def cut() -> None:
        with psycopg.connect(plain(url), autocommit=True) as admin, store._database.writing() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            connection.exec_driver_sql("UPDATE genapp_meta SET value = 0")

    with pytest.raises(OperationalError):
        cut()
    assert store.apply((call("1"), call("2"))) == 1
    assert store.totals().overall.calls == 2


def test_a_server_that_comes_later(server: Postgres, servers: Servers) -> None:
    """A store may be opened before there is a server; it is prepared with the first use that works."""
    server.stop()
    store = SQLStore.open(server.url)
    with pytest.raises(OperationalError):
        store.apply((call("1"),))
    with postgres_schema(servers) as url:
        later = SQLStore.open(url)
        assert later.apply((call("1"),)) == 1
        later.close()
    store.close()


def test_tables_that_were_dropped(url: str, store: SQLStore) -> None:
    """They are made again after one failure, and a part of a journal that follows on them is refused once."""
    store.apply((call("1"),), through={"journal-a": 10})
    with psycopg.connect(plain(url), autocommit=True) as admin:
        tables = admin.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        ).fetchall()
        for (table,) in tables:
            admin.execute(f"DROP TABLE {table}".encode())
    with pytest.raises(Exception, match="does not exist"):
        store.apply((call("2"),), through={"journal-a": 20})
    with pytest.raises(OSError, match="journals have to be read again"):
        store.apply((call("2"),), through={"journal-a": 20})
    assert store.positions() == {}
    assert store.apply((call("1"), call("2")), through={"journal-a": 20}) == 2


def test_a_writer_that_does_not_end(store: SQLStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer is waited for, but not for ever; readers are not held up."""
    monkeypatch.setattr(engine, "_LOCK_WRITERS", engine._LOCK_WRITERS.replace("10s", "100ms"))
    store.apply((call("1"),))
    other = SQLStore.open(url)
    with other._database.writing():
        with pytest.raises(OperationalError, match="lock timeout"):
            store.apply((call("2"),))
        assert store.totals().overall.calls == 1
    assert store.apply((call("2"),)) == 1
    other.close()


def test_a_read_is_of_one_moment(store: SQLStore, url: str) -> None:
    """Sums and calls of a session agree, also while somebody writes."""
    other, stop = SQLStore.open(url), threading.Event()
    store.apply((call("first"),))

    def write() -> None:
        number = 0
        while not stop.is_set():
            other.apply((call(str(number)),))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            session = store.session("s1")
            assert session is not None
            assert len(session.newest) == min(session.sums.calls, 20)
            newest = session.newest[-1].call_id
            assert newest == ("first" if session.sums.calls == 1 else str(session.sums.calls - 2))
    finally:
        stop.set()
        writer.join(30)
        other.close()


def test_a_forked_child_has_connections_of_its_own(store: SQLStore) -> None:
    """The child writes over its own, and its end leaves the parent's open."""
    store.apply((call("parent 1"),))
    with store._database.reading() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        assert in_child(lambda: store.apply((call("child"),))) == 1
        assert connection.exec_driver_sql("SELECT 2").scalar() == 2
    assert store.apply((call("parent 2"),)) == 1
    assert store.totals().overall.calls == 3
