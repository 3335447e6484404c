"""A journal whose process is killed, whose disk is full, and who may open no more files."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from otel_genapp.ledger.journal import RESERVE, Journal, Position
from otel_genapp.ledger.segments import read, segments
from otel_genapp.state_directory import StateDirectory
from tests.forked import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")


def state_in(folder: Path) -> StateDirectory:
    folder.chmod(0o700)
    return StateDirectory(folder / "shop-dev")


def records_in(state: StateDirectory) -> tuple[list[bytes], int]:
    """Every record that can be read, and how many places are torn."""
    found: list[bytes] = []
    torn = 0
    for segment in segments(state):
        start = 0
        while start < segment.size:
            part = read(state, segment, start=start)
            found += part.payloads
            torn += part.torn
            start = max(part.position, start + 1)
    return found, torn


def write_until_killed(state: StateDirectory, name: str, *, issued: int, acknowledged: int) -> None:
    """Say what is going to be appended, append it, and say that it is: on descriptors outside the journal."""
    journal = Journal(state, on_loss=lambda _reason: os._exit(1), segment_bytes=20_000)
    chance = random.Random(name)  # noqa: S311 - repeatable on purpose
    number = 0
    while True:
        said = f"{name}.{number}".encode()
        os.write(issued, b"\n" + said + b";")
        journal.append(said + b" " * chance.randrange(2000), then=lambda _position: None)
        os.write(acknowledged, b"\n" + said + b";")
        number += 1


def kill_writers(folder: Path, kills: int) -> None:
    state, chance = state_in(folder), random.Random(11)  # noqa: S311 - repeatable on purpose
    ledgers = {which: folder / which for which in ("issued", "acknowledged")}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptors = {which: os.open(path, flags, 0o600) for which, path in ledgers.items()}
    alive: list[int] = []
    for number in range(kills):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(state, f"writer{number}", **descriptors)
            finally:
                os._exit(1)
        alive.append(child)
        time.sleep(chance.uniform(0.002, 0.02))
        if len(alive) > 2:  # up to three write at once
            victim = alive.pop(chance.randrange(len(alive)))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
    for child in alive:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for descriptor in descriptors.values():
        os.close(descriptor)
    # Their own lines may be torn as well: whole is what has its end.
    issued, acknowledged = (
        {line[:-1] for line in ledgers[which].read_bytes().split() if line.endswith(b";")}
        for which in ledgers
    )
    found = Counter(record.strip() for record in records_in(state)[0])
    assert acknowledged - set(found) == set()
    assert set(found) - issued == set()
    assert [record for record, times in found.items() if times > 1] == []
    assert len(acknowledged) > kills
    assert all(segment.sealed for segment in segments(state))


@pytest.mark.slow
def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    """After 200 kills at random moments every acknowledged record is there once, and no other."""
    kill_writers(tmp_path, 200)


@pytest.mark.soak
def test_killed_writers_lose_nothing_in_the_long_run(tmp_path: Path) -> None:
    """The same with 1,000 kills."""
    kill_writers(tmp_path, 1000)


class SmallDisk:
    """`os.write` on a disk with so much room: the part that fits, then ENOSPC."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is told, part of a record harms no other, and with room again it goes on."""
    state = state_in(tmp_path)
    reasons: list[str] = []
    kept: list[Position | None] = []
    disk = SmallDisk(50_050)
    monkeypatch.setattr(os, "write", disk)
    journal = Journal(state, on_loss=reasons.append)
    for number in range(60):
        journal.append(b"%03d" % number * 400, then=kept.append)
    disk.room = 100_000
    for number in range(60, 70):
        journal.append(b"%03d" % number * 400, then=kept.append)
    found, torn = records_in(state)
    assert found == [b"%03d" % number * 400 for number in range(70) if kept[number] is not None]
    assert [position is not None for position in kept[:30] + kept[60:]] == [True] * 40
    assert reasons == ["disk_full"] * kept.count(None)
    assert kept.count(None) > 5
    assert torn == 1


def test_the_reserve_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that found the disk full is kept whole in the room of the reserve, and nothing is torn."""
    state = state_in(tmp_path)
    reasons: list[str] = []
    kept: list[Position | None] = []
    journal = Journal(state, on_loss=reasons.append, reserve_bytes=4096)
    journal.append(b"one", then=kept.append)
    journal.keep_reserve()
    disk, remove = SmallDisk(100), StateDirectory.remove

    def removed(state: StateDirectory, name: str) -> bool:
        disk.room += 4096 if name == RESERVE else 0
        return remove(state, name)

    monkeypatch.setattr(os, "write", disk)
    monkeypatch.setattr(StateDirectory, "remove", removed)
    journal.append(b"x" * 500, then=kept.append)
    assert (records_in(state), reasons, kept.count(None)) == (([b"one", b"x" * 500], 0), [], 0)
    assert state.names(RESERVE) == ()


def test_no_more_files(tmp_path: Path) -> None:
    """An open segment goes on past its bound when no other can be opened; without one each loss is told."""
    state = state_in(tmp_path)

    def act() -> tuple[int, list[str]]:
        reasons: list[str] = []
        journal = Journal(state, on_loss=reasons.append, segment_bytes=1000)
        kept: list[Position | None] = []
        journal.append(b"x" * 900, then=kept.append)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(50):
            journal.append(b"y" * 900, then=kept.append)
        another = Journal(state, on_loss=reasons.append)
        another.append(b"lost", then=kept.append)
        return len([position for position in kept if position]), reasons

    kept, reasons = in_child(act)
    assert (kept, reasons) == (51, ["too_many_files"])
    assert len(records_in(state)[0]) == 51
