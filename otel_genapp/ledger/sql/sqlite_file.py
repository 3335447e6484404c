"""A SQLite database as a file: opened as several processes need it, set aside when it is damaged.

Who opens a connection holds a lock on a file beside it, shared; who renames the database holds it
alone. Otherwise a new database could take up the write-ahead log of the old one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from otel_genapp.config import ENVIRONMENT
from otel_genapp.errors import StoreError
from otel_genapp.quiet import logger

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: an open file cannot be renamed there in the first place
    fcntl = None

BUSY_S = 10.0
"""How long a writer waits for another."""
_TURN_MS = 20
"""SQLite looks ever more seldom whether a lock is free, so it is told to begin anew: others would starve it."""
_BUSY_MS = int(BUSY_S * 1000)
_GUARD_S = 5.0
_SIDES = ("-wal", "-shm")
_PRAGMAS = (
    f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=NORMAL",
    "trusted_schema=OFF", "journal_size_limit=67108864", "temp_store=MEMORY",
)  # fmt: skip

Identity = tuple[int, int]


class ReplacedError(OSError):
    """The file has another name by now, or none: somebody has set it aside, or removed it."""


class _Connection(sqlite3.Connection):
    """One that weak references may point to."""


class SQLiteFile:
    """The file at `path`; only its owner may read it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._lock_path = self._beside(".lock")
        self.identity: Identity | None = None
        """Which file `make` made or found."""

    @property
    def is_current(self) -> bool:
        """Whether it is still that file."""
        return self.identity is not None and self.identity == self._found()

    def require_current(self) -> None:
        """Refuse to write to a file that has another name by now, or none.

        Raises:
            ReplacedError: it has.
        """
        if not self.is_current:
            raise ReplacedError(f"{self.path} has been replaced by another file; try again")

    def make(self) -> None:
        """Make the file if there is none, and remember which one it is.

        Raises:
            StoreError: there can be none in its directory.
        """
        try:
            with self._guarding(alone=True):
                if self._found() is None:
                    for side in _SIDES:
                        self._beside(side).unlink(missing_ok=True)
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                self.identity = self._found()
        except OSError as error:
            if error.errno is None:  # our own, which says it all
                raise
            raise StoreError(self._refusal(error)) from error

    def connect(self) -> sqlite3.Connection:
        """A connection that begins no transactions by itself; it never makes the file."""
        with self._guarding(alone=False):
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None,
                check_same_thread=False, factory=_Connection,
            )  # fmt: skip
            try:
                # In a file that is in use it would wait for writers, and change nothing.
                if not connection.execute("PRAGMA page_count").fetchone()[0]:
                    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
            return connection

    @staticmethod
    def begin(connection: Any) -> None:
        """Begin a transaction that writes, when other writers are done.

        Raises:
            sqlite3.OperationalError: they are not for a long time.
        """
        deadline = time.monotonic() + BUSY_S
        connection.execute(f"PRAGMA busy_timeout={_TURN_MS}")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
        finally:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    def is_damage(self, error: BaseException | None) -> bool:
        """Whether this error says that the file is no database, or a damaged one."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

    def set_aside(self, identity: Identity | None, *, reason: str) -> None:
        """Give this file another name, unless somebody has done so already."""
        with self._guarding(alone=True):
            if identity != self._found():
                return
            aside = f".damaged-{time.time_ns()}"
            logger.warning(
                "the store %s is damaged (%s): it is kept as %s, and a new one is made",
                self.path, reason, self._beside(aside).name,
            )  # fmt: skip
            self.path.replace(self._beside(aside))
            for side in _SIDES:
                with suppress(FileNotFoundError):
                    self._beside(side).replace(self._beside(aside + side))

    @property
    def problem(self) -> str:
        """That there is no directory for it, and what to do; empty where there is."""
        folder = self.path.absolute().parent
        if os.path.isdir(folder):  # noqa: PTH112 - a Path raises where it may not look
            return ""
        return (
            f"the store {self.path} cannot be opened: there is no directory {folder}; "
            f"create it, or correct {ENVIRONMENT['store']}"
        )

    def _refusal(self, error: OSError) -> str:
        return self.problem or (
            f"the store {self.path} cannot be opened: {error.strerror}; "
            f"let this process write to {self.path.absolute().parent}, or correct {ENVIRONMENT['store']}"
        )

    def _beside(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)

    def _found(self) -> Identity | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _guarding(self, *, alone: bool) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _GUARD_S
            while True:
                try:
                    fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise OSError(f"{self._lock_path} is held by another process") from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(fd)
