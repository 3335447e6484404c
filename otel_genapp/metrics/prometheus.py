"""`/prometheus`: the families as Prometheus text 0.0.4, or OpenMetrics with exemplars when asked.

A subclass of the official reader. It keeps the official translation for the system metrics and
renders the `genapp_` families itself: names and labels exactly as `semconv` says, label text
written once for each series, one scrape at a time. What other workers have counted is added to
each series as it is written.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
)
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, added, number, total
from otel_genapp.metrics.snapshot import NOBODY, Labels, Snapshot, Table
from otel_genapp.metrics.taken import Taken, labels_of, value_of, with_others
from otel_genapp.metrics.totals import merged
from otel_genapp.quiet import quiet

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SYSTEM_SCOPE = "opentelemetry.instrumentation.system_metrics"

_FOREIGN_KEPT = 20_000
_CONSTANT_LABELS = ("env", "app")


def negotiate(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics."""
    return "application/openmetrics-text" in accept


class _Series:
    """The text of one series that never changes: its lines without their values."""

    __slots__ = ("attributes", "exemplars", "labels", "lines")

    def __init__(self, attributes: Mapping[str, Any], labels: Labels, *, lines: tuple[str, ...]) -> None:
        self.attributes = attributes
        self.labels = labels
        self.lines = lines
        self.exemplars: dict[int, Any] = {}
        """The last exemplar of each line: the SDK forgets them with every collection, whoever asked."""


