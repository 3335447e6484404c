"""The stores that keep what `test_store` says a store promises.

To add one: a context manager that is given the `Servers` of the run and yields a factory; whatever
the factory opens while it is entered is one store's, or of one and the same database.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from tests.postgres import Postgres, running_postgres


class Servers:
    """The servers of a run, each started for the first test that asks for it and stopped by `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._postgres: Postgres | None = None

    def postgres(self) -> Postgres:
        """A PostgreSQL; skips the test where there is none."""
        if self._postgres is None:
            self._postgres = self._stack.enter_context(running_postgres())
        return self._postgres


Factory = Callable[..., Store]
"""Opens a store; the limits it may be given are those of the store in memory."""
Opening = Callable[[Servers], AbstractContextManager[Factory]]


@contextmanager
def memory_stores(_servers: Servers) -> Iterator[Factory]:
    """Nothing is shared: each is its own."""
    yield MemoryStore


@contextmanager
def sqlite_stores(_servers: Servers) -> Iterator[Factory]:
    """A file of their own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        opened_at(f"sqlite:///{Path(folder, 'ledger.db')}") as open_one,
    ):
        yield open_one


@contextmanager
def postgres_stores(servers: Servers) -> Iterator[Factory]:
    """A schema of their own in the server that all tests share."""
    with postgres_schema(servers.postgres()) as url, opened_at(url) as open_one:
        yield open_one


@contextmanager
def postgres_schema(server: Postgres) -> Iterator[str]:
    """The URL of a schema that is dropped afterwards."""
    import psycopg

    name = f"t{secrets.token_hex(6)}"
    server.start()
    plain_url = server.url.replace("+psycopg", "")
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    yield f"{server.url}?options=-csearch_path%3D{name}"
    server.start()
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@contextmanager
def opened_at(url: str) -> Iterator[Factory]:
    """Opens stores at this URL, and closes them all."""
    with ExitStack() as stack:

        def open_one(**limits: Any) -> Store:
            store = SQLStore.open(url, **limits)
            stack.callback(store.close)
            return store

        yield open_one


STORES: dict[str, Opening] = {"memory": memory_stores, "sqlite": sqlite_stores, "postgres": postgres_stores}
SHARED = tuple(kind for kind in STORES if kind != "memory")
"""Those that several processes may open."""
