"""Connections to SQLite and PostgreSQL, with what each needs so that several writers stay exact."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.quiet import logger

_WRITER_LOCK = 0x67656E617070  # "genapp"
_BUSY_S = 5.0
_STAND_STILL_S = _BUSY_S + 1
_PRAGMAS = (
    "journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={int(_BUSY_S * 1000)}", "trusted_schema=OFF",
    "journal_size_limit=67108864", "temp_store=MEMORY",
)  # fmt: skip


class Database:
    """One database, whichever of the two, used by one thread of the process at a time.

    A fork in the middle of SQLite's own code would leave a child with SQLite's locks held for ever,
    so a fork waits (`stand_still`) until no thread is in there; the child opens connections of its own.

    Raises:
        ConfigError: the URL cannot be understood.
        MissingDependencyError: its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url: URL = make_url(url)
        except ArgumentError as error:
            raise ConfigError(f"store cannot be understood: {error}") from None
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if not self.is_sqlite and importlib.util.find_spec("psycopg") is None:
            raise MissingDependencyError("psycopg", "postgres")
        if self.is_sqlite and not self.url.database:
            raise ConfigError("store needs a path after sqlite:///")
        self._pid = os.getpid()
        self._inherited: list[Engine] = []
        """Of the process that forked this one: closing them could harm the files under its feet."""
        self._engine = self._make()
        # Reentrant: a signal handler may fork.
        self._using = threading.RLock()

    def stand_still(self) -> None:
        """Let no thread in, and wait until those inside have left; `go_on` ends it."""
        self._using.acquire(timeout=_STAND_STILL_S)

    def go_on(self) -> None:
        """Let threads in again."""
        with suppress(RuntimeError):  # it was not to be had
            self._using.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which everything is seen as of one moment."""
        with self._using, self._own().connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside, in this process or another."""
        with (
            self._using,
            self._own().connect().execution_options(genapp_writes=True) as connection,
            connection.begin(),
        ):
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection

    def restart(self) -> None:
        """Leave the connections to the parent; for the child of a fork."""
        if self._pid != os.getpid():
            self._using = threading.RLock()
            self._inherited.append(self._engine)
            self._engine = self._make()
            self._pid = os.getpid()

    def close(self) -> None:
        """Close the connections; they are opened again when asked for."""
        with self._using:
            self._own().dispose()

    def set_aside(self, error: DatabaseError) -> bool:
        """Rename a SQLite file that is none (any more), so that a new one can be made; False for other errors."""
        said = str(error.orig)
        if not self.is_sqlite or not ("not a database" in said or "malformed" in said):
            return False
        path = Path(self.url.database or "")
        self._engine.dispose()
        bad = path.with_name(f"{path.name}.bad-{time.time_ns()}")
        logger.warning("the store %s is damaged (%s); it is kept as %s", path, said, bad)
        with suppress(OSError):
            path.replace(bad)
            for end in ("-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
        return True

    def _own(self) -> Engine:
        self.restart()
        return self._engine

    def _make(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(
                self.url, pool_size=2, max_overflow=8, pool_pre_ping=True, connect_args={"connect_timeout": 5}
            )
        engine = create_engine(self.url, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "begin", _begin)
        return engine

    @staticmethod
    def _opened(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin as `_begin` says, not when sqlite3 thinks so
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails as soon as there are two of them.
    writes = connection.get_execution_options().get("genapp_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
