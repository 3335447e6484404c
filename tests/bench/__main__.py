"""`make bench`: what telemetry adds to a request and what a scrape costs, next to the peers.

Every arm is a process in its environment; all of them live at once and work in turn, so that a
ratio compares neighbours in time. Each generation starts new processes, because two processes of
the same program already differ by a few per cent. Exits with 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench import environments, series
from tests.bench.environments import OURS, ROOT, python_of

REQUESTS, SCRAPES = 500, 1
Round = dict[str, float]
"""Arm -> µs of CPU for one piece of work."""


@dataclass(frozen=True)
class Bound:
    """`ours` costs at most `limit` times what `peer` costs; of a request, what is added to bare."""

    ours: str
    peer: str
    limit: float


HTTP_ARMS = {"full": OURS, "unsampled": OURS, "stock": "stock", "pfi": "pfi"}
HTTP_BOUNDS = (Bound("full", "stock", 0.5), Bound("unsampled", "pfi", 1.0))
SCRAPE_ARMS = {"scrape": OURS, "scrape_stock": "stock"}
SCRAPE_BOUNDS = (Bound("scrape", "scrape_stock", 0.25),)


class Worker:
    """An arm's process."""

    def __init__(self, arm: str, environment: str, families_file: Path) -> None:
        self.arm = arm
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "GENAPP_"))
        }
        self.process = subprocess.Popen(
            [str(python_of(environment)), "-m", "tests.bench.worker", arm, str(families_file)],
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


@contextmanager
def running(arm: str, environment: str, families_file: Path) -> Iterator[Worker]:
    """A worker, ended at the end."""
    worker = Worker(arm, environment, families_file)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.communicate()


def measure_requests(generations: int, rounds: int, *, families_file: Path) -> list[Round]:
    """For each round what every arm adds to the bare app of its own environment."""
    found = []
    for _ in range(generations):
        with ExitStack() as stack:
            workers = {
                arm: stack.enter_context(running(arm, environment, families_file))
                for arm, environment in HTTP_ARMS.items()
            }
            bare = {
                environment: stack.enter_context(running("bare", environment, families_file))
                for environment in HTTP_ARMS.values()
            }
            for worker in (*bare.values(), *workers.values()):
                worker.measure(REQUESTS)
            found += [_request_round(workers, bare) for _ in range(rounds)]
    return found


def _request_round(workers: dict[str, Worker], bare: dict[str, Worker]) -> Round:
    added = {}
    for arm in random.sample(list(workers), len(workers)):
        beside = bare[HTTP_ARMS[arm]]
        # Bare, arm, arm, bare: a drift of the machine's speed meets both alike.
        first = beside.measure(REQUESTS)
        with_telemetry = [workers[arm].measure(REQUESTS) for _ in range(2)]
        without = statistics.mean((first, beside.measure(REQUESTS)))
        added[arm] = statistics.mean(with_telemetry) - without
        added[f"bare/{arm}"] = without
    return added


def measure_scrapes(generations: int, rounds: int, *, families_file: Path) -> list[Round]:
    """For each round the time of one scrape of every arm."""
    found = []
    for _ in range(generations):
        with ExitStack() as stack:
            workers = {
                arm: stack.enter_context(running(arm, environment, families_file))
                for arm, environment in SCRAPE_ARMS.items()
            }
            for worker in workers.values():
                worker.measure(SCRAPES)
            for _ in range(rounds):
                order = random.sample(list(workers), len(workers))
                found.append({arm: workers[arm].measure(SCRAPES) for arm in order})
    return found


def print_costs(title: str, rounds: Sequence[Round]) -> None:
    """Median and range of every arm."""
    print(f"\n{title}\n{'':24}{'median':>12}{'min':>12}{'max':>12}")
    for arm in sorted(rounds[0]):
        values = [measured[arm] for measured in rounds]
        print(f"{arm:24}{statistics.median(values):12.1f}{min(values):12.1f}{max(values):12.1f}")


def print_bounds(bounds: Sequence[Bound], rounds: Sequence[Round]) -> bool:
    """The ratios, round by round against the neighbour, and whether all medians are within bounds."""
    print(f"\n{'ratio':32}{'median':>8}{'min':>8}{'max':>8}{'bound':>8}")
    held = True
    for bound in bounds:
        ratios = [measured[bound.ours] / measured[bound.peer] for measured in rounds]
        median = statistics.median(ratios)
        verdict = "ok" if median <= bound.limit else "MISSED"
        held = held and median <= bound.limit
        print(
            f"{bound.ours + ' / ' + bound.peer:32}{median:8.2f}{min(ratios):8.2f}{max(ratios):8.2f}"
            f"{bound.limit:8.2f}  {verdict}"
        )
    return held


def main() -> int:
    """Run both comparisons; 0 when every bound is held."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--generations", type=int, default=4, help="times all processes start anew")
    parser.add_argument("--rounds", type=int, default=4, help="rounds in each generation")
    given = parser.parse_args()
    known = ", ".join(f"{name} {version}" for name, version in environments.versions().items())
    print(f"{known}\nload average {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        families_file = Path(folder, "families.json")
        families_file.write_text(json.dumps(series.families()), encoding="utf-8")
        scrapes = measure_scrapes(given.generations, given.rounds, families_file=families_file)
        requests = measure_requests(given.generations, given.rounds, families_file=families_file)
    print_costs("added to a FastAPI request, µs of CPU (bare/…: the app alone, beside that arm)", requests)
    held = print_bounds(HTTP_BOUNDS, requests)
    print_costs("a scrape of 10,000 lines, µs of CPU", scrapes)
    held = print_bounds(SCRAPE_BOUNDS, scrapes) and held
    print(f"\n{len(requests)} rounds, load average {os.getloadavg()[0]:.2f}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
