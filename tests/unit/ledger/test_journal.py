"""The journal of a process: what is appended can be read by everybody, in order, once."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from otel_genapp.ledger.journal import RESERVE, Journal, Position
from otel_genapp.ledger.segments import Segment, read, segments
from otel_genapp.state_directory import StateDirectory
from tests.fakes import eventually
from tests.forked import in_child


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    tmp_path.chmod(0o700)
    return StateDirectory(tmp_path / "shop-dev")


class Losses(list[str]):
    """The reasons the journal gave."""

    def __call__(self, reason: str) -> None:
        self.append(reason)


def append(journal: Journal, *payloads: bytes) -> list[Position | None]:
    positions: list[Position | None] = []
    for payload in payloads:
        journal.append(payload, then=positions.append)
    return positions


def all_of(state: StateDirectory, *, limit_bytes: int = 1000) -> list[bytes]:
    """Every record of every segment, read in parts."""
    found: list[bytes] = []
    for segment in segments(state):
        start = 0
        while start < segment.size:
            part = read(state, segment, start=start, limit_bytes=limit_bytes)
            assert part.position > start
            assert part.torn == 0
            found += part.payloads
            start = part.position
    return found


def test_records_are_read_in_order(state: StateDirectory) -> None:
    """Over several segments, in parts of any size, from any position that was given out."""
    losses = Losses()
    journal = Journal(state, on_loss=losses, segment_bytes=2000)
    payloads = [b"%d " % number * (number % 40) for number in range(300)]
    positions = append(journal, *payloads)
    assert all_of(state) == all_of(state, limit_bytes=100_000) == payloads
    assert [segment.sealed for segment in segments(state)][-2:] == [True, False]
    name, place = positions[149] or ("", 0)
    segment = next(segment for segment in segments(state) if segment.name == name)
    rest = read(state, segment, start=place).payloads
    assert rest == tuple(payloads[150 : 150 + len(rest)])
    assert losses == []


def test_a_longer_record_than_a_part(state: StateDirectory) -> None:
    """A part is as long as it has to be for one record."""
    journal = Journal(state, on_loss=Losses())
    append(journal, b"x" * 10_000, b"y")
    assert all_of(state, limit_bytes=100) == [b"x" * 10_000, b"y"]


def test_closing_seals(state: StateDirectory) -> None:
    """After `close` nobody writes to the segment; a later record begins another."""
    journal = Journal(state, on_loss=Losses())
    append(journal, b"one")
    journal.close()
    assert [segment.sealed for segment in segments(state)] == [True]
    append(journal, b"two")
    assert [segment.sealed for segment in segments(state)] == [True, False]
    assert all_of(state) == [b"one", b"two"]


def test_positions_follow_the_file(state: StateDirectory) -> None:
    """With threads that append, `then` is called in the order of the file."""
    journal = Journal(state, on_loss=Losses(), segment_bytes=5000)
    order: list[tuple[Position | None, bytes]] = []

    def note(payload: bytes, position: Position | None) -> None:
        order.append((position, payload))

    def work(worker: int) -> None:
        for number in range(200):
            payload = b"%d-%d" % (worker, number)
            journal.append(payload, then=partial(note, payload))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [payload for _, payload in order] == all_of(state)
    assert [position for position, _ in order] == sorted(position or ("", 0) for position, _ in order)


def test_a_record_from_inside_another(state: StateDirectory) -> None:
    """A finalizer that ends a call while one is appended gets its record in as well."""
    journal = Journal(state, on_loss=Losses())
    positions: list[Position | None] = []

    def then(position: Position | None) -> None:
        positions.append(position)
        journal.append(b"inner", then=positions.append)

    journal.append(b"outer", then=then)
    append(journal, b"later")
    assert all_of(state) == [b"outer", b"inner", b"later"]


def test_an_interrupt_ends_the_segment(state: StateDirectory) -> None:
    """Ctrl-C in the middle passes on, and what follows stands in a segment of its own."""
    journal = Journal(state, on_loss=Losses())

    def then(_position: Position | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.append(b"one", then=then)
    append(journal, b"two")
    assert all_of(state) == [b"one", b"two"]
    assert len(segments(state)) == 2


def test_a_child_writes_its_own(state: StateDirectory) -> None:
    """A forked child begins a journal of its own, even with the lock held; the parent's stays locked."""
    journal = Journal(state, on_loss=Losses())
    append(journal, b"parent's")
    journal._lock.acquire()

    def act() -> list[bytes]:
        journal.restart()
        append(journal, b"child's")
        return [segment.name.encode() for segment in segments(state) if not segment.sealed]

    open_ones = in_child(act)
    journal._lock.release()
    assert len(open_ones) == 2
    assert sorted(all_of(state)) == [b"child's", b"parent's"]
    assert sorted(segment.sealed for segment in segments(state)) == [False, True]


def test_programs_started_do_not_hold_it(state: StateDirectory) -> None:
    """A program started meanwhile inherits no descriptor: the segment is sealed when its writer is gone."""
    journal = Journal(state, on_loss=Losses())
    append(journal, b"one")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        journal.close()
        assert eventually(lambda: [segment.sealed for segment in segments(state)] == [True])
        child.communicate(b"\n")


def test_no_directory(tmp_path: Path) -> None:
    """Without a directory each record is told as lost, and nothing raises."""
    losses = Losses()
    journal = Journal(StateDirectory(None, "no place"), on_loss=losses)
    assert append(journal, b"one", b"two") == [None, None]
    assert losses == ["no_directory", "no_directory"]
    assert "no place" in journal.problem


def test_a_directory_that_comes_back(state: StateDirectory) -> None:
    """Once the directory can be written again, so is the journal, without a restart."""
    losses = Losses()
    state.path.parent.chmod(0o777)  # type: ignore[union-attr] # open to everybody: refused
    journal = Journal(state, on_loss=losses)
    append(journal, b"lost")
    state.path.parent.chmod(0o700)  # type: ignore[union-attr]
    positions = append(journal, *[b"kept?"] * 100)
    assert positions[-1] is not None
    assert len(losses) == 1 + positions.count(None)
    assert journal.problem == ""


def test_reserve(state: StateDirectory) -> None:
    """The reserve is made when asked for, and only once."""
    journal = Journal(state, on_loss=Losses(), reserve_bytes=5000)
    append(journal, b"one")
    assert state.names(RESERVE) == ()
    journal.keep_reserve()
    journal.keep_reserve()
    assert (state.path / RESERVE).stat().st_size == 5000  # type: ignore[operator]


def test_too_large(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that no frame takes is told as such."""
    monkeypatch.setattr("otel_genapp.frames.PAYLOAD_LIMIT_BYTES", 100)
    losses = Losses()
    assert append(Journal(state, on_loss=losses), b"x" * 101) == [None]
    assert losses == ["too_large"]


def test_a_segment_that_is_gone(state: StateDirectory) -> None:
    """Reading a segment another process has removed finds nothing, and gets no further."""
    part = read(state, Segment("journal-0-000000", sealed=True, size=100), start=0)
    assert (part.payloads, part.position) == ((), 0)
