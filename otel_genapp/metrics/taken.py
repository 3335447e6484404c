"""What a collection found, on its way to text and to a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics.export import NumberDataPoint, ResourceMetrics, Sum

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, number, plus, total
from otel_genapp.metrics.snapshot import Labels, Snapshot, Table

_COUNTED, _MEASURED = "counter ", "gauge "
"""How the names of system figures begin in a snapshot: those that only grow, and those of the living."""
_OF_A_PROCESS = ("process.", "cpython.")
"""The other system figures are the host's: the same for all workers."""


@dataclass(slots=True)
class Taken:
    """The data points of our families by instrument, and the system figures."""

    own: dict[str, list[Any]] = field(default_factory=dict)
    system: list[ResourceMetrics] = field(default_factory=list)

    def snapshot(self, position: tuple[str, int] | None) -> Snapshot:
        """The same for other workers to add."""
        counted: Table = {}
        gauges: Table = {}
        for metric in semconv.METRICS:
            points = self.own.get(metric.instrument)
            if points:
                table = gauges if metric.kind == "gauge" else counted
                table[metric.name] = {
                    labels_of(metric, point.attributes): value_of(point) for point in points
                }
        system: Table = {}
        for one in self.system:
            for name, point in _process_points(one):
                system.setdefault(name, {})[_flat(point.attributes)] = number(point.value)
        return Snapshot(position, counted, gauges, system)

    def without(self, families: set[str]) -> Taken:
        """The same but for these families of ours."""
        if not families:
            return self
        left_out = {metric.instrument for metric in semconv.METRICS if metric.name in families}
        own = {name: points for name, points in self.own.items() if name not in left_out}
        return Taken(own, self.system)

    def with_store_gauges_of(self, other: Taken) -> Taken:
        """The same with the gauges read from the store that another collection found."""
        read = {
            metric.instrument: other.own[metric.instrument]
            for metric in semconv.METRICS
            if metric.merge == "store" and metric.instrument in other.own
        }
        return Taken({**self.own, **read}, self.system)


def labels_of(metric: semconv.Metric, attributes: Mapping[str, Any]) -> Labels:
    """The label values of a series, in the order of the family's labels."""
    return tuple([str(attributes.get(name, "")) for name in metric.labels])


def value_of(point: Any) -> Value:
    """The value of a data point as it adds up."""
    counts = getattr(point, "bucket_counts", None)
    return number(point.value) if counts is None else (list(counts), number(point.sum))


def with_others(system: ResourceMetrics, others: Table) -> ResourceMetrics:
    """The system figures of this process with those of other workers added."""
    if not others:
        return system
    added = {
        id(point): others.get(name, {}).get(_flat(point.attributes))
        for name, point in _process_points(system)
    }
    scopes = []
    for scope in system.scope_metrics:
        metrics = []
        for metric in scope.metrics:
            data: Any = metric.data
            points = [_plus(point, added.get(id(point))) for point in data.data_points]
            metrics.append(dataclasses.replace(metric, data=dataclasses.replace(data, data_points=points)))
        scopes.append(dataclasses.replace(scope, metrics=metrics))
    return dataclasses.replace(system, scope_metrics=scopes)


def _process_points(system: ResourceMetrics) -> list[tuple[str, NumberDataPoint]]:
    found = []
    for scope in system.scope_metrics:
        for metric in scope.metrics:
            if metric.name.startswith(_OF_A_PROCESS):
                grows = isinstance(metric.data, Sum) and metric.data.is_monotonic
                name = (_COUNTED if grows else _MEASURED) + metric.name
                found += [
                    (name, point) for point in metric.data.data_points if isinstance(point, NumberDataPoint)
                ]
    return found


def _flat(attributes: Any) -> Labels:
    return tuple(str(part) for item in sorted((attributes or {}).items()) for part in item)


def _plus(point: Any, value: Value | None) -> Any:
    if value is None or isinstance(value, tuple):
        return point
    return dataclasses.replace(point, value=total(plus(number(point.value), value)))
