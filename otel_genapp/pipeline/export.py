"""Spans and metrics on their way out over OTLP: redacted, counted, never waited for.

The SDK's batch processor does the batching. Around it stands what it lacks: a bound that counts
what it refuses, an answer to `flush` that is the truth, deadlines, and an exporter of its own for
every process (two processes must not share one connection).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_genapp.pipeline.redact import redacted
from otel_genapp.quiet import quiet

_guarded = quiet("export")

Count = Callable[[str, str, int], None]
"""`count(what, outcome, number)`: what became of so many spans."""


def run_within(work: Callable[[], object], timeout_s: float, *, name: str) -> bool:
    """Run `work` on a thread and wait at most `timeout_s`; False when it was not done by then."""
    done = threading.Event()

    def run() -> None:
        with _guarded:
            work()
            done.set()

    thread = threading.Thread(target=run, name=f"otel-genapp-{name}", daemon=True)
    thread.start()
    thread.join(max(timeout_s, 0))
    return done.is_set()


class _CountedExporter(SpanExporter):
    """Redacts each span, hands the batch to this process's exporter and counts the outcome."""

    def __init__(self, make: Callable[[], SpanExporter], count: Count) -> None:
        self._make = make
        self._count = count
        self._inner: SpanExporter | None = None
        self._pid = 0
        self.reset()

    def reset(self) -> None:
        """Start counting from nothing; for the child of a fork."""
        self.taken = 0
        self.delivered = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        clean: list[ReadableSpan] = []
        for span in spans:
            with _guarded:
                clean.append(redacted(span))
        # A span that could not be cleaned does not leave.
        self._lose(len(spans) - len(clean), "redaction_failed")
        result = SpanExportResult.FAILURE
        with _guarded:
            result = self._own().export(clean)
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(clean)
            self._count("span", "exported", len(clean))
        else:
            self._lose(len(clean), "export_failed")
        return result

    def shutdown(self) -> None:
        with _guarded:
            if self._inner is not None and self._pid == os.getpid():
                self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def _own(self) -> SpanExporter:
        if self._inner is None or self._pid != os.getpid():
            self._inner = self._make()
            self._pid = os.getpid()
        return self._inner

    def _lose(self, number: int, reason: str) -> None:
        if number:
            self.lost += number
            self._count("span", reason, number)


class SpanExport(SpanProcessor):
    """Sampled spans to one exporter. `on_end` only queues; a full queue refuses and counts."""

    def __init__(self, make: Callable[[], SpanExporter], count: Count, *, queue_size: int) -> None:
        self._count = count
        self._queue_size = queue_size
        self._exporter = _CountedExporter(make, count)
        self._batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=queue_size,
            max_export_batch_size=min(512, queue_size),
        )
        self._lock = threading.Lock()
        self._accepted = 0
        self._lost_before = 0
        self._closed = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._lock:
            refused = self._closed or self._accepted - self._exporter.taken >= self._queue_size
            self._accepted += not refused
        self._count("span", "created", 1)
        if refused:
            self._count("span", "shutdown" if self._closed else "queue_full", 1)
            return
        self._batches.on_end(span)

    @property
    def pending(self) -> int:
        """Spans accepted and neither delivered nor lost."""
        return self._accepted - self._exporter.delivered - self._exporter.lost

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued. True only if every span accepted since the last flush arrived."""
        with self._lock:
            target = self._accepted
        run_within(self._batches.force_flush, timeout_s, name="flush")
        exporter = self._exporter
        arrived = exporter.delivered + self._lost_before >= target
        self._lost_before = exporter.lost
        return arrived

    def close(self, timeout_s: float) -> bool:
        """Send what is queued and stop, within `timeout_s` whatever the collector does."""
        deadline = time.monotonic() + timeout_s
        arrived = self.flush(timeout_s * 0.8)
        self._closed = True
        self._exporter.shutdown()  # ends a retry that is still waiting
        left_s = deadline - time.monotonic()
        run_within(self._batches.shutdown, left_s, name="stop")
        if self.pending > 0:
            self._count("span", "shutdown", self.pending)
        return arrived

    def reset(self) -> None:
        """What the parent of a fork has queued is the parent's to send."""
        self._lock = threading.Lock()
        self._accepted = 0
        self._lost_before = 0
        self._exporter.reset()


class _FilteredExporter(MetricExporter):
    """Hands metrics on without the families that conventional ones stand for, and remembers how it went."""

    def __init__(self, make: Callable[[], MetricExporter], *, without: str) -> None:
        inner = make()
        super().__init__(
            preferred_temporality=inner._preferred_temporality,  # noqa: SLF001 - no public way to keep them
            preferred_aggregation=inner._preferred_aggregation,  # noqa: SLF001
        )
        self._make = make
        self._inner = inner
        self._pid = os.getpid()
        self._without = without
        self.succeeded = 0

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        if self._pid != os.getpid():
            self._inner, self._pid = self._make(), os.getpid()
        result = MetricExportResult.FAILURE
        with _guarded:
            result = self._inner.export(self._filtered(metrics_data), timeout_millis, **kwargs)
        self.succeeded += result is MetricExportResult.SUCCESS
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        with _guarded:
            self._inner.shutdown(timeout_millis)

    def _filtered(self, data: MetricsData) -> MetricsData:
        if not self._without:
            return data
        return MetricsData([
            ResourceMetrics(
                resource=one.resource,
                schema_url=one.schema_url,
                scope_metrics=[
                    ScopeMetrics(
                        scope=scope.scope,
                        schema_url=scope.schema_url,
                        metrics=[m for m in scope.metrics if not m.name.startswith(self._without)],
                    )
                    for scope in one.scope_metrics
                ],
            )
            for one in data.resource_metrics
        ])  # fmt: skip


class MetricExport:
    """Metrics to one exporter every `OTEL_METRIC_EXPORT_INTERVAL`, and on `flush`."""

    def __init__(self, make: Callable[[], MetricExporter], *, without: str = "") -> None:
        self._exporter = _FilteredExporter(make, without=without)
        self.reader = PeriodicExportingMetricReader(self._exporter)

    def flush(self, timeout_s: float) -> bool:
        """Send the current values. True only if the collector took them."""
        before = self._exporter.succeeded
        run_within(lambda: self.reader.collect(timeout_s * 1e3), timeout_s, name="metrics")
        return self._exporter.succeeded > before

    def close(self, timeout_s: float) -> bool:
        """Send the last values and stop, within `timeout_s`."""
        arrived = self.flush(timeout_s * 0.8)
        self._exporter.shutdown()
        run_within(lambda: self.reader.shutdown(timeout_s * 200), timeout_s * 0.2, name="metrics-stop")
        return arrived


def at_once(works: Sequence[Callable[[], bool]], timeout_s: float) -> bool:
    """Run the works side by side; True if all were true within `timeout_s`."""
    answers: list[bool] = []
    threads = []
    for work in works:

        def run(work: Callable[[], bool] = work) -> None:
            with _guarded:
                answers.append(work())

        thread = threading.Thread(target=run, name="otel-genapp-deliver", daemon=True)
        thread.start()
        threads.append(thread)
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return len(answers) == len(works) and all(answers)
