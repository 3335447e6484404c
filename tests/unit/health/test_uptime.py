"""Uptime from recorded history, right to the interval: on a simulated clock, over leaders, restarts and set clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_genapp import semconv
from otel_genapp.health.history import History, Slot
from otel_genapp.health.recorded import RecordFiles
from otel_genapp.health.results import FAILED, PASSED
from otel_genapp.read.sla import Targets, sla_dict
from otel_genapp.state_directory import StateDirectory
from tests.simulated import NOON_S, SimulatedClock, Simulation

TARGETS = Targets(uptime=0.999, response_ms=3000, response_share=0.95)
DAY_S = 86_400.0
BUCKETS = semconv.HTTP_DURATION.buckets


class App:
    """One worker that checks its dependencies and keeps the history, second by second."""

    def __init__(self, state: StateDirectory, clock: SimulatedClock, *, phase_s: int = 0) -> None:
        self.clock = clock
        self.shop = Simulation(clock)
        clock.pass_by(phase_s)
        self.database = self.shop.add("database")
        self.files = RecordFiles(state)
        self.history = History(self.files, keep_days=31)
        self.history.take_up(clock.wall_s)
        self.slot = Slot()
        self.counts = [0] * (len(BUCKETS) + 1)
        self.instance = "server"

    def live(self, seconds: int) -> None:
        """Work for so long."""
        for _ in range(seconds):
            self.shop.prober.step()
            last, ended = self.shop.prober.take_results()
            up = self.slot.judge(int(self.clock.wall_s // 15), last=last, ended=ended, before=self.history.up)
            if up is not None:
                self.history.record(
                    self.clock.wall_s,
                    self.clock.steady_s,
                    up=up,
                    counted=lambda: (self.instance, list(self.counts)),
                )
            self.clock.pass_by(1)

    def uptime(self, window_s: float = DAY_S) -> tuple[int, int, int]:
        """(intervals, those down, those in which it did not run) up to the last second it lived."""
        said = self.answer(window_s)["uptime"]
        assert isinstance(said, dict)
        return said["intervals"], said["intervals_down"], said["intervals_not_running"]

    def answer(self, window_s: float = DAY_S) -> dict[str, object]:
        """The whole answer."""
        return sla_dict(self.files.read(), TARGETS, window_s=window_s, now_s=self.clock.wall_s - 1)


@pytest.fixture(params=["memory", "disk"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateDirectory:
    return StateDirectory(None if request.param == "memory" else tmp_path / "shop-dev")


@pytest.fixture
def disk(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "shop-dev")


@pytest.mark.parametrize("phase_s", [0, 1, 7, 14])
def test_a_dependency_goes_down_and_up(state: StateDirectory, phase_s: int) -> None:
    """Each failed probe is one interval, wherever in the intervals the probes fall."""
    app = App(state, SimulatedClock(), phase_s=phase_s)
    app.live(600)
    assert app.uptime()[1:] == (0, 0)
    app.database.is_up = False
    app.live(45)
    app.database.is_up = True
    app.live(600 + 15 - phase_s)
    intervals, down, missed = app.uptime()
    assert (intervals, down, missed) == (84, 3, 0)


def test_a_hanging_dependency_is_down_as_long_as_it_hangs(state: StateDirectory) -> None:
    """Timeouts count like failures, probe for probe."""
    app = App(state, SimulatedClock())
    app.live(300)
    app.database.hangs = True
    app.live(60)
    app.database.hangs = False
    app.database.hanging.clear()
    app.shop.add("database")
    app.live(240)
    assert app.uptime() == (40, 4, 0)


@pytest.mark.parametrize("phase_s", [0, 1, 7, 14])
@pytest.mark.parametrize("name", ["database", "partner"])
def test_a_check_that_takes_its_time_at_first_is_no_downtime(
    state: StateDirectory, phase_s: int, name: str
) -> None:
    """Added or replaced while the app runs, up or down, it changes nothing before its first run has ended."""
    app = App(state, SimulatedClock(), phase_s=phase_s)
    app.live(300)
    for is_up in (True, False):
        app.database.is_up = is_up
        app.live(30)
        late = app.shop.add(name, every_s=15, timeout_s=60)
        late.hangs = True
        app.live(50)
        late.hanging.pop()(PASSED if is_up else FAILED)
        late.hangs, late.is_up = False, is_up
        if name == "database":
            app.database = late
        app.live(70)
    _, down, missed = app.uptime()
    assert (10 <= down <= 11, missed) == (True, 0)


def test_a_slow_first_check_is_waited_for(disk: StateDirectory) -> None:
    """A restarted app whose first check hangs is as it was before, and has not been away."""
    clock = SimulatedClock()
    for was_up in (True, False):
        app = App(disk, clock)
        app.live(30)
        app.database.is_up = was_up
        app.live(30)
        again = App(disk, clock)
        again.shop.add("database", timeout_s=60).hangs = True
        before = again.uptime()
        again.live(45)
        _, down, missed = again.uptime()
        assert (down - before[1] >= 2, missed) == (not was_up, 0)
        again.shop.dependencies["database"].hanging.pop()(PASSED)
        again.live(30)


def test_the_answer_in_full(state: StateDirectory) -> None:
    """Uptime and response time: current, target, compliant, and where that comes from."""
    app = App(state, SimulatedClock())
    app.live(150)
    app.database.is_up = False
    app.live(15)
    app.database.is_up = True
    app.counts[BUCKETS.index(0.5)] += 90
    app.counts[BUCKETS.index(5.0)] += 10
    app.live(135)
    answer = app.answer(3600)
    checked_by = answer.pop("checked_by")
    assert isinstance(checked_by, dict)
    assert checked_by["alive_at"].startswith("2027-01-15T08:04:")
    assert answer == {
        "window": {"from": "2027-01-15T07:04:59Z", "to": "2027-01-15T08:04:59Z", "seconds": 3600},
        "since": "2027-01-15T08:00:00Z",
        "uptime": {
            "current": 0.95,
            "target": 0.999,
            "compliant": False,
            "intervals": 20,
            "intervals_down": 1,
            "intervals_not_running": 0,
            "interval_s": 15,
        },
        "response_time": {
            "current": 3750.0,
            "target": 3000,
            "compliant": False,
            "unit": "ms",
            "quantile": 0.95,
            "share_within_target": 0.92,
            "requests": 100,
        },
    }


def test_nothing_is_known_at_first(state: StateDirectory) -> None:
    """Without history nothing is said to be kept or broken."""
    answer = App(state, SimulatedClock()).answer()
    assert answer["uptime"] == {
        "current": None,
        "target": 0.999,
        "compliant": None,
        "intervals": 0,
        "intervals_down": 0,
        "intervals_not_running": 0,
        "interval_s": 15,
    }
    assert (answer["since"], answer["checked_by"]) == (None, None)


def test_a_window_sees_no_more_than_it_is_wide(state: StateDirectory) -> None:
    """What failed before the window does not count in it."""
    app = App(state, SimulatedClock())
    app.database.is_up = False
    app.live(150)
    app.database.is_up = True
    app.live(1200)
    assert [app.uptime(window_s) for window_s in (1200, 1215, DAY_S)] == [(80, 0, 0), (81, 1, 0), (90, 10, 0)]


def test_a_killed_worker_is_followed_by_another(disk: StateDirectory) -> None:
    """The next leader goes on from the files, and what was down stays down."""
    clock = SimulatedClock()
    first = App(disk, clock)
    first.live(100)
    first.database.is_up = False
    first.live(40)
    clock.pass_by(5)
    second = App(disk, clock)
    second.live(455)
    assert second.uptime() == (40, 3, 0)


@pytest.mark.parametrize(
    ("pause_s", "missed"), [(1, 0), (7, 0), (14, 0), (15, 0), (45, 2), (46, 2), (300, 19), (3600, 239)]
)
def test_only_a_pause_longer_than_an_interval_is_down(
    disk: StateDirectory, pause_s: int, missed: int
) -> None:
    """A planned restart is none, an hour without a process is an hour."""
    clock = SimulatedClock()
    App(disk, clock).live(303)
    clock.pass_by(pause_s)
    app = App(disk, clock)
    app.live(300)
    assert app.uptime()[1:] == (0, missed)


def test_nobody_running_counts_up_to_now(disk: StateDirectory) -> None:
    """Whoever reads long after the last sign of life sees the time since then as down."""
    app = App(disk, SimulatedClock())
    app.live(300)
    app.clock.pass_by(301)
    assert app.uptime() == (40, 0, 20)


def test_a_clock_set_back_counts_no_interval_twice(state: StateDirectory) -> None:
    """An hour lived twice is an hour; what failed in either of them failed."""
    app = App(state, SimulatedClock())
    app.live(3600)
    app.clock.wall_s -= 3600
    app.live(600)
    app.database.is_up = False
    app.live(15)
    app.database.is_up = True
    app.live(3600 - 615)
    assert app.uptime() == (240, 1, 0)
    app.live(300)
    assert app.uptime() == (260, 1, 0)


def test_a_clock_set_forward_is_no_downtime(state: StateDirectory) -> None:
    """What the clock left out counts neither way, and comes to count if the clock is set back."""
    app = App(state, SimulatedClock())
    app.live(300)
    app.clock.wall_s += 7200
    app.live(300)
    assert app.uptime() == (40, 0, 0)
    app.clock.wall_s -= 7200
    app.live(300)
    assert app.uptime()[1:] == (0, 0)
    app.clock.pass_by(3600)
    app.live(30)
    assert app.uptime()[2] > 200


def test_a_host_that_slept_was_down(state: StateDirectory) -> None:
    """Time in which nothing ran is downtime, though no clock was set."""
    app = App(state, SimulatedClock())
    app.live(300)
    app.clock.pass_by(600)
    app.live(300)
    assert app.uptime() == (80, 0, 40)


def test_days_are_kept_as_long_as_the_window_wants(disk: StateDirectory) -> None:
    """Old days go, at midnight a new one begins, and nothing is lost between them."""
    clock = SimulatedClock(wall_s=NOON_S - 8 * 3600 - 60)
    app = App(disk, clock)
    app.history = History(app.files, keep_days=2)
    app.history.take_up(clock.wall_s)
    app.live(120)
    assert app.uptime() == (8, 0, 0)
    for _ in range(3):
        clock.pass_by(DAY_S)
        app.live(15)
    assert len(disk.names("sla-day-")) == 2


@pytest.mark.parametrize(
    "said", [b"", b"nonsense", b"[]", b'{"version":2}', b'{"version":1,"blocks":{"x":1}}']
)
def test_damaged_files_stop_nobody(disk: StateDirectory, said: bytes) -> None:
    """What cannot be read counts for nothing, and is written anew."""
    app = App(disk, SimulatedClock())
    app.live(60)
    for name in (*disk.names("sla-day-"), "sla-now"):
        disk.write_private(name, said)
    again = App(disk, app.clock)
    again.live(60)
    assert again.uptime() == (4, 0, 0)


def test_requests_are_counted_once_whoever_leads(disk: StateDirectory) -> None:
    """A new leader goes on where the last one was; a new server starts over."""
    clock = SimulatedClock()
    first = App(disk, clock)
    first.counts[0] = 10
    first.live(30)
    second = App(disk, clock)
    second.counts[0] = 15
    second.live(30)
    third = App(disk, clock)
    third.instance, third.counts[1] = "restarted", 4
    third.live(30)
    third.counts[1] = 5
    third.history.serve(clock.wall_s, lambda: (third.instance, third.counts), goes_on=True)
    third.counts[1] = 1
    third.live(30)
    short = App(disk, clock)  # ends before it has seen anything
    counts = [3, *third.counts[1:]]
    short.history.serve(clock.wall_s, lambda: (third.instance, counts), goes_on=False)
    again = App(disk, clock)  # the same process starts over, and counts as much
    again.history.serve(clock.wall_s, lambda: (third.instance, counts), goes_on=False)
    response_time = short.answer()["response_time"]
    assert isinstance(response_time, dict)
    assert response_time["requests"] == 15 + 5 + 1 + 3 + (3 + 1)
    assert short.uptime()[1:] == (0, 0)


def test_a_directory_that_cannot_be_written_loses_nothing_seen(disk: StateDirectory) -> None:
    """While nothing can be written it is said so, and what was seen is written afterwards."""
    app = App(disk, SimulatedClock())
    app.live(60)
    assert disk.path is not None
    disk.path.chmod(0o755)
    app.live(60)
    assert not app.history.record(app.clock.wall_s, app.clock.steady_s, up=True)
    disk.path.chmod(0o700)
    app.live(60)
    assert app.uptime() == (12, 0, 0)
