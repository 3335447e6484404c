"""The OTel instruments behind the `genapp_` families, recorded by label values.

Upstream: capture (HTTP, actions, errors) on the host's thread, the folds (LLM) on the pipeline's.
Downstream: the readers of the private MeterProvider, `metrics.prometheus` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_genapp import semconv
from otel_genapp.metrics.family import MeasuredFamily
from otel_genapp.metrics.http import HttpFamilies
from otel_genapp.quiet import quiet

Level = float | Mapping[tuple[str, ...], float] | None
"""The value of a gauge, or its values by label values; None where that cannot be told."""
Gauge = Callable[[], Level]
"""What a gauge shows now."""

asks_store: ContextVar[bool] = ContextVar("otel_genapp_asks_store", default=True)
"""False while somebody collects who must not wait for the store: gauges read from it are left out."""

_guarded = quiet("metrics")


class Instruments:
    """Every family of `semconv.METRICS`, by attribute (`http_requests`, `llm_tokens`, …)."""

    http_requests: MeasuredFamily
    http_duration: MeasuredFamily
    http_size: MeasuredFamily
    http: HttpFamilies
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
    llm_attempts: MeasuredFamily
    messages: MeasuredFamily
    errors: MeasuredFamily
    conversations: MeasuredFamily
    conversation_outcomes: MeasuredFamily
    conversation_resolution: MeasuredFamily
    feedback_score: MeasuredFamily
    critical_reviews: MeasuredFamily
    repeat_contacts: MeasuredFamily
    intent_recognitions: MeasuredFamily
    bot_update_lag: MeasuredFamily
    bot_throttled: MeasuredFamily
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
        """`gauges` are those somebody keeps, by name; the others show nothing."""
        self._families: list[MeasuredFamily] = []
        self._merged = [
            gauges[metric.name] for _, metric in _attributes() if _is_merged(metric) and metric.name in gauges
        ]
        for attribute, metric in _attributes():
            if metric.kind == "gauge":
                if metric.name in gauges:
                    _observe(meter, metric, gauge=gauges[metric.name])
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
        self.http = HttpFamilies(self.http_requests, self.http_duration, size=self.http_size)
        self.announce_known()

    @property
    def bound(self) -> bool:
        """Whether recording takes the short way; False means the SDK's public API throughout."""
        return all(family.bound for family in self._families)

    def revision(self) -> int:
        """A number that changes when something was recorded, or a gauge that workers merge has moved."""
        moved: list[object] = []
        with _guarded:
            moved = [_comparable(gauge()) for gauge in self._merged]
        return hash((self.http.recorded, *(family.recorded for family in self._families), *moved))

    def announce_known(self) -> None:
        """Show the series whose labels are all known in advance, with 0."""
        for family in self._families:
            for labels in family.metric.known:
                family.announce(labels)

    def forget(self) -> None:
        """Drop everything resolved and show the known series again; for the child of a fork."""
        for family in self._families:
            family.forget()
        self.http.forget()
        self.announce_known()

    def _count_fold(self, metric: str, label: str) -> None:
        self.telemetry_folded.record(1, (metric, label))

    def _count_drop(self) -> None:
        self.telemetry_dropped.record(1, ("measurement", "invalid_value"))


def _attributes() -> Iterable[tuple[str, semconv.Metric]]:
    for name, value in vars(semconv).items():
        if isinstance(value, semconv.Metric):
            yield name.lower(), value


def _is_merged(metric: semconv.Metric) -> bool:
    return metric.kind == "gauge" and metric.merge not in {"store", "host"}


def _comparable(level: Level) -> object:
    return tuple(sorted(level.items())) if isinstance(level, Mapping) else level


def _observe(meter: Meter, metric: semconv.Metric, *, gauge: Gauge) -> None:
    def callback(_options: CallbackOptions) -> list[Observation]:
        if metric.merge == "store" and not asks_store.get():
            return []
        with _guarded:
            level = gauge()
            if level is None:
                return []
            if not isinstance(level, Mapping):
                return [Observation(level)]
            return [
                Observation(value, dict(zip(metric.labels, labels, strict=True)))
                for labels, value in level.items()
            ]
        return []

    meter.create_observable_gauge(
        metric.instrument, callbacks=[callback], unit=metric.instrument_unit, description=metric.help
    )
