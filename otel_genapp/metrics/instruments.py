"""The OTel instruments behind the `genapp_` families, recorded by label values.

Upstream: capture (HTTP, actions, errors) on the host's thread, the folds (LLM) on the pipeline's.
Downstream: the readers of the private MeterProvider, `metrics.prometheus` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from otel_genapp import semconv
from otel_genapp.metrics.bound import Record, bind
from otel_genapp.metrics.labels import LabelGuard
from otel_genapp.quiet import quiet

Gauge = Callable[[], float]

_guarded = quiet("metrics")
# Far above any honest size or duration, far below what breaks an int64 sum on the wire.
_VALUE_LIMIT = 1e15


class MeasuredFamily:
    """One counter or histogram. `record` never raises and costs about a microsecond once bound."""

    __slots__ = ("_cells", "_guard", "_instrument", "_on_drop", "_on_fold", "bound", "metric")

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
            if not 0 <= value <= _VALUE_LIMIT:
                self._on_drop()
                return
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._admit(labels)
            cell(value, context)

    def announce(self, labels: tuple[str, ...]) -> None:
        """Make a counter's series present with 0, so that the first increase is visible."""
        if self.metric.kind == "counter":
            self.record(0, labels)

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


class Instruments:
    """Every family of `semconv.METRICS`, by attribute (`http_requests`, `llm_tokens`, …)."""

    http_requests: MeasuredFamily
    http_duration: MeasuredFamily
    http_size: MeasuredFamily
    action_count: MeasuredFamily
    action_duration: MeasuredFamily
    action_size: MeasuredFamily
    llm_requests: MeasuredFamily
    llm_duration: MeasuredFamily
    llm_first_token: MeasuredFamily
    llm_tokens: MeasuredFamily
    llm_cost: MeasuredFamily
    llm_unpriced: MeasuredFamily
    llm_unknown_usage: MeasuredFamily
    llm_tool_calls: MeasuredFamily
    errors: MeasuredFamily
    telemetry_errors: MeasuredFamily
    telemetry_records: MeasuredFamily
    telemetry_dropped: MeasuredFamily
    telemetry_folded: MeasuredFamily

    def __init__(
        self,
        meter: Meter,
        gauges: Mapping[str, Gauge],
        *,
        series_limit: int = semconv.SERIES_LIMIT,
    ) -> None:
        self._families: list[MeasuredFamily] = []
        for attribute, metric in _attributes():
            if metric.kind == "gauge":
                meter.create_observable_gauge(
                    metric.instrument,
                    callbacks=[_observed(gauges[metric.name])],
                    unit=metric.unit,
                    description=metric.help,
                )
                continue
            family = MeasuredFamily(
                metric,
                meter,
                on_fold=self._count_fold,
                on_drop=self._count_drop,
                series_limit=series_limit,
            )
            setattr(self, attribute, family)
            self._families.append(family)
        self.announce_known()

    @property
    def bound(self) -> bool:
        """Whether recording takes the short way; False means the SDK's public API throughout."""
        return all(family.bound for family in self._families)

    def announce_known(self) -> None:
        """Show the series whose labels are all known in advance, with 0."""
        for family in self._families:
            for labels in family.metric.known:
                family.announce(labels)

    def forget(self) -> None:
        """Drop everything resolved and show the known series again; for the child of a fork."""
        for family in self._families:
            family.forget()
        self.announce_known()

    def _count_fold(self, metric: str, label: str) -> None:
        self.telemetry_folded.record(1, (metric, label))

    def _count_drop(self) -> None:
        self.telemetry_dropped.record(1, ("measurement", "invalid_value"))


def _attributes() -> Iterable[tuple[str, semconv.Metric]]:
    for name, value in vars(semconv).items():
        if isinstance(value, semconv.Metric):
            yield name.lower(), value


def _observed(gauge: Gauge) -> Callable[[CallbackOptions], list[Observation]]:
    def callback(_options: CallbackOptions) -> list[Observation]:
        with _guarded:
            return [Observation(gauge())]
        return []

    return callback
