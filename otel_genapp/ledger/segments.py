"""Reading the journals of a state directory: every process's, living or dead."""

from __future__ import annotations

import os
from dataclasses import dataclass

from otel_genapp.frames import read_frames
from otel_genapp.ledger.journal import SEGMENT_START, fcntl
from otel_genapp.state_directory import StateDirectory

PART_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a journal. `sealed`: nobody will write to it any more; `size` in bytes."""

    name: str
    sealed: bool
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Records of a segment, in order; `position` is where to go on reading."""

    payloads: tuple[bytes, ...]
    position: int
    torn: int


def segments(state: StateDirectory) -> tuple[Segment, ...]:
    """The segments there are, by name, with their sizes at this moment."""
    found = []
    for name in state.names(SEGMENT_START):
        fd = state.open_to_read(name)
        if fd is None:
            continue
        try:
            # First the lock, then the size: what is sealed does not grow.
            sealed = _is_sealed(fd)
            found.append(Segment(name, sealed, os.fstat(fd).st_size))
        finally:
            os.close(fd)
    return tuple(found)


def read(state: StateDirectory, segment: Segment, *, start: int, limit_bytes: int = PART_BYTES) -> Part:
    """The records from `start` on, up to the segment's size as it was found, some at a time.

    Where it cannot be opened nothing is read and `position` stays: it may be there all the same
    (too many files are open), and what counts as read is removed.
    """
    fd = state.open_to_read(segment.name)
    if fd is None:
        return Part((), start, 0)
    try:
        while True:
            wanted = min(limit_bytes, segment.size - start)
            data = _read_at(fd, start, count=wanted)
            is_end = start + len(data) >= segment.size
            found = read_frames(data, ended=segment.sealed and is_end)
            if found.consumed or is_end or len(data) < wanted:
                return Part(tuple(found.payloads), start + found.consumed, found.torn)
            limit_bytes *= 2  # one record is longer than that
    finally:
        os.close(fd)


def _is_sealed(fd: int) -> bool:
    """Whether its writer is gone, or has gone on to the next segment."""
    if fcntl is None:
        return False  # without locks a file is never removed while another process may write to it
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _read_at(fd: int, start: int, *, count: int) -> bytes:
    os.lseek(fd, start, os.SEEK_SET)
    parts = []
    while count > 0:
        part = os.read(fd, count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
