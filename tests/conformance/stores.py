"""The stores that keep what `test_store` says a store promises.

To add one: a context manager that is given the `Servers` of the run and yields a factory; whatever
the factory opens while it is entered is one store's, or of one and the same database. One that several
processes may open goes into `SHARED` instead, by the URL of such a database.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from otel_genapp.config import CLICKHOUSE_STORE
from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from tests.servers import Servers

Factory = Callable[..., Store]
"""Opens a store; the limits it may be given are those of the store in memory."""
Opening = Callable[[Servers], AbstractContextManager[Factory]]
Place = Callable[[Servers], AbstractContextManager[str]]
"""Makes room for stores that several processes may open, and gives its URL."""


@contextmanager
def memory_stores(_servers: Servers) -> Iterator[Factory]:
    """Nothing is shared: each is its own."""
    yield MemoryStore


@contextmanager
def sqlite_file(_servers: Servers) -> Iterator[str]:
    """The URL of a file of their own."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder, 'ledger.db')}"


@contextmanager
def postgres_schema(servers: Servers) -> Iterator[str]:
    """The URL of a schema of their own in the server that all tests share; it is dropped afterwards."""
    import psycopg

    server, name = servers.postgres(), f"t{secrets.token_hex(6)}"
    server.start()
    plain_url = server.url.replace("+psycopg", "")
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    yield f"{server.url}?options=-csearch_path%3D{name}"
    server.start()
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@contextmanager
def clickhouse_database(servers: Servers) -> Iterator[str]:
    """The URL of a database of their own in the server that all tests share."""
    with servers.clickhouse().database() as database:
        yield database.url


def open_at(url: str) -> Store:
    """A store of several processes, opened by one of them."""
    return ClickHouseStore.open(url) if url.startswith(CLICKHOUSE_STORE) else SQLStore.open(url)


@contextmanager
def opened_at(url: str) -> Iterator[Factory]:
    """Opens stores at this URL, and closes them all."""
    with ExitStack() as stack:

        def open_one() -> Store:
            store = open_at(url)
            stack.callback(store.close)
            return store

        yield open_one


def at(place: Place) -> Opening:
    """Opens stores at a place that is made for them."""

    @contextmanager
    def opening(servers: Servers) -> Iterator[Factory]:
        with place(servers) as url, opened_at(url) as open_one:
            yield open_one

    return opening


SHARED: dict[str, Place] = {
    "sqlite": sqlite_file,
    "postgres": postgres_schema,
    "clickhouse": clickhouse_database,
}
"""Those that several processes may open."""
STORES: dict[str, Opening] = {
    "memory": memory_stores,
    **{kind: at(place) for kind, place in SHARED.items()},
}
KEEPING_SPANS = tuple(kind for kind in STORES if kind != "clickhouse")
"""Those that keep spans: for a fleet the OpenTelemetry Collector does."""
