"""The files workers share: read as of one moment, merged by one, left behind by nobody."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_genapp.metrics.fork import restart_counts
from otel_genapp.metrics.instance import find_instance
from otel_genapp.metrics.snapshot import Snapshot
from otel_genapp.metrics.worker_files import UNLOCKED_LIMIT_S, WorkerFiles, fcntl
from otel_genapp.state_directory import StateDirectory
from tests.forked import in_child
from tests.metric_workers import Start, Worker, files

REQUESTS = "genapp_http_requests_total"


class Interleaved(StateDirectory):
    """Somebody else does something while this one looks: before the listing, or after it."""

    __slots__ = ("meanwhile", "when")
    meanwhile: Callable[[], object]
    when: str

    def names(self, start: str) -> tuple[str, ...]:
        if self.when == "before":
            self._act()
        found = super().names(start)
        if self.when == "after":
            self._act()
        return found

    def open_to_read(self, name: str) -> int | None:
        if self.when == "file" and not name.endswith(("dead", "lock")):
            self._act()
        return super().open_to_read(name)

    def _act(self) -> None:
        act, self.meanwhile = self.meanwhile, lambda: None
        act()


@pytest.mark.parametrize("when", ["before", "after", "file"])
def test_a_merge_while_somebody_reads_is_seen_whole(tmp_path: Path, when: str) -> None:
    """Workers merged between the looks of another are neither missed nor counted twice."""
    state = Interleaved(tmp_path / "shop-dev")
    state.when, state.meanwhile = "", lambda: None
    one = Worker(state, "1", {})
    two, three, four = (Worker(StateDirectory(state.path), name, {}) for name in "234")
    for worker in (two, three, four):
        worker.ask()
    assert one.value(REQUESTS) == 3
    three.die()
    four.die()
    view = one.metrics._files.look(one.name)
    assert (sorted(view.living), sorted(view.gone)) == ([two.name], [three.name, four.name])
    state.when, state.meanwhile = when, two.scrape
    view = one.metrics._files.look(one.name)
    assert (sorted(view.living), view.gone) == ([two.name], {})
    assert view.dead.folded == (three.name, four.name)
    assert one.value(REQUESTS) == 3
    one.metrics.end()
    two.metrics.end()


def test_files_that_never_stand_still_are_told(tmp_path: Path, expected_own_errors: list[object]) -> None:
    """Who merges without end makes others say what they knew last, not wait without end."""
    state = Interleaved(tmp_path / "shop-dev")
    state.when, state.meanwhile = "", lambda: None
    one, two = Worker(state, "1", {}), Worker(StateDirectory(state.path), "2", {})
    two.ask()
    assert one.value(REQUESTS) == 1
    changes = iter(range(10_000))

    def merge_again() -> None:
        state.meanwhile = merge_again
        two.metrics._files.write("dead", Snapshot(folded=(f"{next(changes)}",)))

    state.when, state.meanwhile = "after", merge_again
    began_s = time.monotonic()
    assert one.value(REQUESTS) == 1
    assert time.monotonic() - began_s < 2
    assert "keep changing" in one.metrics.problem
    assert len(expected_own_errors) == 1
    state.when = ""
    one.metrics.end()
    two.metrics.end()


def test_a_child_forked_while_merging_holds_no_lock(start: Start) -> None:
    """The merge is free again as soon as its holder lets go, whoever has a copy of the descriptor."""
    one = start()
    merging = one.metrics._files
    with merging.alone(0) as alone:
        assert alone
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with merging.alone(0) as again:
            assert again
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_forked_child_counts_from_zero(start: Start, state: StateDirectory) -> None:
    """A worker's child is one more worker; the parent lives on after the child has gone."""
    parent = start()
    parent.ask(times=3)

    def be_a_child() -> list[float | None]:
        restart_counts(parent.provider)
        parent.reader.reset_lock()
        parent.instruments.forget()
        parent.metrics.restart("c".rjust(16, "0"))
        before = parent.value(REQUESTS)
        parent.ask(times=2)
        return [before, parent.value(REQUESTS)]

    parent.metrics._persist(parent.metrics._take)
    assert in_child(be_a_child) == [3, 5]
    assert not parent.metrics._files.is_dead(parent.name)
    assert parent.value(REQUESTS) == 5
    assert "metrics-c.lock" not in files(state)


@pytest.mark.parametrize(
    ("over", "held", "age_s", "expected"),
    [
        pytest.param(True, False, 0, [], id="ended"),
        pytest.param(True, True, 0, ["dead", "merge", "w", "w.lock"], id="ended, a worker lives on"),
        pytest.param(False, False, 0, ["dead", "merge", "w", "w.lock"], id="nobody can say"),
        pytest.param(False, False, UNLOCKED_LIMIT_S + 60, [], id="nobody can say, old"),
        pytest.param(False, True, UNLOCKED_LIMIT_S + 60, ["dead", "merge", "w", "w.lock"], id="old, lives"),
    ],
)
def test_what_ended_servers_left_is_removed(
    state: StateDirectory, over: bool, held: bool, age_s: float, expected: list[str]
) -> None:
    """All of it, but nothing while a worker holds its lock, in another container perhaps."""
    names = ["metrics-1_2_3-dead", "metrics-1_2_3-merge", "metrics-1_2_3-w", "metrics-1_2_3-w.lock"]
    assert state.path is not None
    for name in (*names, "new-metrics-1_2_3-w"):
        fd = state.open_to_append(name)
        assert fd is not None
        os.utime(state.path / name, (time.time() - age_s,) * 2)
        if not (held and name.endswith(".lock")):
            os.close(fd)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX)
            holding = fd
    WorkerFiles(state, "shop", on_problem=print).sweep(lambda instance: over and instance == "1_2_3")
    assert [name.removeprefix("metrics-1_2_3-") for name in state.names("metrics-")] == expected
    assert bool(state.names("new-")) is bool(expected)
    if held:
        os.close(holding)


def test_a_server_that_starts_sweeps(state: StateDirectory) -> None:
    """What is left of a server that has ended is gone once another begins, the sockets too."""
    ended = in_child(lambda: find_instance("").id.split("_"))
    _, started, place = ended
    for end in ("dead", "merge", "w.lock"):
        fd = state.open_to_append(f"metrics-1_{started}_{place}-{end}")
        assert fd is not None
        os.close(fd)
    Worker(state, "1", {}).metrics.end()
    assert [name for name in files(state) if place in name] == []
