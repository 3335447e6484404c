"""Workers of one server, for the tests of what they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_genapp.metrics import workers
from otel_genapp.metrics.instance import Instance
from otel_genapp.records import UsageRecord
from otel_genapp.state_directory import StateDirectory
from tests.metric_workers import Start, Worker


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written down but by a scrape."""
    monkeypatch.setattr(workers, "FLUSH_EVERY_S", 600.0)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "shop-dev")


@pytest.fixture
def start(state: StateDirectory) -> Iterator[Start]:
    """Starts a worker of the server that all share; all end with the test."""
    journals: dict[str, list[UsageRecord]] = {}
    started: list[Worker] = []

    def begin(name: str = "", **options: Instance) -> Worker:
        started.append(Worker(state, name or f"{len(started) + 1}", journals, **options))
        return started[-1]

    yield begin
    for worker in started:
        worker.metrics.end()
