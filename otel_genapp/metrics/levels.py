"""Gauges that keep what they were set to last: health checks, rate limits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping

from otel_genapp import semconv
from otel_genapp.metrics.instruments import Gauge
from otel_genapp.metrics.labels import LabelGuard
from otel_genapp.quiet import quiet

_LATER_LIMIT = 256
"""Values that wait to be worked out; past so many they are."""

_guarded = quiet("metrics")

Values = Mapping[tuple[str, ...], float]
"""Values by their labels."""


class Levels:
    """The last values by family and label values, and when they were told on `clock`, which nobody sets."""

    def __init__(self, *metrics: semconv.Metric, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = metrics
        self._clock = clock
        self._guards = {metric.name: LabelGuard(metric) for metric in metrics}
        self.restart()

    def restart(self) -> None:
        """Know nothing: what the parent saw is the parent's to show; for the child of a fork."""
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[str, ...], tuple[float, float]]] = {
            metric.name: {} for metric in self.metrics
        }
        self._later: dict[Hashable, tuple[semconv.Metric, Callable[[], Values], float]] = {}
        for guard in self._guards.values():
            guard.restart_in_child()

    def set(self, metric: semconv.Metric, labels: tuple[str, ...], *, value: float) -> None:
        """Show `value` for these labels from now on; what is no finite number is left out."""
        with _guarded:
            self._keep(metric, labels, told=(value, self._clock()))

    def set_later(self, metric: semconv.Metric, source: Hashable, *, values: Callable[[], Values]) -> None:
        """Show what `values` gives from now on; it is asked when somebody looks.

        It takes the place of an earlier one of the same `source`, which nobody has looked at: what sets
        levels often costs nothing but that.
        """
        with _guarded:
            self._later.pop(source, None)  # so that it comes after what others have set meanwhile
            self._later[source] = (metric, values, self._clock())
            if len(self._later) > _LATER_LIMIT:
                self._work_out()

    def gauge(self, metric: semconv.Metric) -> Gauge:
        """What the family shows."""
        return lambda: {labels: value for labels, (value, _) in self._told(metric).items()}

    def ages(self, metric: semconv.Metric) -> dict[tuple[str, ...], tuple[float, float]]:
        """What the family shows, each value with the seconds since it was told last."""
        now_s = self._clock()
        return {
            labels: (value, max(now_s - told_s, 0.0))
            for labels, (value, told_s) in self._told(metric).items()
        }

    def _told(self, metric: semconv.Metric) -> dict[tuple[str, ...], tuple[float, float]]:
        with _guarded:
            self._work_out()
        with self._lock:
            return dict(self._values[metric.name])

    def _work_out(self) -> None:
        for source in tuple(self._later):
            metric, values, told_s = self._later.pop(source, _NOTHING)
            for labels, value in values().items():
                self._keep(metric, labels, told=(value, told_s))

    def _keep(self, metric: semconv.Metric, labels: tuple[str, ...], *, told: tuple[float, float]) -> None:
        if math.isfinite(told[0]):
            admitted, _ = self._guards[metric.name].admit(labels)
            with self._lock:
                self._values[metric.name][admitted] = told


_NOTHING: tuple[semconv.Metric, Callable[[], Values], float] = (semconv.HEALTH_UP, dict, 0.0)
