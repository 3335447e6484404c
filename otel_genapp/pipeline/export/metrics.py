"""Metrics on their way out over OTLP: the current values, at intervals and when somebody flushes.

What it adds to the SDK's reader: an answer to `flush` that is the truth, an end that nobody waits
for, and an exporter of its own for every process (two processes must not share one connection).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)

from otel_genapp.pipeline.errand import Errand
from otel_genapp.quiet import quiet

_guarded = quiet("export")
_AMBIENT_SCOPE = "opentelemetry.instrumentation.system_metrics"


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
                if not isinstance(metric.data, Gauge)  # active sessions are everybody's
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
