"""A scrape of four workers that hold 1,000 label sets each and measure nothing: until it is answered, and its CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

from tests.bench.arm import Arm, expect

WORKERS = 4
PROVIDERS, MODELS, OPERATIONS = 5, 50, ("chat", "embeddings")
COUNTERS = PROVIDERS * MODELS * len(OPERATIONS)
"""So many counters and as many histograms are 1,000 label sets."""


def label_sets() -> Iterator[tuple[str, str, str]]:
    """Provider, model and operation of every counter and histogram."""
    for provider in range(PROVIDERS):
        for model in range(MODELS):
            for operation in OPERATIONS:
                yield f"provider-{provider}", f"model-{model}", operation


def workers_scrape(folder: Path) -> Arm:
    """Ours; µs until a scrape is answered."""
    return _scrapes(folder, "own_workers", cpu=False)


def workers_scrape_cpu(folder: Path) -> Arm:
    """Ours; µs of CPU in all processes."""
    return _scrapes(folder, "own_workers", cpu=True)


def workers_peer(folder: Path) -> Arm:
    """prometheus_client's multiprocess mode; µs until a scrape is answered."""
    return _scrapes(folder, "peer_workers", cpu=False)


def workers_peer_cpu(folder: Path) -> Arm:
    """prometheus_client's multiprocess mode; µs of CPU in all processes."""
    return _scrapes(folder, "peer_workers", cpu=True)


ARMS: dict[str, Callable[[Path], Arm]] = {
    arm.__name__: arm for arm in (workers_scrape, workers_scrape_cpu, workers_peer, workers_peer_cpu)
}


def _scrapes(folder: Path, program: str, *, cpu: bool) -> Arm:
    import psutil

    from tests.faults.worker_fleet import gunicorn_fleet

    stack = ExitStack()
    environment = {"GENAPP_STATE_DIR": mkdtemp(dir=folder), "PROMETHEUS_MULTIPROC_DIR": mkdtemp(dir=folder)}
    fleet = stack.enter_context(
        gunicorn_fleet(f"tests.bench.programs.{program}", environment, workers=WORKERS)
    )
    processes = [psutil.Process(fleet.process.pid), *fleet.workers()]

    def spent_s() -> float:
        return sum(sum(one.cpu_times()[:2]) for one in processes)

    def run(count: int) -> float:
        taken_s, before_s = [], spent_s()
        for _ in range(count):
            began_s = time.perf_counter()
            fleet.get("/prometheus")
            taken_s.append(time.perf_counter() - began_s)
        return 1e6 * ((spent_s() - before_s) / count if cpu else statistics.median(taken_s))

    def check(_total: int) -> None:
        lines = fleet.get("/prometheus")[1].decode().splitlines()
        found = [line for line in lines if line.startswith("genapp_llm_requests_total{")]
        expect("counters", len(found), COUNTERS)
        expect("workers in each", {float(line.rsplit(" ", 1)[1]) for line in found}, {float(WORKERS)})

    return Arm(run=run, check=check, end=stack.close)
