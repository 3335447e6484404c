"""The journal: a process's append-only file of records, each written before its call returns.

One `os.write` a record and no fsync: the kernel keeps what is written when the process is killed.
Segments are bounded; the one being written is locked, so everybody sees which have an end. What
cannot be written is counted by its reason, and is then only in memory.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from otel_genapp.frames import frame
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no other process of the app reads, see `segments`
    fcntl = None

Position = tuple[str, int]
"""A segment's name, and its bytes up to and with a record."""

SEGMENT_START = "journal-"
RESERVE = "journal.reserve"
SEGMENT_BYTES = 8 * 1024 * 1024
RESERVE_BYTES = 1024 * 1024
_RETRY_EVERY = 64
"""A journal that cannot be opened is tried again once in so many records."""
_REASONS = {
    errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EFBIG: "disk_full",
    errno.EMFILE: "too_many_files", errno.ENFILE: "too_many_files",
}  # fmt: skip

_guarded = quiet("ledger")


class Journal:
    """This process's journal in a state directory. Thread-safe; no method raises.

    `on_loss(reason)` hears of each record that could not be written: `disk_full`, `too_many_files`,
    `no_directory`, `too_large` or `io_error`.
    """

    def __init__(
        self,
        state: StateDirectory,
        *,
        on_loss: Callable[[str], None],
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._state = state
        self._on_loss = on_loss
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._fd: int | None = None
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a garbage collection in here may end a stream, and with it a call.
        self._lock = threading.RLock()
        self._id = secrets.token_hex(8)
        self._number = 0
        self._name = ""
        self._size = 0
        self._refused = 0
        self._is_full = False

    @property
    def id(self) -> str:
        """What the names of its segments have in common."""
        return self._id

    @property
    def start(self) -> Position:
        """Before its first record."""
        return f"{SEGMENT_START}{self._id}-", 0

    @property
    def problem(self) -> str:
        """Why records are not journaled now; "" while they are."""
        return (
            f"the journal cannot be written: {self._state.problem or 'see the log'}" if self._refused else ""
        )

    def append(self, payload: bytes, *, then: Callable[[Position | None], None]) -> None:
        """Write a record, then call `then` with where it stands, or with None where it could not be written.

        `then` runs before the next record is written: its order is that of the file.
        """
        with self._lock:
            position: Position | None = None
            try:
                with _guarded:
                    position = self._append(payload)
                then(position)
            except BaseException:  # an interrupt between a write and what is known of it
                self.seal()
                raise

    def seal(self) -> None:
        """End the segment; the next record begins another."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                with suppress(OSError):
                    os.close(fd)  # which gives the lock back

    close = seal

    def restart(self) -> None:
        """In the child of a fork: a journal of its own, with a lock nobody holds."""
        fd, self._fd = self._fd, None
        self._begin()
        if fd is not None:
            with suppress(OSError):
                os.close(fd)  # the parent's lock is the parent's: it holds the file open too

    def _append(self, payload: bytes) -> Position | None:
        try:
            data = frame(payload)
        except ValueError:
            self._on_loss("too_large")
            return None
        if self._fd is None or self._size >= self._segment_bytes:
            self._open_next()
        if self._fd is None:
            self._on_loss(_REASONS.get(self._state.errno, "no_directory"))
            return None
        reason = self._write(self._fd, data)
        if reason == "disk_full" and self._free_reserve():
            reason = self._write(self._fd, data)
        if reason is not None:
            self._refused += 1
            self._is_full = reason == "disk_full"
            self._on_loss(reason)
            return None
        self._refused, self._is_full = 0, False
        return self._name, self._size

    def _write(self, fd: int, data: bytes) -> str | None:
        """Append in one piece; why not, if not. Part of a record does no harm to the next one."""
        try:
            written = os.write(fd, data)
        except OSError as error:
            return _REASONS.get(error.errno or 0, "io_error")
        self._size += written  # by adding: a record may have come in between
        return None if written == len(data) else "disk_full"

    def _open_next(self) -> None:
        """Begin a segment; where that cannot be, an open one goes on past its bound."""
        if self._refused and self._refused % _RETRY_EVERY and self._fd is None:
            self._refused += 1
            return
        name = f"{SEGMENT_START}{self._id}-{self._number:06d}"
        fd = self._open_locked(name)
        if fd is None:
            self._refused += 1
            return
        self.seal()
        self._number += 1
        self._name, self._size, self._fd = name, 0, fd

    def _open_locked(self, name: str) -> int | None:
        """Open it under another name first: without its lock a segment looks like one that has an end."""
        new_name = f"new-{name}"
        fd = self._state.open_to_append(new_name)
        if fd is None:
            return None
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self._state.rename(new_name, name):
            return fd
        os.close(fd)
        return None

    def keep_reserve(self) -> None:
        """Keep some room on the disk that is given up when it is full; not on the host's thread."""
        if self._is_full or not self._reserve_bytes or RESERVE in self._state.names(RESERVE):
            return
        self._state.write_private(RESERVE, bytes(self._reserve_bytes))

    def _free_reserve(self) -> bool:
        """Give the reserve up, once; `keep_reserve` makes it again when records can be written."""
        if RESERVE not in self._state.names(RESERVE):
            return False
        return self._state.remove(RESERVE)
