"""Runs the checks when they are due, keeps what they said, and answers from that at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from otel_genapp.errors import ConfigError
from otel_genapp.health.probes import Known, Probe
from otel_genapp.health.results import Check, Outcome
from otel_genapp.health.runner import Runner

CHECKS = 50
"""The budget of the label `check`."""
IDLE_S = 60.0
LONGEST_WAIT_S = 5.0


class Running(Protocol):
    """What runs a check; see `runner.Runner`."""

    def begin(self, report: Callable[[Outcome], None], /) -> None: ...
    def close(self) -> None: ...


class Publish(Protocol):
    """Hears of every result."""

    def __call__(self, name: str, /, *, passes: bool, latency_s: float) -> None: ...


class Prober:
    """The checks of one process.

    `publish` hears of every result. `clock` is one that nobody sets, `wall`
    is UTC seconds since the epoch. Somebody calls `step` again and again: it begins what is due and
    gives up what hangs.
    """

    def __init__(
        self,
        publish: Publish,
        *,
        run_with: Callable[[Check], Running] = Runner,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._publish = publish
        self._run_with = run_with
        self._clock = clock
        self._wall = wall
        self._checks: dict[str, Check] = {}
        self.restart()

    def restart(self) -> None:
        """Know nothing of the checks' results; for the child of a fork."""
        self.changed = threading.Condition(threading.Lock())
        """Notified where there is something new, or something to do."""
        self._probes = {name: Probe(check, now_s=self._clock()) for name, check in self._checks.items()}
        self._running: dict[str, Running] = {}
        self._ended: dict[str, bool] = {}
        self._news = 0
        self._waiting: dict[str, float] = {}

    def add(self, check: Check) -> None:
        """Run a check from now on, instead of one of the same name.

        Raises:
            ConfigError: there are too many.
        """
        with self.changed:
            if check.name not in self._checks and len(self._checks) >= CHECKS:
                raise ConfigError(f"there can be at most {CHECKS} health checks")
            self._checks = {**self._checks, check.name: check}
            self._probes = {**self._probes, check.name: Probe(check, now_s=self._clock())}
            before = self._running.pop(check.name, None)
            self._tell()
        if before is not None:
            before.close()

    @property
    def checks(self) -> Mapping[str, Check]:
        """The checks by name, in the order they came."""
        return self._checks

    def step(self) -> float:
        """Begin what is due and give up what hangs; after how many seconds to come again."""
        now_s = self._clock()
        with self.changed:
            expired = [
                probe for probe in self._probes.values() if probe.expire(now_s=now_s, at_s=self._wall())
            ]
            due = [probe for probe in self._probes.values() if probe.is_due(now_s)]
            for probe in due:
                probe.begin(now_s)
            for probe in expired:
                self._notice(probe)
            if expired:
                self._tell()
        for probe in expired:
            self._publish(probe.check.name, passes=False, latency_s=probe.latency_s)
        for probe in due:
            runner = self._runner(probe)
            if runner is not None:
                runner.begin(self._report_of(probe))
        with self.changed:
            times = [probe.next_s() for probe in self._probes.values()]
        return max(min(times, default=now_s + IDLE_S) - self._clock(), 0.0)

    def settle(self, names: tuple[str, ...] | None = None, *, limit_s: float = LONGEST_WAIT_S) -> None:
        """Wait until each check has a result that stands, at most as long as the slowest of them may take.

        One time is waited for all who ask: a check that does not come up in it is not waited for again.
        """
        with self.changed:
            wanted = [probe for name, probe in self._probes.items() if names is None or name in names]
            now_s, is_told = self._clock(), False
            limit_at_s = now_s + limit_s
            while True:
                late = {
                    probe.check.name: probe.check.timeout_s for probe in wanted if not probe.is_fresh(now_s)
                }
                for probe in wanted:
                    if probe.check.name not in late:
                        self._waiting.pop(probe.check.name, None)
                ends = [
                    self._waiting.setdefault(name, now_s + min(timeout_s + 0.1, LONGEST_WAIT_S))
                    for name, timeout_s in late.items()
                ]
                left_s = min(max(ends, default=now_s), limit_at_s) - now_s
                if left_s <= 0:
                    return
                if not is_told:
                    self._tell()
                    is_told = True
                self.changed.wait(left_s)
                now_s = self._clock()

    def wait(self, news: int, timeout_s: float) -> int:
        """Wait until there is something newer than `news`, not longer; the number of the newest."""
        with self.changed:
            self.changed.wait_for(lambda: self._news != news, timeout_s)
            return self._news

    def tell(self) -> None:
        """Wake whoever waits."""
        with self.changed:
            self._tell()

    def known(self) -> list[Known]:
        """What is known of each check, in the order they came."""
        now_s = self._clock()
        with self.changed:
            return [probe.known(now_s) for probe in self._probes.values()]

    def take_results(self) -> tuple[dict[str, bool | None], dict[str, bool]]:
        """Of the critical checks: what the last runs said, and whether all that ended since this was asked passed."""
        with self.changed:
            critical = {name: probe for name, probe in self._probes.items() if probe.check.critical}
            ended, self._ended = self._ended, {}
            last = {name: probe.passes for name, probe in critical.items()}
            return last, {name: passed for name, passed in ended.items() if name in critical}

    def close(self) -> None:
        """Run nothing more."""
        with self.changed:
            running, self._running = self._running, {}
        for one in running.values():
            one.close()

    def _runner(self, probe: Probe) -> Running | None:
        """What runs its check; None if another one has taken its place meanwhile."""
        name = probe.check.name
        with self.changed:
            if self._probes.get(name) is not probe:
                return None
            found = self._running.get(name)
            if found is None:
                found = self._running[name] = self._run_with(probe.check)
            return found

    def _report_of(self, probe: Probe) -> Callable[[Outcome], None]:
        changed = self.changed

        def report(outcome: Outcome) -> None:
            with changed:
                is_new = probe.end(outcome, now_s=self._clock(), at_s=self._wall())
                is_ours = self._probes.get(probe.check.name) is probe
                if is_new:
                    self._notice(probe)
                self._tell()
            if is_new and is_ours:
                self._publish(probe.check.name, passes=probe.passes is True, latency_s=probe.latency_s)

        return report

    def _tell(self) -> None:
        self._news += 1
        self.changed.notify_all()

    def _notice(self, probe: Probe) -> None:
        """Remember a result until it is asked for; under the lock."""
        name = probe.check.name
        if self._probes.get(name) is probe:
            self._ended[name] = self._ended.get(name, True) and probe.passes is True
