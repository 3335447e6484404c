"""Workers whose disk, neighbours or files are broken: the sum stays true, or says what it lacks."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from otel_genapp.metrics import workers
from otel_genapp.metrics.tally import Tally
from otel_genapp.metrics.worker_files import fcntl
from otel_genapp.records import UsageRecord
from otel_genapp.state_directory import StateDirectory
from tests.metric_workers import Start, Worker, files

REQUESTS, CALLS = "genapp_http_requests_total", "genapp_llm_requests_total"


class Crashed(BaseException):
    """The process has died."""


class Crashing(StateDirectory):
    """Dies at a given change of a file, counted from 0."""

    __slots__ = ("left",)
    left: int

    def open_to_append(self, name: str) -> int | None:
        self._step()
        return super().open_to_append(name)

    def rename(self, name: str, new_name: str) -> bool:
        self._step()
        return super().rename(name, new_name)

    def remove(self, name: str) -> bool:
        self._step()
        return super().remove(name)

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crashed


def test_a_merge_that_crashes_doubles_and_loses_nothing(tmp_path: Path) -> None:
    """Whatever the merging process was about to change when it died, the next says the true sum."""
    survived = 0
    for step in range(40):
        state = StateDirectory(tmp_path / f"shop-{step}")
        crashing = Crashing(state.path)
        crashing.left = 1000
        journals: dict[str, list[UsageRecord]] = {}
        one = Worker(crashing, "1", journals)
        two, three, four = (Worker(state, name, journals) for name in "234")
        for worker in (two, three):
            worker.ask(times=2)
            worker.call()
            worker.metrics._persist(worker.metrics._take)
            worker.call()
            worker.die()
        one.ask()
        crashing.left = step
        try:
            one.scrape()
            survived += 1
        except Crashed:
            pass
        one.die()
        assert four.value(REQUESTS) == (5 if step > 1 else 4), step  # 2 changes write its own request down
        assert four.value(CALLS) == 4, step
        four.metrics.end()
    assert 0 < survived < 35


def test_the_replay_that_fails_is_tried_again(start: Start, expected_own_errors: list[object]) -> None:
    """While a journal cannot be read its worker's snapshot counts; then all of it, once."""
    one, two = start(), start()
    two.call()
    assert one.value(CALLS) == 1
    two.call()
    two.die()
    replay = one.metrics._others._replay

    def fail(position: tuple[str, int], tally: Tally) -> None:
        replay(position, tally)
        raise OSError("no journal today")

    one.metrics._others._replay = fail
    assert one.value(CALLS) == 1
    assert len(expected_own_errors) == 1
    one.metrics._others._replay = replay
    assert (one.value(CALLS), one.value(CALLS)) == (2, 2)


def test_a_merge_that_hangs_delays_nobody(start: Start, state: StateDirectory) -> None:
    """While somebody holds the merge, a scrape takes no second and leaves nobody out."""
    one, two, three = start(), start(), start()
    two.ask()
    one.scrape()
    fd = state.open_to_append("metrics-shop-merge")
    assert fd is not None
    fcntl.flock(fd, fcntl.LOCK_EX)
    two.ask()
    two.ask("/new")
    three.ask()
    assert two.value(REQUESTS) == 4
    three.die()
    began_s = time.monotonic()
    assert (one.value(REQUESTS), two.value(REQUESTS)) == (4, 4)
    assert time.monotonic() - began_s < 2
    os.close(fd)
    assert one.value(REQUESTS) == 4


def test_a_worker_that_hangs_is_not_waited_for(start: Start) -> None:
    """One that does not answer within a quarter of a second counts with its last snapshot."""
    one, two = start(), start()
    two.ask()
    one.scrape()
    with two.metrics._persisting:
        two.ask()
        began_s = time.monotonic()
        assert one.value(REQUESTS) == 1
        assert workers.PULL_TIMEOUT_S <= time.monotonic() - began_s < 1
    assert one.value(REQUESTS) == 2


@pytest.mark.parametrize("damage", [b"", b"nothing", b"\n00000002ffffffff []"])
def test_a_damaged_snapshot_is_set_aside(
    start: Start, state: StateDirectory, damage: bytes, expected_own_errors: list[object]
) -> None:
    """It is renamed and counted, the rest is served, and a dead worker's calls are taken from its journal."""
    one, two, three = start(), start(), start()
    two.call()
    two.ask()
    three.ask()
    assert one.value(REQUESTS) == 2
    two.die()
    assert state.path is not None
    (state.path / f"metrics-shop-{two.name}").write_bytes(damage)
    three.ask()
    fresh = start()
    assert (fresh.value(REQUESTS), fresh.value(CALLS)) == (2, 1)
    assert fresh.problems == ["damaged"]
    assert "metrics-2.bad" in files(state)
    assert len(expected_own_errors) == 1


