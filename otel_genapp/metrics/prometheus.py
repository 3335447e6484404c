"""`/prometheus`: the families as Prometheus text 0.0.4, or OpenMetrics with exemplars when asked.

A subclass of the official reader. It keeps the official translation for the system metrics and
renders the `genapp_` families itself: names and labels exactly as `semconv` says, label text
written once for each series, one scrape at a time.
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
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
)
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from otel_genapp import semconv
from otel_genapp.quiet import quiet

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SYSTEM_SCOPE = "opentelemetry.instrumentation.system_metrics"

_BY_INSTRUMENT = {metric.instrument: metric for metric in semconv.METRICS}
_CONSTANT_LABELS = ("env", "app")


def negotiate(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics."""
    return "application/openmetrics-text" in accept


class _Series:
    """The text of one series that never changes: its lines without their values."""

    __slots__ = ("attributes", "exemplars", "lines")

    def __init__(self, attributes: Mapping[str, Any], lines: tuple[str, ...]) -> None:
        self.attributes = attributes
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
        self._own: list[Metric] = []
        self._series: dict[int, _Series] = {}
        self._scrape = threading.Lock()

    def exposition(self, *, openmetrics: bool) -> bytes:
        """Everything recorded so far, as one consistent answer. Safe to call from any thread."""
        with self._scrape:
            self._own = []
            # The registry's collector calls `collect`, which hands the data to `_receive_metrics`.
            system = (generate_openmetrics if openmetrics else generate_text)(self._registry)
            own = "".join(self._render(openmetrics=openmetrics)).encode()
        if openmetrics:
            return own + system  # ends in # EOF
        return own + system

    def reset_lock(self) -> None:
        """Give the child of a fork locks nobody holds."""
        self._scrape = threading.Lock()
        self._registry._lock = threading.Lock()  # noqa: SLF001 - as much ours as the registry
        self._series = {}

    def _receive_metrics(
        self, metrics_data: MetricsData | None, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        with quiet("metrics"):
            if metrics_data is None:
                return
            for resource_metrics in metrics_data.resource_metrics:
                system = []
                for scope_metrics in resource_metrics.scope_metrics:
                    if scope_metrics.scope.name == semconv.SCOPE:
                        self._own.extend(scope_metrics.metrics)
                    elif scope_metrics.scope.name == SYSTEM_SCOPE:
                        system.append(scope_metrics)
                if system:
                    rest = ResourceMetrics(
                        resource=resource_metrics.resource,
                        scope_metrics=system,
                        schema_url=resource_metrics.schema_url,
                    )
                    super()._receive_metrics(MetricsData([rest]), timeout_millis, **kwargs)

    def _render(self, *, openmetrics: bool) -> Iterator[str]:
        points: dict[str, list[Any]] = {}
        for found in self._own:
            points.setdefault(found.name, []).extend(found.data.data_points)
        for metric in semconv.METRICS:
            if metric.instrument not in points:
                continue
            family = metric.name
            if openmetrics and metric.kind == "counter":
                family = family.removesuffix("_total")
            yield f"# HELP {family} {_escape_help(metric.help)}\n# TYPE {family} {metric.kind}\n"
            render = self._histogram_lines if metric.kind == "histogram" else self._number_lines
            yield from render(metric, points[metric.instrument], openmetrics)
        if len(self._series) > 2 * sum(len(found) for found in points.values()) + 1000:
            self._series = {}

    def _number_lines(
        self,
        metric: semconv.Metric,
        points: Sequence[NumberDataPoint],
        openmetrics: bool,  # noqa: FBT001
    ) -> Iterator[str]:
        known = self._series
        for point in points:
            attributes: Any = point.attributes
            series = known.get(id(attributes))
            if series is None or series.attributes is not attributes:
                series = self._describe(metric, attributes)
            value = point.value
            text = str(value) if type(value) is int else _number(value)
            if point.exemplars:
                series.exemplars[0] = point.exemplars[-1]
            if openmetrics and series.exemplars and metric.kind == "counter":
                yield f"{series.lines[0]}{text}{_exemplar(series.exemplars[0])}\n"
            else:
                yield f"{series.lines[0]}{text}\n"

    def _histogram_lines(
        self,
        metric: semconv.Metric,
        points: Sequence[HistogramDataPoint],
        openmetrics: bool,  # noqa: FBT001
    ) -> Iterator[str]:
        known = self._series
        for point in points:
            attributes: Any = point.attributes
            series = known.get(id(attributes))
            if series is None or series.attributes is not attributes:
                series = self._describe(metric, attributes)
            if point.exemplars:
                series.exemplars.update(_by_bucket(point))
            exemplars = series.exemplars if openmetrics else {}
            total = 0
            lines = []
            for position, count in enumerate(point.bucket_counts):
                total += count
                line = f"{series.lines[position]}{total}"
                if position in exemplars:
                    line += _exemplar(exemplars[position])
                lines.append(line)
            lines.append(f"{series.lines[-2]}{total}")
            lines.append(f"{series.lines[-1]}{_number(point.sum)}\n")
            yield "\n".join(lines)

    def _describe(self, metric: semconv.Metric, attributes: Mapping[str, Any]) -> _Series:
        own = "".join(f'{name}="{_escape(str(attributes.get(name, "")))}",' for name in metric.labels)
        labels = (own + self._constant).rstrip(",")
        lines: tuple[str, ...]
        if metric.kind == "histogram":
            bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
            lines = (
                *(f'{metric.name}_bucket{{{labels},le="{bound}"}} ' for bound in bounds),
                f"{metric.name}_count{{{labels}}} ",
                f"{metric.name}_sum{{{labels}}} ",
            )
        else:
            lines = (f"{metric.name}{{{labels}}} ",)
        series = _Series(attributes, lines)
        # The entry holds the attributes, so their id cannot be taken over by another series.
        self._series[id(attributes)] = series
        return series


def _by_bucket(point: HistogramDataPoint) -> dict[int, Any]:
    return {bisect_left(point.explicit_bounds, exemplar.value): exemplar for exemplar in point.exemplars}


def _exemplar(exemplar: Any) -> str:
    if not exemplar.trace_id:
        return ""
    return (
        f' # {{trace_id="{exemplar.trace_id:032x}",span_id="{exemplar.span_id:016x}"}} '
        f"{_number(exemplar.value)} {exemplar.time_unix_nano / 1e9:.3f}"
    )


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
