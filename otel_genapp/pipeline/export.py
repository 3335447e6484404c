"""Spans and metrics on their way out over OTLP: redacted, counted, never waited for.

The SDK's batch processor does the batching. Around it stands what it lacks: a bound that counts
what it refuses, an answer to `flush` that is the truth, deadlines, and an exporter of its own for
every process (two processes must not share one connection).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
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

from otel_genapp.pipeline.errand import Errand
from otel_genapp.pipeline.redact import redacted
from otel_genapp.quiet import quiet

_guarded = quiet("export")
_AMBIENT_SCOPE = "opentelemetry.instrumentation.system_metrics"


class Count(Protocol):
    """Hears what became of spans."""

    def __call__(self, what: str, outcome: str, *, number: int) -> None:
        """So many `what` had that `outcome`."""


class _CountedExporter(SpanExporter):
    """Redacts each span, hands the batch to this process's exporter and counts the outcome."""

    def __init__(self, make: Callable[[], SpanExporter], count: Count) -> None:
        self._make = make
        self._count = count
        self._inner: SpanExporter | None = None
        self._pid = 0
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Start counting from nothing; for the child of a fork."""
        self._lock = threading.Lock()
        self.taken = 0
        self.settled = 0
        self.lost_at = 0
        """How many spans were settled when the last one was lost."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        closed = self._closed
        if closed:
            return SpanExportResult.FAILURE
        clean: list[ReadableSpan] = []
        for span in spans:
            with _guarded:
                clean.append(redacted(span))
        result = SpanExportResult.FAILURE
        with _guarded:
            result = self._own().export(clean)
        arrived = len(clean) if result is SpanExportResult.SUCCESS else 0
        with self._lock:
            if self._closed:  # given up, and counted as lost, while it was under way
                return result
            self.settled += len(spans)
            if arrived < len(spans):
                self.lost_at = self.settled
        # A span that could not be cleaned does not leave.
        for outcome, number in (
            ("exported", arrived),
            ("redaction_failed", len(spans) - len(clean)),
            ("export_failed", len(clean) - arrived),
        ):
            if number:
                self._count("span", outcome, number=number)
        return result

    def close(self, accepted: int) -> int:
        """Take and count nothing more; how many of the `accepted` spans have to be given up."""
        with self._lock:
            self._closed = True
            left, self.settled = accepted - self.settled, accepted
        with _guarded:
            if self._inner is not None and self._pid == os.getpid():
                self._inner.shutdown()  # ends a retry that is still waiting
        return left

    def shutdown(self) -> None:
        """`close` has done it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def _own(self) -> SpanExporter:
        if self._inner is None or self._pid != os.getpid():
            self._inner = self._make()
            self._pid = os.getpid()
        return self._inner


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
        self._sending = Errand(self._send, self._end, name="spans")
        self._closed = False
        self._accepted = 0
        self._told = 0
        """Spans accepted when an answer was last given."""
        # Reentrant: a finalizer that ends a span may run while this thread holds it.
        self._lock = threading.RLock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._lock:
            refused = self._closed or self._accepted - self._exporter.taken >= self._queue_size
            self._accepted += not refused
        self._count("span", "created", number=1)
        if refused:
            self._count("span", "shutdown" if self._closed else "queue_full", number=1)
            return
        self._batches.on_end(span)

    @property
    def pending(self) -> int:
        """Spans accepted and neither delivered nor lost."""
        return self._accepted - self._exporter.settled

    def begin_flush(self) -> Callable[[float], bool]:
        """Send what is queued; the answer takes seconds to wait.

        It is True only if every span accepted since the flush before arrived.
        """
        with self._lock:
            target, told = self._accepted, self._told
        sent = self._sending.ask()

        def answer(timeout_s: float) -> bool:
            exporter = self._exporter
            if not sent.within(timeout_s) or exporter.settled < target:
                return False
            self._told = max(self._told, target)
            return exporter.lost_at <= told

        return answer

    begin_last_flush = begin_flush

    def close(self) -> None:
        """Take no more, and give up, counted, what was not delivered. Waits for nothing."""
        with self._lock:
            self._closed = True
            left = self._exporter.close(self._accepted)
        if left:
            self._count("span", "shutdown", number=left)
        self._sending.close()

    def reset(self) -> None:
        """What the parent of a fork has queued is the parent's to send."""
        self._exporter.reset()
        self._lock = threading.RLock()
        self._accepted = self._told = 0
        if not self._closed:
            self._sending.restart()

    def _send(self) -> bool:
        return bool(self._batches.force_flush())

    def _end(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call] # the SDK's


class _LastExport(threading.local):
    """How the last export of this thread went."""

    failed = False


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
        self._closed = False
        self.last = _LastExport()
        self.ending = False
        """Set for the last words: if there is nothing to tell, nobody waits for them."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = MetricExportResult.FAILURE
        if self._closed:
            return result
        if self.ending and not _tells_anything(metrics_data):
            return MetricExportResult.SUCCESS
        if self._pid != os.getpid():
            self._inner, self._pid = self._make(), os.getpid()
        with _guarded:
            result = self._inner.export(self._filtered(metrics_data), timeout_millis, **kwargs)
        self.last.failed = result is not MetricExportResult.SUCCESS
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if self._closed:
            return
        self._closed = True
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


def _tells_anything(data: MetricsData) -> bool:
    """Whether anything was measured: more than the known series' zeros and the process's own figures."""
    for resource_metrics in data.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            if scope_metrics.scope.name != _AMBIENT_SCOPE and any(
                getattr(point, "count", 0) or getattr(point, "value", 0)
                for metric in scope_metrics.metrics
                for point in metric.data.data_points
            ):
                return True
    return False


class MetricExport:
    """A provider's metrics to one exporter every `OTEL_METRIC_EXPORT_INTERVAL`, and on a flush."""

    def __init__(
        self, make: Callable[[], MetricExporter], provider: MeterProvider, *, without: str = ""
    ) -> None:
        self._exporter = _FilteredExporter(make, without=without)
        self._reader = PeriodicExportingMetricReader(self._exporter)
        self._provider = provider
        provider.add_metric_reader(self._reader)
        self._sending = Errand(self._send, self._end, name="metrics")
        self._closed = False

    def begin_flush(self) -> Callable[[float], bool]:
        """Send the current values; the answer takes seconds to wait.

        It is True only if the collector took them, or there were none.
        """
        return self._sending.ask().within

    def begin_last_flush(self) -> Callable[[float], bool]:
        """As `begin_flush`, with nothing sent where nothing was measured: a short command ends at once."""
        self._exporter.ending = True
        return self.begin_flush()

    def close(self) -> None:
        """Send nothing more. Waits for nothing."""
        self._closed = True
        self._exporter.shutdown()
        self._sending.close()

    def reset(self) -> None:
        """A lock nobody holds and a thread of its own; for the child of a fork."""
        self._reader._export_lock = threading.Lock()  # noqa: SLF001 - the SDK's fork handler leaves it
        if not self._closed:
            self._sending.restart()

    def _send(self) -> bool:
        last = self._exporter.last
        last.failed = False
        self._reader.collect()
        return not last.failed

    def _end(self) -> None:
        self._reader.shutdown()
        # The public way would end the reader a second time, and log that.
        self._provider._measurement_consumer.remove_metric_reader(self._reader)  # noqa: SLF001
