"""How arms are compared: in turn, all of them alive at once, so that a ratio compares neighbours in time.

Every arm is a process in its environment. Each generation starts new ones, because two processes of
the same program already differ by a few per cent.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.environments import python_of
from tests.environments import ROOT

CONFIGURING = ("OTEL_", "GENAPP_", "LANGFUSE_", "LOGFIRE_", "OPENAI_", "OPENLIT_", "TRACELOOP_")
"""Variables with which somebody's shell would change what an arm does."""
DEADLINE_S = 20.0
Round = dict[str, float]
"""Arm -> µs of CPU for one piece of work."""


@dataclass(frozen=True)
class Figure:
    """What comes of a round, and the most its median may be; None: shown, not judged."""

    name: str
    of: Callable[[Round], float]
    limit: float | None = None
    interval: bool = False
    """Whether it is enough that the 95 % confidence interval of the median reaches down to the limit."""

    def is_held(self, values: Sequence[float]) -> bool:
        """Whether what the rounds gave is within the limit."""
        if self.limit is None:
            return True
        if not self.interval:
            return statistics.median(values) <= self.limit
        return interval_of_median(values)[0] <= self.limit


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, by order statistics."""
    ordered = sorted(values)
    rank = max(math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))), 0)
    return ordered[rank], ordered[-1 - rank]


def ratio(ours: str, peer: str, limit: float | None = None) -> Figure:
    """What `ours` costs over what `peer` costs."""
    return Figure(f"{ours} / {peer}", lambda measured: measured[ours] / measured[peer], limit)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms and what is made of them; of an arm with one in `bare`, what it adds to that one.

    Attributes:
        arms: arm -> its environment.
        bare: arm -> the arm beside it, in the same environment.
        counts: arm -> how often it works in one measurement.
        turns: how often an arm and its bare one are compared in a round, whose value is the median.
    """

    title: str
    arms: Mapping[str, str]
    counts: Mapping[str, int]
    figures: Sequence[Figure]
    bare: Mapping[str, str] = field(default_factory=dict)
    turns: int = 1

    def measure(self, generations: int, rounds: int, *, folder: Path) -> list[Round]:
        """One round after the other."""
        found = []
        for _ in range(generations):
            with ExitStack() as stack:
                alone = {(self.bare[arm], self.arms[arm]) for arm in self.bare}
                workers = {
                    (arm, environment): stack.enter_context(_running(arm, environment, folder))
                    for arm, environment in (*self.arms.items(), *sorted(alone))
                }
                for (arm, _environment), worker in workers.items():
                    worker.measure(self.counts[arm])
                found += [self._round(workers) for _ in range(rounds)]
        return found

    def _round(self, workers: Mapping[tuple[str, str], Worker]) -> Round:
        measured = {}
        for arm in random.sample(list(self.arms), len(self.arms)):
            environment, count = self.arms[arm], self.counts[arm]
            worker = workers[arm, environment]
            if arm not in self.bare:
                measured[arm] = worker.measure(count)
                continue
            beside = workers[self.bare[arm], environment]
            turns = [_turn(worker, beside, count) for _ in range(self.turns)]
            measured[arm] = statistics.median(added for added, _without in turns)
            measured[f"bare/{arm}"] = statistics.median(without for _added, without in turns)
        return measured


class Worker:
    """An arm's process."""

    def __init__(self, arm: str, environment: str, folder: Path) -> None:
        self.arm = arm
        variables = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}
        self.process = subprocess.Popen(
            [str(python_of(environment)), "-m", "tests.bench.worker", arm, str(folder)],
            cwd=ROOT,
            env={**variables, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, count: int) -> float:
        """µs of CPU for one of `count` pieces of work.

        Raises:
            RuntimeError: the process has ended; it said why on stderr.
        """
        to_worker, from_worker = self.process.stdin, self.process.stdout
        if to_worker is None or from_worker is None:
            raise RuntimeError("a worker without pipes")
        with suppress(BrokenPipeError):
            print(count, file=to_worker, flush=True)
        answer = from_worker.readline()
        if not answer:
            raise RuntimeError(f"the arm {self.arm} ended")
        return float(answer)


def _turn(worker: Worker, beside: Worker, count: int) -> tuple[float, float]:
    """(what the worker adds, what the one beside it costs alone)."""
    # Bare, arm, arm, bare: a drift of the machine's speed meets both alike.
    first = beside.measure(count)
    with_telemetry = [worker.measure(count) for _ in range(2)]
    without = statistics.mean((first, beside.measure(count)))
    return statistics.mean(with_telemetry) - without, without


@contextmanager
def _running(arm: str, environment: str, folder: Path) -> Iterator[Worker]:
    """A worker, ended at the end."""
    worker = Worker(arm, environment, folder)
    try:
        yield worker
    finally:
        # It ends what it started, and then itself.
        try:
            worker.process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.communicate()


def print_costs(title: str, rounds: Sequence[Round]) -> None:
    """Median and range of every arm."""
    print(f"\n{title}\n{'':32}{'median':>10}{'min':>10}{'max':>10}")
    for arm in sorted(rounds[0]):
        values = [measured[arm] for measured in rounds]
        print(f"{arm:32}{statistics.median(values):10.1f}{min(values):10.1f}{max(values):10.1f}")


def print_figures(figures: Sequence[Figure], rounds: Sequence[Round]) -> bool:
    """The figures, round by round against the neighbour, and whether all medians are within bounds."""
    print(f"\n{'':48}{'median':>8}{'min':>8}{'max':>8}{'bound':>8}")
    held = True
    for figure in figures:
        values = [figure.of(measured) for measured in rounds]
        median = statistics.median(values)
        line = f"{figure.name:48}{median:8.3f}{min(values):8.3f}{max(values):8.3f}"
        if figure.interval:
            lowest, highest = interval_of_median(values)
            line += f"  [{lowest:.3f}, {highest:.3f}]"
        if figure.limit is not None:
            within = figure.is_held(values)
            held = held and within
            line += f"{figure.limit:8.2f}  {'ok' if within else 'MISSED'}"
        print(line)
    return held
