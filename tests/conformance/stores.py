"""The stores that keep what `test_store` says a store promises."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from tests.postgres import Postgres

Opening = Callable[..., AbstractContextManager[Store]]


@contextmanager
def memory_store(_server: Callable[[], Postgres], **limits: Any) -> Iterator[Store]:
    store = MemoryStore(**limits)
    yield store
    store.close()


@contextmanager
def sqlite_store(_server: Callable[[], Postgres]) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = SQLStore.open(f"sqlite:///{Path(folder, 'ledger.db')}")
        yield store
        store.close()


@contextmanager
def postgres_store(server: Callable[[], Postgres]) -> Iterator[Store]:
    """A schema of its own in the server that all tests share."""
    from sqlalchemy import create_engine, text

    name = f"t{secrets.token_hex(6)}"
    engine = create_engine(server().url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    store = SQLStore.open(f"{server().url}?options=-csearch_path%3D{name}")
    yield store
    store.close()
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


STORES: dict[str, Opening] = {"memory": memory_store, "sqlite": sqlite_store, "postgres": postgres_store}
