"""One `genapp_` family: an OTel instrument recorded by label values, clean and within its budget.

A label set is cleaned and checked against its budgets when it is first seen; after that its
recording is bound to the SDK's aggregations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import get_ident

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter

from otel_genapp import hub, semconv
from otel_genapp.metrics.bound import Record, bind
from otel_genapp.metrics.labels import LabelGuard
from otel_genapp.quiet import quiet

_guarded = quiet("metrics")
# Far above any honest size or duration, far below what breaks an int64 sum on the wire.
VALUE_LIMIT = 1e15


class MeasuredFamily:
    """One counter or histogram. `record` never raises and costs about a microsecond once bound."""

    __slots__ = ("_cells", "_guard", "_instrument", "_on_drop", "_on_fold", "bound", "metric", "recorded")

    def __init__(
        self,
        metric: semconv.Metric,
        meter: Meter,
        *,
        on_fold: Callable[[str, str], None],
        on_drop: Callable[[], None],
        series_limit: int = semconv.SERIES_LIMIT,
    ) -> None:
        self.metric = metric
        self.bound = True
        self.recorded = 0
        """Grows with every measurement made through `record`."""
        self._on_fold = on_fold
        self._on_drop = on_drop
        self._guard = LabelGuard(metric, series_limit=series_limit)
        self._cells: dict[tuple[str, ...], Record] = {}
        self._instrument: Counter | Histogram
        if metric.kind == "counter":
            self._instrument = meter.create_counter(
                metric.instrument, unit=metric.instrument_unit, description=metric.help
            )
        else:
            self._instrument = meter.create_histogram(
                metric.instrument, unit=metric.instrument_unit, description=metric.help
            )

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        """Add to the counter or observe in the histogram.

        A value below 0, above 1e15 or not a number is dropped and counted, never recorded.
        `context` gives the exemplar its trace; the current one when None.
        """
        with _guarded:
            running = hub.active
            if running is not None and running.collecting_thread == get_ident():
                # A finalizer: this thread may hold the very lock that recording needs.
                running.put_off.append(partial(self.record, value, labels, context))
                return
            if not 0 <= value <= VALUE_LIMIT:
                self._on_drop()
                return
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._admit(labels)
            cell(value, context)
            # Afterwards: who sees the number change finds the measurement.
            self.recorded += 1

    def announce(self, labels: tuple[str, ...]) -> None:
        """Make a counter's series present with 0, so that the first increase is visible."""
        if self.metric.kind == "counter":
            self.record(0, labels)

    def bound_cell(self, labels: tuple[str, ...]) -> Record | None:
        """The short way to record a label set, once it is found and if there is one."""
        cell = self._cells.get(labels)
        return None if isinstance(cell, _Cell) else cell

    def forget(self) -> None:
        """Drop what was resolved, locks included: after a fork the aggregations are other ones."""
        self._cells = {}
        self._guard.restart_in_child()

    def _admit(self, labels: tuple[str, ...]) -> Record:
        admitted, folded = self._guard.admit(labels)
        for label in folded:
            self._on_fold(self.metric.name, label)
        cell = self._cells.get(admitted)
        if cell is None:
            cell = self._cells.setdefault(admitted, _Cell(self, admitted))
        # A value that had to be cleaned or folded is not remembered: there is no end of those.
        return cell

    def resolve(self, admitted: tuple[str, ...]) -> tuple[Record, dict[str, str]]:
        """The public recording function of a label set, and its attributes."""
        attributes = dict(zip(self.metric.labels, admitted, strict=True))
        instrument = self._instrument
        if isinstance(instrument, Counter):

            def record(value: float, context: Context | None) -> None:
                instrument.add(value, attributes, context)
        else:

            def record(value: float, context: Context | None) -> None:
                instrument.record(value, attributes, context)

        return record, attributes

    def bind(self, admitted: tuple[str, ...], attributes: Mapping[str, str]) -> Record | None:
        """Replace the label set's cell by a bound one, where the SDK allows it."""
        found = bind(self._instrument, attributes)
        self.bound = found is not None
        if found is not None:
            self._cells[admitted] = found
        return found


class _Cell:
    """A label set not bound yet: records once through the public API, then binds itself."""

    __slots__ = ("_admitted", "_family", "_record")

    def __init__(self, family: MeasuredFamily, admitted: tuple[str, ...]) -> None:
        self._family = family
        self._admitted = admitted
        self._record: Record | None = None

    def __call__(self, value: float, context: Context | None) -> None:
        if self._record is None:
            self._record, attributes = self._family.resolve(self._admitted)
            self._record(value, context)
            self._family.bind(self._admitted, attributes)
            return
        self._record(value, context)
