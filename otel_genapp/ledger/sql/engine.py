"""Connections to SQLite and PostgreSQL, with what each needs so that several writers stay exact."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError

from otel_genapp.errors import ConfigError, MissingDependencyError, StoreError
from otel_genapp.ledger.sql.sqlite_file import Identity, SQLiteFile

_WRITERS = 0x67656E61
"""Names our lock among a server's advisory locks, with the schema of the tables."""
_LOCK_WRITERS = (
    "SELECT set_config('lock_timeout', '10s', true), "
    f"pg_advisory_xact_lock({_WRITERS}, hashtext(current_schema()))"
)
_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
"""Seconds and milliseconds until a PostgreSQL that says nothing is given up; a URL may say otherwise."""
NO_TABLES = "the store has no tables yet: an application makes them when it starts"
_PAGES_AT_ONCE = 2_000
_SQLITE, _POSTGRES = ("sqlite", "sqlite+pysqlite"), "postgresql+psycopg"


class Database:
    """One database, whichever of the two. A forked child opens connections of its own.

    Raises:
        ConfigError: the URL cannot be understood.
        MissingDependencyError: its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.file = SQLiteFile(self._url.database or "") if self._url.drivername in _SQLITE else None
        """The file of a SQLite database."""
        if self.file is None and importlib.util.find_spec("psycopg") is None:
            raise MissingDependencyError("psycopg", "postgres")
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()
        self._engine = self._make()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which everything is seen as of one moment."""
        with self._connected() as connection:
            if self.file is None:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside, in this process or another."""
        with self._connected() as connection:
            connection.execution_options(genapp_writes=True)
            with connection.begin():
                if self.file is None:
                    connection.exec_driver_sql(_LOCK_WRITERS)
                else:
                    self.file.require_current()
                yield connection

    def _begin_sqlite(self, connection: Connection) -> None:
        # A deferred transaction that reads first and writes later fails as soon as there are two of them.
        if self.file is not None and connection.get_execution_options().get("genapp_writes"):
            try:
                self.file.begin(connection.connection.dbapi_connection)
            except sqlite3.Error as error:
                raise DBAPIError.instance("BEGIN IMMEDIATE", None, error, sqlite3.Error) from error
        else:
            connection.exec_driver_sql("BEGIN")

    @property
    def url(self) -> str:
        """Where it is, its password included."""
        return self._url.render_as_string(hide_password=False)

    @property
    def dialect(self) -> Any:
        """What SQLAlchemy compiles statements for; their parameters go by position."""
        return self._engine.dialect

    @property
    def is_current(self) -> bool:
        """Whether the database is the one that `renew` found."""
        return self.file is None or self.file.is_current

    def renew(self) -> None:
        """Make sure that there is a file, and close connections to one that has gone."""
        if self.file is not None:
            self._own().dispose()
            self.file.make()

    def find(self) -> None:
        """Remember which file it is; never make one.

        Raises:
            StoreError: there is none, or nothing is in it.
        """
        if self.file is None:
            return
        if not self.file.find():
            raise StoreError(f"there is no store at {self.file.path}")
        if self.file.is_empty:  # to open it would already make it a database
            raise StoreError(NO_TABLES)

    def is_damage(self, error: DatabaseError) -> bool:
        """Whether this error says that the file of a SQLite database is damaged."""
        return self.file is not None and self.file.is_damage(error.orig)

    @property
    def identity(self) -> Identity | None:
        """Which file it is that `renew` found."""
        return None if self.file is None else self.file.identity

    def set_aside(self, error: DatabaseError, *, identity: Identity | None) -> bool:
        """Rename the SQLite file that was found damaged, so that another can be made; False for other errors.

        `identity` is from before: another thread may have done so, and made a new one.
        """
        if self.file is None or not self.is_damage(error):
            return False
        self.file.set_aside(identity, reason=str(error.orig))
        return True

    def shrink(self) -> None:
        """Give room that nothing takes any more back to the disk; PostgreSQL does that by itself."""
        if self.file is None:
            return
        with self._connected() as connection:
            driver: Any = connection.connection.dbapi_connection
            free = driver.execute("PRAGMA freelist_count").fetchone()[0]
            before = free + 1
            while 0 < free < before:
                # As a script, since a statement that has no rows is run up to its first page only.
                driver.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
                before, free = free, driver.execute("PRAGMA freelist_count").fetchone()[0]

    def restart(self) -> None:
        """Leave the connections to the parent; for the child of a fork."""
        if self._pid != os.getpid():
            _leave(self._opened)
            self._engine.dispose(close=False)
            self._begin()

    def close(self) -> None:
        """Close the connections; they are opened again when asked for."""
        self._own().dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = self._own()
        pool = engine.pool
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                if engine.pool is not pool and not connection.invalidated:
                    # Closed meanwhile: nobody else would close this one.
                    connection.detach()

    def _own(self) -> Engine:
        self.restart()
        return self._engine

    def _make(self) -> Engine:
        if self.file is None:
            patience = {name: value for name, value in _PATIENCE.items() if name not in self._url.query}
            engine = create_engine(
                self._url, pool_size=2, max_overflow=8, pool_pre_ping=True, paramstyle="format",
                connect_args=patience,
            )  # fmt: skip
        else:
            engine = create_engine(self._url, creator=self.file.connect)
            event.listen(engine, "begin", self._begin_sqlite)
        event.listen(engine, "connect", lambda connection, _record: self._opened.add(connection))
        return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # what it says may show a password
        raise ConfigError(f"store must be sqlite:///path or {_POSTGRES}://host/database") from None
    if parsed.drivername in _SQLITE:
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise ConfigError("store must be sqlite:///path to a file, without options")
    elif parsed.drivername != _POSTGRES:
        raise ConfigError(
            f"store must be sqlite:///path or {_POSTGRES}://host/database, not {parsed.drivername}"
        )
    return parsed


def _leave(connections: weakref.WeakSet[Any]) -> None:
    """Never close these: closing one in a child rolls back what the parent has begun with it."""
    with suppress(ImportError):
        import ctypes

        for connection in tuple(connections):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
