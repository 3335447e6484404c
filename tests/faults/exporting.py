"""An application's spans on their way to a collector, and what is counted of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider

from otel_genapp.pipeline.export import SpanExport
from otel_genapp.state_directory import StateDirectory
from tests.faults.flaky_collector import Collector

ROOT = Path(__file__).resolve().parents[2]


class App:
    """A provider with our export on it."""

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        folder: Path | None = None,
        queue_size: int = 2048,
        delay_s: float = 0.05,
        **options: Any,
    ) -> None:
        os.environ["OTEL_BSP_SCHEDULE_DELAY"] = str(int(delay_s * 1000))
        self.counts: Counter[tuple[str, str]] = Counter()
        state = StateDirectory(folder) if folder is not None else None
        self.export = SpanExport(make, self._count, queue_size=queue_size, state=state, **options)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.export)
        self._tracer = self.provider.get_tracer("app")

    def work(self, number: int = 1, name: str = "work", /, **attributes: Any) -> list[str]:
        """The ids of so many spans made now."""
        made = []
        for _ in range(number):
            with self._tracer.start_as_current_span(name, attributes=attributes) as span:
                made.append(f"{span.get_span_context().span_id:016x}")
        return made

    def work_at(self, rate: float, seconds: float) -> list[str]:
        """The ids of the spans made at so many a second."""
        made: list[str] = []
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            made += self.work(int(passed * rate) - len(made))
            time.sleep(0.002)
        return made

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Whether everything arrived."""
        return self.export.begin_flush()(timeout_s)

    def close(self, timeout_s: float = 0.0) -> bool:
        """End the export as a shutdown does; whether everything arrived."""
        arrived = self.export.begin_last_flush()(timeout_s)
        self.export.close()
        return arrived

    @property
    def dropped(self) -> dict[str, int]:
        """Spans lost, by reason."""
        kept = {"created", "exported", "spooled", "unspooled"}
        return {
            outcome: number
            for (what, outcome), number in self.counts.items()
            if what == "span" and outcome not in kept
        }

    def counted(self, outcome: str) -> int:
        """So many spans had that outcome."""
        return self.counts["span", outcome]

    @property
    def imbalance(self) -> int:
        """Spans of which nobody knows what became of them."""
        under_way = self.export.pending - self.export.spooled
        came = self.counted("created") + self.counted("unspooled")
        went = self.counted("exported") + sum(self.dropped.values()) + self.counted("spooled")
        return came - went - under_way

    def _count(self, what: str, outcome: str, *, number: int) -> None:
        self.counts[what, outcome] += number


def over_http(collector: Collector, **options: Any) -> Callable[[], OTLPSpanExporter]:
    """Makes exporters to that collector."""
    return lambda: OTLPSpanExporter(endpoint=f"{collector.endpoint}/v1/traces", **options)


@contextmanager
def exporting(collector: Collector, *, timeout_s: float = 10.0, **options: Any) -> Iterator[App]:
    """An application that exports to the collector over HTTP, closed after the block."""
    app = App(over_http(collector, timeout=timeout_s), **options)
    try:
        yield app
    finally:
        app.export.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether the condition comes true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def ids_in(collector: Collector) -> list[str]:
    """The ids of the spans that arrived, as often as they did."""
    return [span.span_id for span in collector.spans]


class Spooler:
    """A process that makes spans for a collector that is away, until it is killed."""

    def __init__(self, collector: Collector, folder: Path, *, number: int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.faults.exporting",
            collector.endpoint,
            str(folder),
            str(number),
        ]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.spans: list[str] = json.loads(self._process.stdout.readline())
        """The ids of its spans, all of them on disk."""

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.communicate()


def _spool(endpoint: str, folder: str, number: str) -> None:
    app = App(lambda: OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"), folder=Path(folder))
    made = app.work(int(number))
    assert wait_until(lambda: app.export.spooled == len(made), 5.0)
    print(json.dumps(made), flush=True)  # noqa: T201 - this is how it is told
    while True:
        time.sleep(1)


if __name__ == "__main__":
    _spool(*sys.argv[1:])
