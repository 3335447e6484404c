"""Health checks on a clock that a test moves: dependencies that go down and up, hang and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from otel_genapp.health.prober import Prober
from otel_genapp.health.results import FAILED, PASSED, Check, Outcome

NOON_S = 1_800_000_000.0
"""A multiple of 300: the beginning of a block of history."""


@dataclass
class SimulatedClock:
    """A clock nobody sets and one that people set, moved together."""

    steady_s: float = 1000.0
    wall_s: float = NOON_S

    def steady(self) -> float:
        return self.steady_s

    def wall(self) -> float:
        return self.wall_s

    def pass_by(self, seconds: float) -> None:
        """Time goes by."""
        self.steady_s += seconds
        self.wall_s += seconds


@dataclass
class Dependency:
    """What checks look at: it is up, down or hangs; `runs` counts how often it was asked."""

    is_up: bool = True
    hangs: bool = False
    runs: int = 0
    hanging: list[Callable[[Outcome], None]] = field(default_factory=list)

    def begin(self, report: Callable[[Outcome], None]) -> None:
        self.runs += 1
        if self.hangs:
            self.hanging.append(report)
        else:
            report(PASSED if self.is_up else FAILED)

    def close(self) -> None:
        """Nothing runs here."""


@dataclass
class Simulation:
    """A prober whose checks are dependencies by their name, and what it published."""

    clock: SimulatedClock = field(default_factory=SimulatedClock)
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    published: list[tuple[str, bool, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prober = Prober(
            self._publish,
            run_with=lambda check: self.dependencies[check.name],
            clock=self.clock.steady,
            wall=self.clock.wall,
        )

    def add(
        self, name: str, *, every_s: float = 15, timeout_s: float = 2, critical: bool = True
    ) -> Dependency:
        """A check of a new dependency."""
        found = self.dependencies[name] = Dependency()
        self.prober.add(Check(name, lambda: None, every_s=every_s, timeout_s=timeout_s, critical=critical))
        return found

    def _publish(self, name: str, *, passes: bool, latency_s: float) -> None:
        self.published.append((name, passes, latency_s))

    def said(self) -> dict[str, tuple[str, str]]:
        """(status, reason) by check."""
        return {known.name: (known.status, known.reason) for known in self.prober.known()}