class GenappPrometheusReader(PrometheusMetricReader):
    """Reads the private MeterProvider when scraped. `env` and `app` are on every series."""

    def __init__(self, constant_labels: Mapping[str, str]) -> None:
        super().__init__(
            disable_target_info=True,
            scope_info_enabled=False,
            resource_attribute_filter=lambda key: key in _CONSTANT_LABELS,
            registry=CollectorRegistry(),
        )
        self._constant = "".join(f'{name}="{_escape(constant_labels[name])}",' for name in _CONSTANT_LABELS)
        self._taking: Taken | None = None
        self._system: list[ResourceMetrics] = []
        # Else it would collect once more for every text.
        collector: Any = self._collector
        collector._callback = self._hand_over  # noqa: SLF001 - there is no public way
        self._series: dict[int, _Series] = {}
        self._foreign: dict[tuple[str, Labels], tuple[str, ...]] = {}
        self._scrape = threading.Lock()

    def take(self) -> Taken:
        """Everything recorded so far, as of one moment. Safe to call from any thread."""
        with self._scrape:
            taken = self._taking = Taken()
            try:
                self.collect()
            finally:
                self._taking = None
            with quiet("metrics"):
                self._remember_exemplars(taken)
            return taken

    def exposition(
        self, *, openmetrics: bool, taken: Taken | None = None, others: Snapshot = NOBODY
    ) -> bytes:
        """What was `taken` (now, if it is not given), with what `others` counted, as text."""
        taken = taken or self.take()
        with self._scrape:
            self._system = [with_others(system, others.system) for system in taken.system]
            try:
                system = (generate_openmetrics if openmetrics else generate_text)(self._registry)
            finally:
                self._system = []
            families = {**others.counted, **others.gauges}
            own = "".join(self._render(taken.own, families, openmetrics=openmetrics)).encode()
        return own + system  # the latter ends in OpenMetrics' # EOF

    def _hand_over(self) -> None:
        """Give the official translation what was taken, and what others have added to it."""
        for one in self._system:
            super()._receive_metrics(MetricsData([one]))

    def reset_lock(self) -> None:
        """Give the child of a fork locks nobody holds."""
        self._scrape = threading.Lock()
        self._registry._lock = threading.Lock()  # noqa: SLF001 - as much ours as the registry
        self._series = {}

    def _receive_metrics(
        self, metrics_data: MetricsData | None, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        with quiet("metrics"):
            taking = self._taking
            if metrics_data is None or taking is None:
                return
            for resource_metrics in metrics_data.resource_metrics:
                system = []
                for scope_metrics in resource_metrics.scope_metrics:
                    if scope_metrics.scope.name == semconv.SCOPE:
                        for found in scope_metrics.metrics:
                            taking.own.setdefault(found.name, []).extend(found.data.data_points)
                    elif scope_metrics.scope.name == SYSTEM_SCOPE:
                        system.append(scope_metrics)
                if system:
                    taking.system.append(
                        ResourceMetrics(
                            resource=resource_metrics.resource,
                            scope_metrics=system,
                            schema_url=resource_metrics.schema_url,
                        )
                    )

    def _remember_exemplars(self, taken: Taken) -> None:
        """Keep them for the next text, whatever this collection was for."""
        for metric in semconv.METRICS:
            for point in taken.own.get(metric.instrument, ()):
                if point.exemplars:
                    found = {0: point.exemplars[-1]} if metric.kind != "histogram" else _by_bucket(point)
                    self._series_of(metric, point).exemplars.update(found)

    def _series_of(self, metric: semconv.Metric, point: Any) -> _Series:
        series = self._series.get(id(point.attributes))
        if series is None or series.attributes is not point.attributes:
            series = self._describe(metric, point.attributes)
        return series

    def _render(self, points: Mapping[str, list[Any]], others: Table, *, openmetrics: bool) -> Iterator[str]:
        for metric in semconv.METRICS:
            if metric.instrument not in points and metric.name not in others:
                continue
            family = metric.name
            if openmetrics and metric.kind == "counter":
                family = family.removesuffix("_total")
            yield f"# HELP {family} {_escape_help(metric.help)}\n# TYPE {family} {metric.kind}\n"
            render = self._histogram_lines if metric.kind == "histogram" else self._number_lines
            rest = dict(others.get(metric.name, ()))
            yield from render(metric, points.get(metric.instrument, ()), rest=rest, openmetrics=openmetrics)
            for labels, value in rest.items():
                yield self._foreign_lines(metric, labels, value=value)
        if len(self._series) > 2 * sum(len(found) for found in points.values()) + 1000:
            self._series = {}

    def _number_lines(
        self,
        metric: semconv.Metric,
        points: Sequence[NumberDataPoint],
        *,
        rest: dict[Labels, Value],
        openmetrics: bool,
    ) -> Iterator[str]:
        for point in points:
            series = self._series_of(metric, point)
            value: Any = point.value
            if rest and series.labels in rest:
                value = _number_of(merged(number(value), rest.pop(series.labels), merge=metric.merge))
            text = str(value) if type(value) is int else _number(value)
            if openmetrics and series.exemplars and metric.kind == "counter":
                yield f"{series.lines[0]}{text}{_exemplar(series.exemplars[0])}\n"
            else:
                yield f"{series.lines[0]}{text}\n"

    def _histogram_lines(
        self,
        metric: semconv.Metric,
        points: Sequence[HistogramDataPoint],
        *,
        rest: dict[Labels, Value],
        openmetrics: bool,
    ) -> Iterator[str]:
        for point in points:
            series = self._series_of(metric, point)
            exemplars = series.exemplars if openmetrics else {}
            counts, value_sum = point.bucket_counts, point.sum
            if rest and series.labels in rest:
                both = added(value_of(point), rest.pop(series.labels))
                if isinstance(both, tuple):
                    counts, value_sum = both[0], total(both[1])
            observed = 0
            lines = []
            for position, count in enumerate(counts):
                observed += count
                line = f"{series.lines[position]}{observed}"
                if position in exemplars:
                    line += _exemplar(exemplars[position])
                lines.append(line)
            lines.append(f"{series.lines[-2]}{observed}")
            lines.append(f"{series.lines[-1]}{_number(value_sum)}\n")
            yield "\n".join(lines)

    def _foreign_lines(self, metric: semconv.Metric, labels: Labels, *, value: Value) -> str:
        """A series only other workers have."""
        lines = self._foreign.get((metric.name, labels))
        if lines is None:
            if len(self._foreign) > _FOREIGN_KEPT:
                self._foreign = {}
            lines = self._foreign[metric.name, labels] = self._lines(metric, labels)
        if not isinstance(value, tuple):
            return f"{lines[0]}{_number(total(value))}\n"
        observed = 0
        written = []
        for line, count in zip(lines, value[0], strict=False):
            observed += count
            written.append(f"{line}{observed}\n")
        return "".join((*written, f"{lines[-2]}{observed}\n{lines[-1]}{_number(total(value[1]))}\n"))

    def _describe(self, metric: semconv.Metric, attributes: Mapping[str, Any]) -> _Series:
        labels = labels_of(metric, attributes)
        series = _Series(attributes, labels, lines=self._lines(metric, labels))
        # The entry holds the attributes, so their id cannot be taken over by another series.
        self._series[id(attributes)] = series
        return series

    def _lines(self, metric: semconv.Metric, values: Labels) -> tuple[str, ...]:
        own = "".join(
            f'{name}="{_escape(value)}",' for name, value in zip(metric.labels, values, strict=True)
        )
        labels = (own + self._constant).rstrip(",")
        if metric.kind != "histogram":
            return (f"{metric.name}{{{labels}}} ",)
        bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
        return (
            *(f'{metric.name}_bucket{{{labels},le="{bound}"}} ' for bound in bounds),
            f"{metric.name}_count{{{labels}}} ",
            f"{metric.name}_sum{{{labels}}} ",
        )


def _by_bucket(point: HistogramDataPoint) -> dict[int, Any]:
    return {bisect_left(point.explicit_bounds, exemplar.value): exemplar for exemplar in point.exemplars}


def _exemplar(exemplar: Any) -> str:
    if not exemplar.trace_id:
        return ""
    return (
        f' # {{trace_id="{exemplar.trace_id:032x}",span_id="{exemplar.span_id:016x}"}} '
        f"{_number(exemplar.value)} {exemplar.time_unix_nano / 1e9:.3f}"
    )


def _number_of(value: Value) -> float:
    return 0 if isinstance(value, tuple) else total(value)


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    value = float(value)  # of numpy's and other subclasses, whose repr is no number
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


Exposition = Callable[[str], tuple[bytes, str]]
