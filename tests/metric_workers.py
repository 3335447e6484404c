"""Workers of one server in one process: real instruments, snapshots and locks; a list for each journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource

from otel_genapp import semconv
from otel_genapp.metrics.folding import fold
from otel_genapp.metrics.instance import Instance
from otel_genapp.metrics.instruments import Instruments
from otel_genapp.metrics.prometheus import GenappPrometheusReader
from otel_genapp.metrics.tally import Tally
from otel_genapp.metrics.views import genapp_views
from otel_genapp.metrics.workers import WorkerMetrics
from otel_genapp.records import UsageRecord
from otel_genapp.state_directory import StateDirectory
from tests.builders import CONSTANT_LABELS, call, own_labels, samples_of

SERVER = Instance("shop", is_worker=True)
Start = Callable[..., "Worker"]
"""Starts one more worker of a server."""
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Worker:
    """One of them. `journals` is the disk they share: the journal's id -> its records."""

    def __init__(
        self,
        state: StateDirectory,
        name: str,
        journals: dict[str, list[UsageRecord]],
        *,
        instance: Instance = SERVER,
    ) -> None:
        self.name = name.rjust(16, "0")
        self.reader = GenappPrometheusReader(CONSTANT_LABELS)
        self.provider = MeterProvider(
            [self.reader], Resource(CONSTANT_LABELS), views=genapp_views(), shutdown_on_exit=False
        )
        self.gauges = {"genapp_llm_in_flight": 0.0, "genapp_active_sessions": 0.0}
        self.asked: list[str] = []
        """The gauges whose values were asked for."""
        self.instruments = Instruments(
            self.provider.get_meter(semconv.SCOPE), {name: partial(self._gauge, name) for name in self.gauges}
        )
        self.problems: list[str] = []
        self.drained = 0
        self.journal = journals.setdefault(self.name, [])
        self._journals = journals
        self._folded = 0
        self.metrics = WorkerMetrics(
            self.reader,
            state,
            standing_still=self._standing_still,
            replay=self.replay,
            revision=self.instruments.revision,
            drain=self._drain,
            on_problem=self.problems.append,
        )
        self.metrics.begin(instance, self.name)

    def ask(self, resource: str = "/", *, seconds: float = 0.25, times: int = 1) -> None:
        """Answer requests."""
        for _ in range(times):
            self.instruments.http.record(
                ("GET", "200", resource, "flask"), seconds, request_bytes=1, response_bytes=2, context=None
            )

    def call(self, *records: UsageRecord, fold_them: bool = True) -> None:
        """Journal LLM calls, and fold them or not."""
        self.journal.extend(records or [call(f"c{len(self.journal)}")])
        if fold_them:
            self.fold()

    def fold(self) -> None:
        """Fold what is in the journal."""
        while self._folded < len(self.journal):
            fold(self.instruments, self.journal[self._folded], context=None)
            self._folded += 1

    def scrape(self) -> Samples:
        """Every sample by name and labels."""
        text = self.metrics.exposition(openmetrics=False).decode()
        return {(sample.name, own_labels(sample)): sample.value for sample in samples_of(text)}

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with these labels; None where there is none."""
        found = [
            value
            for (known, said), value in self.scrape().items()
            if known == name and set(labels.items()) <= set(said)
        ]
        return sum(found) if found else None

    def die(self) -> None:
        """Be gone as a killed process is: nothing written, the lock free, the socket's file left."""
        metrics: Any = self.metrics
        metrics._ending.set()
        with metrics._persisting:
            life, metrics._life = metrics._life, None
        server = metrics._server
        if server is not None:
            server.leave_to_parent()
        os.close(life)

    def replay(self, position: tuple[str, int], tally: Tally) -> None:
        """Fold what a journal holds beyond a position."""
        journal = position[0].split("-")[1]
        for record in self._journals.get(journal, ())[position[1] :]:
            fold(tally, record, context=None)

    @contextmanager
    def _standing_still(self) -> Iterator[tuple[str, int] | None]:
        yield (f"journal-{self.name}-000000", self._folded) if self._folded else None

    def _gauge(self, name: str) -> float:
        self.asked.append(name)
        return self.gauges[name]

    def _drain(self) -> None:
        self.drained += 1
        self.fold()


def files(state: StateDirectory) -> list[str]:
    """The files there are, the worker's ids without their zeros."""
    assert state.path is not None
    found = [path.name.replace("shop-000000000000000", "") for path in state.path.iterdir()]
    return sorted(found)
