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
import time
from collections import deque
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
NEW_START = "new-"
RESERVE = "journal.reserve"
SEGMENT_BYTES = 8 * 1024 * 1024
RESERVE_BYTES = 1024 * 1024
_RETRY_EVERY, _RETRY_S = 64, 1.0
"""What failed is tried again once in so many records, or after so long."""
_NEW_LIMIT_S = 60.0
"""A file that has not become a segment by then belongs to a process that was killed."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REASONS = {
    errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EFBIG: "disk_full",
    errno.EMFILE: "too_many_files", errno.ENFILE: "too_many_files",
}  # fmt: skip

_guarded = quiet("ledger")
_Item = tuple[bytes, Callable[[Position | None], None]]


class _Open:
    """The segment being written: its descriptor, and how to tell that it still is ours."""

    __slots__ = ("fd", "has_links", "inode", "name", "size")

    def __init__(self, fd: int, name: str) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.name = name
        self.size = status.st_size
        self.inode = status.st_dev, status.st_ino
        self.has_links = status.st_nlink > 0  # some file systems do not count them

    def is_ours(self) -> bool:
        """Whether the descriptor still is that file; a host that became a daemon may have closed it."""
        try:
            status = os.fstat(self.fd)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.inode

    def is_there(self) -> bool:
        """Whether it is ours and others can find it: a removed file takes records and keeps none."""
        try:
            status = os.fstat(self.fd)
        except OSError:
            return False
        is_found = status.st_nlink > 0 or not self.has_links
        return is_found and (status.st_dev, status.st_ino) == self.inode


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
        self._segment: _Open | None = None
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a garbage collection in here may end a stream, and with it a call.
        self._lock = threading.RLock()
        self._waiting: deque[_Item | None] = deque()
        self._id = secrets.token_hex(8)
        self._number = 0
        self._refused = 0
        self._is_full = False
        self._why_closed = "no_directory"
        self._tried_at_s = 0.0

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

        `then` runs before the next record is written: its order is that of the file. From inside
        another `append` of the same thread (a finalizer, a signal) it is done when that one is.
        """
        self._take((payload, then))

    def seal(self) -> None:
        """End the segment; the next record begins another."""
        self._take(None)

    close = seal

    def restart(self) -> None:
        """In the child of a fork: a journal of its own, with a lock nobody holds."""
        self._drop()  # the parent's lock is the parent's: it holds the file open too
        self._begin()

    def _take(self, item: _Item | None) -> None:
        """Do it now, or after what this thread is in the middle of: nobody closes or moves on what is written to."""
        # Asked of the lock: a flag of our own would stay set when an interrupt keeps it from being reset.
        is_inside = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - as `Condition` does
        with self._lock:
            self._waiting.append(item)
            if not is_inside:
                self._work()
        while (
            self._waiting and not is_inside
        ):  # what came in after the last look and before the lock was free
            with self._lock:
                self._work()

    def _work(self) -> None:
        try:
            while self._waiting:
                self._do(self._waiting.popleft())
        except BaseException:  # an interrupt between a write and what is known of it
            self._drop()
            raise

    def _do(self, item: _Item | None) -> None:
        if item is None:
            self._drop()
            return
        payload, then = item
        kept: Position | str = "io_error"
        with _guarded:
            kept = self._kept(payload)
            if isinstance(kept, tuple):
                then(kept)
        if isinstance(kept, tuple):
            return
        if kept == "io_error":
            self._drop()
        with _guarded:
            self._on_loss(kept)
        with _guarded:
            then(None)

    def _kept(self, payload: bytes) -> Position | str:
        """Where it stands, or why it stands nowhere."""
        try:
            data = frame(payload)
        except ValueError:
            return "too_large"
        segment = self._current()
        if segment is None:
            return self._why_closed
        had = segment.size
        error = self._write(segment, data)
        if error == errno.EFBIG and had and self._is_worth_trying():  # a limit on files below our own
            self._drop()
            segment = self._current()
            if segment is None:
                return self._why_closed
            error = self._write(segment, data)
        if error:
            return self._refuse(_REASONS.get(error, "io_error"))
        if self._refused:
            self._refused, self._is_full = 0, False
        return segment.name, segment.size

    def _write(self, segment: _Open, data: bytes) -> int:
        """Append, in one piece where there is room; the error number, or 0.

        Part of a record does no harm to the next one.
        """
        has_tried = False
        while True:
            try:
                written = os.write(segment.fd, data)
            except OSError as error:
                if error.errno not in _FULL or has_tried or (self._is_full and not self._is_worth_trying()):
                    return error.errno or errno.EIO
                has_tried = True
                self._free_reserve()  # or another process has, just now
                continue
            segment.size += written
            if written == len(data):
                return 0
            if not written:
                return errno.ENOSPC
            data = data[written:]

    def _current(self) -> _Open | None:
        """The segment to write to; where none can be begun, an open one goes on past its bound."""
        segment = self._segment
        if segment is not None:
            if not segment.is_there():
                self._drop()
                self._tried_at_s = 0.0
            elif segment.size < self._segment_bytes:
                return segment
        return self._open_next()

    def _open_next(self) -> _Open | None:
        if self._segment is None and not self._is_worth_trying():
            self._refuse(self._why_closed)
            return None
        self._tried_at_s = time.monotonic()
        name = f"{SEGMENT_START}{self._id}-{self._number:06d}"
        self._number += 1  # never the same name again, whatever becomes of this one
        opened = self._open_locked(name)
        if opened is None and self._why_closed == "disk_full" and self._free_reserve():
            opened = self._open_locked(name)
        if opened is None:
            if self._segment is None:
                self._refuse(self._why_closed)
            return self._segment
        self._drop()
        self._segment = opened
        return opened

    def _open_locked(self, name: str) -> _Open | None:
        """Open it under another name first: without its lock a segment looks like one that has an end."""
        # Windows has no such locks, and does not rename what is open.
        new_name = f"{NEW_START}{name}" if fcntl is not None else name
        self._state.errno = 0
        fd = self._state.open_to_append(new_name)
        if fd is None:
            self._why_closed = _REASONS.get(self._state.errno, "no_directory")
            return None
        opened: _Open | None = None
        try:
            fd = _above_standard(fd)
            opened = self._locked(fd, new_name, name=name)
        except OSError as error:
            self._why_closed = _REASONS.get(error.errno or 0, "io_error")
        finally:
            if opened is None:
                with suppress(OSError):
                    os.close(fd)
                self._state.remove(new_name)
        return opened

    def _locked(self, fd: int, new_name: str, *, name: str) -> _Open:
        opened = _Open(fd, name)
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._state.rename(new_name, name):
                raise OSError(self._state.errno, "the segment could not be named")
        return opened

    def _drop(self) -> None:
        """Let go of the segment, and close it if the descriptor still is ours."""
        segment, self._segment = self._segment, None
        if segment is not None and segment.is_ours():
            with suppress(OSError):
                os.close(segment.fd)  # which gives the lock back

    def _refuse(self, reason: str) -> str:
        self._refused += 1
        self._is_full = reason == "disk_full"
        return reason

    def _is_worth_trying(self) -> bool:
        """Whether something that failed may be tried again, or nothing did."""
        return self._refused % _RETRY_EVERY == 0 or time.monotonic() - self._tried_at_s >= _RETRY_S

    def keep_reserve(self) -> None:
        """Keep some room on the disk that is given up when it is full; not on the host's thread.

        It also removes what processes left that were killed while they began a segment.
        """
        with _guarded:
            self._remove_left()
            if self._is_full or not self._reserve_bytes or RESERVE in self._state.names(RESERVE):
                return
            if self._has_room():
                # Not zeros: a file system that compresses would keep no room for them.
                self._state.write_private(RESERVE, os.urandom(self._reserve_bytes))

    def _has_room(self) -> bool:
        """Whether the disk has several times the reserve left: what another gave up is not taken back."""
        if self._state.path is None or not hasattr(os, "statvfs"):
            return True
        try:
            disk = os.statvfs(self._state.path)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= 4 * self._reserve_bytes

    def _remove_left(self) -> None:
        for name in self._state.names(f"{NEW_START}{SEGMENT_START}"):
            fd = self._state.open_to_read(name)
            if fd is None:
                continue
            try:
                is_old = time.time() - os.fstat(fd).st_mtime > _NEW_LIMIT_S
            finally:
                os.close(fd)
            if is_old:
                self._state.remove(name)

    def _free_reserve(self) -> bool:
        """Give the reserve up; `keep_reserve` makes it again when records can be written."""
        return RESERVE in self._state.names(RESERVE) and self._state.remove(RESERVE)


def _above_standard(fd: int) -> int:
    """The file at a descriptor no `print` goes to, should the host have closed its standard ones."""
    if fd > 2 or fcntl is None:
        return fd
    try:
        return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
    finally:
        os.close(fd)
