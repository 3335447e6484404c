"""Requests on disk while the collector is away: in order, bounded, and taken over from the dead.

A spool is a lock and segments, files of a state directory: `spool-<id>-000000` is held locked by
the process the spool belongs to, `spool-<id>-000001` and so on hold its requests. Appending is one
`write`, so a request is safe when its process is killed. What was delivered is marked by an empty
record behind; a segment with nothing left in it is removed. Whoever gets the lock of a spool whose
process has died delivers the rest.

The methods of a spool are called with the outbox's lock held.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Final, Self

from otel_genapp.frames import frame, read_frames
from otel_genapp.pipeline.export.packing import Parcel
from otel_genapp.state_directory import StateDirectory

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: a dead process cannot be told from a living one
    fcntl = None

SEGMENT_BYTES: Final = 4 * 1024 * 1024
START: Final = "spool-"

_NAME = re.compile(r"spool-([0-9a-f]{16})-(\d{6})")
_SPANS = struct.Struct(">I")


@dataclass(slots=True)
class _Segment:
    name: str
    size: int
    counts: list[int] = field(default_factory=list)
    """Spans of each request in it; empty in a segment that nobody has read yet."""
    delivered: int = 0
    """How many requests from the start on have been delivered."""

    @property
    def spans(self) -> int:
        return sum(self.counts[self.delivered :])


class Spool:
    """The requests that one process, living or dead, has put aside."""

    def __init__(
        self,
        state: StateDirectory,
        on_damage: Callable[[int], None],
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """`on_damage` hears of spans that cannot be read any more."""
        self._state = state
        self._on_damage = on_damage
        self._segment_bytes = segment_bytes
        self._segments: deque[_Segment] = deque()
        self._loaded: deque[Parcel] | None = None
        """What is left of the first segment, once it has been read."""
        self._id = secrets.token_hex(8)
        self._number = 0
        self._lock_fd: int | None = None
        self._writing_fd: int | None = None
        self._marking_fd: int | None = None
        self._is_adopted = False
        self._closed = False

    @classmethod
    def of_the_dead(
        cls,
        state: StateDirectory,
        on_damage: Callable[[int], None],
        *,
        besides: Container[str],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Self | None:
        """A spool whose process has died, ours from now on; None if there is none but `besides`.

        `on_damage` hears of requests that cannot be read.
        """
        names = filter(None, map(_NAME.fullmatch, state.names(START)))
        for spool_id in dict.fromkeys(name[1] for name in names):
            if spool_id in besides:
                continue
            spool = cls(state, on_damage, segment_bytes=segment_bytes)
            spool._id, spool._is_adopted = spool_id, True
            if not spool._lock():
                continue
            # Its last words, perhaps written since the names were listed, count too.
            left = (name for name in state.names(f"{START}{spool_id}-") if _NAME.fullmatch(name))
            spool._segments += [_Segment(name, segment_bytes) for name in left if name != spool.lock_name]
            if spool._segments:
                return spool
            spool.close()
        return None

    @property
    def spool_id(self) -> str:
        """The part of its files' names that is its own."""
        return self._id

    @property
    def lock_name(self) -> str:
        """The file that is locked while somebody owns the spool."""
        return f"{START}{self._id}-000000"

    @property
    def segments_begun(self) -> int:
        """How many segments this process has made so far."""
        return self._number

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left in it."""
        return not self._segments

    @property
    def size_bytes(self) -> int:
        """The size of its files; an adopted one's are taken for full."""
        return sum(segment.size for segment in self._segments)

    def append(self, parcel: Parcel) -> bool:
        """Put a request behind the others; False if the disk does not take it."""
        record = frame(_SPANS.pack(parcel.spans) + parcel.data)
        fd = self._fd_for(len(record))
        if fd is None:
            return False
        segment = self._segments[-1]
        if not _written(fd, record):
            if not segment.size:
                self._seal()
                self._remove(len(self._segments) - 1)
            return False
        segment.size += len(record)
        segment.counts.append(parcel.spans)
        return True

    def head(self) -> Parcel | None:
        """The oldest request; None if there is none."""
        while self._segments:
            if self._loaded is None:
                self._load()
            if self._loaded:
                return self._loaded[0]
            self._remove(0)
        return None

    def pop(self) -> None:
        """The oldest request has come to its end."""
        if not self._segments or (self._is_adopted and self.head() is None):
            return
        segment = self._segments[0]
        segment.delivered += 1
        if self._loaded:
            self._loaded.popleft()
        if segment.delivered >= len(segment.counts):
            self._remove(0)
        else:
            self._mark(segment)

    def drop_oldest(self) -> int | None:
        """Remove the oldest segment that is not being sent or written; the spans lost, None if none was."""
        victims = len(self._segments) - (1 if self._writing_fd is None else 2)
        if victims < 1:
            return None
        segment = self._segments[1]
        if not segment.counts:
            segment.counts = [parcel.spans for parcel in self._read(segment)[0]]
        lost = segment.spans
        self._remove(1)
        return lost

    def forget(self) -> None:
        """Leave the files to whom they belong; in the child of a fork, whose parent holds the lock."""
        self._closed = True
        for fd in (self._lock_fd, self._writing_fd, self._marking_fd):
            if fd is not None:
                with suppress(OSError):
                    os.close(fd)
        self._lock_fd = self._writing_fd = self._marking_fd = None

    def close(self) -> None:
        """Leave what is in it to the next process that comes by."""
        if self._closed:
            return
        if self.is_empty and self._lock_fd is not None:
            self._state.remove(self.lock_name)
        self.forget()

    def _lock(self) -> bool:
        """Whether the spool is this process's, now or already."""
        if fcntl is None or self._closed:
            return False
        if self._lock_fd is not None:
            if _has_name(self._lock_fd):
                return True
            os.close(self._lock_fd)  # somebody has cleared the folder: the lock keeps nobody out any more
            self._lock_fd = None
        fd = self._state.open_to_append(self.lock_name)
        if fd is None:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def _fd_for(self, size: int) -> int | None:
        """Where a record of that size goes."""
        if self._closed or self._is_adopted:
            return None
        if self._writing_fd is not None:
            if self._segments[-1].size + size <= self._segment_bytes and _has_name(self._writing_fd):
                return self._writing_fd
            self._seal()
        if not self._lock():
            self._id = secrets.token_hex(8)  # an adopter was quicker than our lock: it finds nothing there
            if not self._lock():
                return None
        name = f"{START}{self._id}-{self._number + 1:06d}"
        self._writing_fd = self._state.open_to_append(name)
        if self._writing_fd is not None:
            self._number += 1
            self._segments.append(_Segment(name, 0))
        return self._writing_fd

    def _seal(self) -> None:
        if self._writing_fd is not None:
            os.close(self._writing_fd)
            self._writing_fd = None

    def _load(self) -> None:
        segment = self._segments[0]
        if len(self._segments) == 1:
            self._seal()  # what comes goes into the next, so that this one comes to an end
        parcels, marks, torn = self._read(segment)
        expected = segment.spans
        segment.delivered = max(segment.delivered, marks)
        segment.counts = [parcel.spans for parcel in parcels]
        self._loaded = deque(parcels[segment.delivered :])
        missing = torn if self._is_adopted else max(expected - segment.spans, 0)
        if missing:
            self._on_damage(missing)

    def _read(self, segment: _Segment) -> tuple[list[Parcel], int, int]:
        """The requests in a segment, how many of them are marked as delivered, and what is torn."""
        fd = self._state.open_to_read(segment.name)
        if fd is None:
            return [], 0, 0
        try:
            data = _content(fd)
        finally:
            os.close(fd)
        found = read_frames(data, ended=True)
        records = [payload for payload in found.payloads if len(payload) > _SPANS.size]
        parcels = [
            Parcel(record[_SPANS.size :], _SPANS.unpack_from(record)[0], self._is_adopted)
            for record in records
        ]
        return parcels, len(found.payloads) - len(records), found.torn

    def _mark(self, segment: _Segment) -> None:
        """Say in the file that one more of its requests was delivered, lest it be sent again."""
        if self._marking_fd is None:
            self._marking_fd = self._state.open_to_append(segment.name)
        mark = frame(b"")
        if self._marking_fd is not None and _written(self._marking_fd, mark):
            segment.size += len(mark)

    def _remove(self, place: int) -> None:
        if place == len(self._segments) - 1:
            self._seal()
        segment = self._segments[place]
        del self._segments[place]
        if place == 0:
            self._loaded = None
            if self._marking_fd is not None:
                os.close(self._marking_fd)
                self._marking_fd = None
        self._state.remove(segment.name)


def _written(fd: int, record: bytes) -> bool:
    """Whether all of it was written, at once; if not, the file is cut back to what it had."""
    with suppress(OSError):
        before = os.fstat(fd).st_size
        with suppress(OSError):
            if os.write(fd, record) == len(record):
                return True
        os.ftruncate(fd, before)
    return False


def _has_name(fd: int) -> bool:
    """Whether the file can still be found by its name."""
    with suppress(OSError):
        return os.fstat(fd).st_nlink > 0
    return False


def _content(fd: int) -> bytes:
    pieces = []
    with suppress(OSError):
        while piece := os.read(fd, max(os.fstat(fd).st_size, 1)):
            pieces.append(piece)
    return b"".join(pieces)
