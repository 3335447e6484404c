"""A journal interrupted at any place: by a finalizer that appends too, a signal that raises, a `then` that fails."""

from __future__ import annotations

import gc
import linecache
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

from otel_genapp.ledger import journal as journal_module
from otel_genapp.ledger.journal import NEW_START, Journal, Position
from otel_genapp.ledger.segments import read, segments
from otel_genapp.state_directory import StateDirectory
from tests.conftest import OwnError

PLACES = 400
"""More lines than an append runs that begins a segment."""


class AtLine:
    """Does something once, before the given line that the journal or the state directory runs."""

    def __init__(self, number: int, act: Any) -> None:
        self.left = number
        self.act = act

    def trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.endswith(("/journal.py", "/state_directory.py")):
            return None
        # Not where a lock is given back: no signal comes between the block and that, a trace function does.
        is_lock = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "with self._lock:"
        if event == "line" and self.left >= 0 and not is_lock:
            self.left -= 1
            if self.left < 0:
                self.act()
        return self.trace

    def __enter__(self) -> Self:
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.settrace(self.before)


def state_at(path: Path) -> StateDirectory:
    path.mkdir(mode=0o700)
    return StateDirectory(path / "shop-dev")


def records_up_to(state: StateDirectory) -> dict[bytes, Position]:
    """Each record, and where it really ends."""
    found: dict[bytes, Position] = {}
    for segment in segments(state):
        place = 0
        for payload in read(state, segment, start=0).payloads:
            place += 18 + len(payload)
            assert payload not in found
            found[payload] = segment.name, place
    return found


@pytest.mark.parametrize("warm", [0, 1, 2], ids=["first", "next", "rotating"])
def test_a_finalizer_that_appends(tmp_path: Path, warm: int) -> None:
    """At whatever line it comes: every record is kept once, where it was said to be, told in the file's order."""
    for line in range(PLACES):
        state = state_at(tmp_path / f"{warm}-{line}")
        losses: list[str] = []
        told: list[tuple[bytes, Position | None]] = []
        journal = Journal(state, on_loss=losses.append, segment_bytes=70)

        def tell(payload: bytes, position: Position | None, told: Any = told) -> None:
            told.append((payload, position))

        def append(payload: bytes, journal: Journal = journal, tell: Any = tell) -> None:
            journal.append(payload, then=partial(tell, payload))

        for number in range(warm):
            append(b"before-%d-longer" % number)
        with AtLine(line, lambda append=append: append(b"inner")) as moment:
            append(b"outer-and-longer")
        append(b"after")
        journal.close()
        found = records_up_to(state)
        assert (dict(told), losses) == (found, []), line
        assert [position for _, position in told] == sorted(found.values()), line
        if moment.left >= 0:
            break
    else:
        pytest.fail("an append runs more lines than were tried")
    assert line > 15


def test_an_interrupt_anywhere(tmp_path: Path) -> None:
    """At whatever line Ctrl-C comes: no record is there twice, and those before and after are all kept."""
    for line in range(PLACES):
        state = state_at(tmp_path / str(line))
        losses: list[str] = []
        told: dict[bytes, Position | None] = {}
        journal = Journal(state, on_loss=losses.append, segment_bytes=60)

        def append(payload: bytes, journal: Journal = journal, told: Any = told) -> None:
            journal.append(payload, then=lambda position: told.__setitem__(payload, position))

        append(b"before")
        append(b"before too, a longer one")

        def interrupt() -> None:
            raise KeyboardInterrupt

        before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - names only
        try:
            with AtLine(line, interrupt) as moment:
                append(b"interrupted")
        except KeyboardInterrupt:
            pass
        append(b"after")
        append(b"and after")
        journal.close()
        found = records_up_to(state)
        assert {b"before", b"before too, a longer one", b"after", b"and after"} <= set(found), line
        assert {name: place for name, place in told.items() if place} == {
            name: place for name, place in found.items() if name in told
        }, line
        assert losses == [], line
        # Between a system call that opens one and the name for it Python may stop: that costs descriptors.
        assert len(os.listdir("/dev/fd")) <= before + 1, line  # noqa: PTH208 - names only
        if moment.left >= 0:
            break
    else:
        pytest.fail("an append runs more lines than were tried")
    assert line > 15


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no timers")
def test_real_signals(tmp_path: Path) -> None:
    """After each of a thousand interrupts by signals the next record is kept, none is lost and none is twice there."""
    state = state_at(tmp_path / "state")
    journal = Journal(state, on_loss=lambda _reason: None, segment_bytes=3000)
    chance = random.Random(5)  # noqa: S311 - repeatable on purpose
    told: list[Position | None] = []
    acknowledged: set[bytes] = set()
    number = 0

    def append() -> None:
        nonlocal number
        number += 1
        payload = b"%d" % number
        journal.append(payload, then=told.append)
        acknowledged.add(payload)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # what is raised in its callbacks, and hypothesis has one, Python only prints
    try:
        for _ in range(1000):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-6, 4e-4))
                for _ in range(200):
                    append()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                append()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    journal.close()
    assert None not in told
    assert acknowledged <= set(records_up_to(state))


def test_a_then_that_fails(tmp_path: Path, expected_own_errors: list[OwnError]) -> None:
    """Its error is ours, not the host's, and the next record is not the worse for it."""
    state = state_at(tmp_path / "state")
    journal = Journal(state, on_loss=lambda _reason: None)

    def then(_position: Position | None) -> None:
        raise ValueError("planted")

    journal.append(b"one", then=then)
    journal.append(b"two", then=lambda _position: None)
    assert list(records_up_to(state)) == [b"one", b"two"]
    assert [own.site for own in expected_own_errors] == ["ledger"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """A file whose process was killed before it was a segment goes when it is old, and not before."""
    state = state_at(tmp_path / "state")
    names = [f"{NEW_START}journal-{'0' * 16}-{number:06d}" for number in range(2)]
    for name in names:
        fd = state.open_to_append(name)
        assert fd is not None
        os.close(fd)
    old = time.time() - journal_module._NEW_LIMIT_S - 5
    os.utime(tmp_path / "state" / "shop-dev" / names[0], (old, old))
    Journal(state, on_loss=lambda _reason: None, reserve_bytes=0).keep_reserve()
    assert state.names(NEW_START) == (names[1],)