def test_a_living_worker_is_read_again_after_damage(
    start: Start, state: StateDirectory, expected_own_errors: list[object]
) -> None:
    """While its file is damaged its last numbers count, and then its new ones."""
    one, two = start(), start()
    two.ask()
    assert one.value(REQUESTS) == 1
    server = two.metrics._server
    assert server is not None
    server.close()
    assert state.path is not None
    (state.path / f"metrics-shop-{two.name}").write_bytes(b"torn")
    assert one.value(REQUESTS) == 1
    two.ask()
    two.metrics._persist(two.metrics._take)
    assert one.value(REQUESTS) == 2


def test_a_snapshot_that_was_set_aside_is_written_anew(start: Start, state: StateDirectory) -> None:
    """A worker with nothing new writes its numbers down again once somebody misses them."""
    one, two = start(), start()
    two.ask()
    assert one.value(REQUESTS) == 1
    state.remove(f"metrics-shop-{two.name}")
    assert (one.value(REQUESTS), start().value(REQUESTS)) == (1, 1)


def test_bad_files_stay_few(start: Start, state: StateDirectory, expected_own_errors: list[object]) -> None:
    """Twenty damaged snapshots leave eight files at most."""
    assert state.path is not None
    one = start()
    for number in range(20):
        worker = start(f"{number + 50}")
        worker.metrics._persist(worker.metrics._take)
        worker.die()
        (state.path / f"metrics-shop-{worker.name}").write_bytes(b"torn")
        one.scrape()
    assert len([name for name in files(state) if name.endswith(".bad")]) == 8
    assert one.problems == ["damaged"] * 20


class Full(StateDirectory):
    """A disk that is full from some moment on."""

    __slots__ = ("is_full",)
    is_full: bool

    def open_to_append(self, name: str) -> int | None:
        return None if self.is_full else super().open_to_append(name)


def test_a_full_disk_is_told_and_own_numbers_served(tmp_path: Path) -> None:
    """What cannot be written down is shown all the same, with a note, and added up later."""
    state = Full(tmp_path / "shop-dev")
    state.is_full = False
    one, two = (Worker(state, name, {}) for name in "12")
    two.ask()
    assert (one.value(REQUESTS), one.metrics.problem) == (1, "")
    state.is_full = True
    one.ask(times=2)
    assert one.value(REQUESTS) == 3
    assert "cannot be written" in one.metrics.problem
    state.is_full = False
    assert (two.value(REQUESTS), one.value(REQUESTS), one.metrics.problem) == (3, 3, "")
    one.metrics.end()
    two.metrics.end()


def test_without_a_directory_a_worker_counts_for_itself(tmp_path: Path) -> None:
    """Where nothing can be written it serves its own numbers, and says that these are not all."""
    full = Full(tmp_path / "shop-dev")
    full.is_full = True
    for state in (StateDirectory(None, "no place"), full):
        worker = Worker(state, "1", {})
        worker.ask()
        assert worker.value(REQUESTS) == 1
        assert not worker.metrics.active
    assert "not added up" in worker.metrics.problem


class Blind(StateDirectory):
    """Files whose names match cannot be opened for reading: too many open files; nothing listed if all."""

    __slots__ = ("unseen",)
    unseen: str

    def names(self, start: str) -> tuple[str, ...]:
        return () if self.unseen == "." else super().names(start)

    def open_to_read(self, name: str) -> int | None:
        return None if self.unseen and re.search(self.unseen, name) else super().open_to_read(name)


@pytest.mark.parametrize(
    ("unseen", "is_told"),
    [(".", True), ("2$", True), ("dead$", True), (r"2\.lock$", False)],
    ids=["all", "a snapshot", "the dead", "a lock"],
)
def test_who_cannot_be_read_is_not_taken_for_dead(
    tmp_path: Path, expected_own_errors: list[object], unseen: str, is_told: bool
) -> None:
    """While files cannot be opened the last known sums are served, and nobody is buried."""
    state = Blind(tmp_path / "shop-dev")
    state.unseen = ""
    one, two, three = (Worker(state, name, {}) for name in "123")
    three.ask()
    two.ask()
    three.metrics.end()
    assert one.value(REQUESTS) == 2
    state.unseen = unseen
    one.ask()
    assert one.value(REQUESTS) == 3
    assert ("other workers" in one.metrics.problem) is is_told
    state.unseen = ""
    two.ask()
    assert (one.value(REQUESTS), two.value(REQUESTS), one.metrics.problem) == (4, 4, "")
    one.metrics.end()
    two.metrics.end()
    assert len(expected_own_errors) == is_told


def test_a_worker_whose_files_were_removed_is_there_again(start: Start, state: StateDirectory) -> None:
    """After somebody has emptied the directory, workers that are scraped or ask come back."""
    one, two = start(), start()
    one.ask()
    two.ask()
    assert one.value(REQUESTS) == 2
    for name in state.names("metrics-"):
        state.remove(name)
    assert (one.value(REQUESTS), two.value(REQUESTS), one.value(REQUESTS)) == (1, 2, 2)
