"""Bound recording equals the SDK's public API, and steps aside where it cannot be."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics import Counter as SDKCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_genapp import semconv
from otel_genapp.metrics.bound import bind
from otel_genapp.metrics.family import MeasuredFamily
from otel_genapp.metrics.views import genapp_views

LABEL_SETS = [{"name": f"action {number}", "status": status} for number in range(4) for status in ("a", "b")]


def meters(*readers: MetricReader, **settings: Any) -> MeterProvider:
    return MeterProvider(
        metric_readers=readers,
        resource=Resource({}),
        views=genapp_views(),
        shutdown_on_exit=False,
        **settings,
    )


def instruments(provider: MeterProvider) -> tuple[Counter, Histogram]:
    meter = provider.get_meter(semconv.SCOPE)
    return (
        meter.create_counter(semconv.ACTION_COUNT.instrument),
        meter.create_histogram(semconv.ACTION_DURATION.instrument),
    )


def add_publicly(instrument: Any, attributes: dict[str, str]) -> Callable[[float, Context | None], None]:
    add = instrument.add if isinstance(instrument, Counter) else instrument.record
    return lambda value, context: add(value, attributes, context)


def collected(reader: InMemoryMetricReader) -> list[Any]:
    """Every data point, without times, in a fixed order; which exemplars were kept is random."""
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        (metric.name, dataclasses.replace(point, time_unix_nano=0, start_time_unix_nano=0, exemplars=[]))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return sorted(points, key=lambda item: (item[0], sorted(item[1].attributes.items())))


def span_context(seed: random.Random, *, sampled: bool) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    identity = SpanContext(
        seed.getrandbits(128) or 1, seed.getrandbits(64) or 1, is_remote=False, trace_flags=flags
    )
    return trace.set_span_in_context(NonRecordingSpan(identity), Context())


@pytest.mark.parametrize("readers", [1, 2])
def test_3000_random_operations_equal_the_public_api(readers: int) -> None:
    """Counts, sums, buckets, minima and maxima are the same by either way, for every reader."""
    seed = random.Random(readers)  # noqa: S311 - repeatable on purpose
    public, short = ([InMemoryMetricReader() for _ in range(readers)] for _ in range(2))
    pairs = list(zip(instruments(meters(*public)), instruments(meters(*short)), strict=True))
    cells: dict[tuple[int, int], tuple[Any, Any]] = {}
    for _ in range(3000):
        which, labels = seed.randrange(2), seed.randrange(len(LABEL_SETS))
        value = seed.choice((0, 1, seed.randrange(1000), seed.random(), seed.uniform(0, 700), 1e15))
        context = seed.choice((None, Context(), span_context(seed, sampled=True)))
        slow, fast = (add_publicly(one, LABEL_SETS[labels]) for one in pairs[which])
        slow(value, context)
        if (which, labels) in cells:
            cells[which, labels][1](value, context)
        else:
            fast(value, context)
            cells[which, labels] = (fast, bind(pairs[which][1], LABEL_SETS[labels]))
            assert cells[which, labels][1] is not None
    for expected, found in zip(public, short, strict=True):
        assert collected(found) == collected(expected)


FILTERS = [
    pytest.param({}, [False, True], id="trace based"),
    pytest.param({"exemplar_filter": AlwaysOnExemplarFilter()}, [True, True], id="always"),
    pytest.param({"exemplar_filter": AlwaysOffExemplarFilter()}, [False, False], id="never"),
]


@pytest.mark.parametrize(("settings", "kept"), FILTERS)
def test_exemplars_equal_the_public_api(settings: dict[str, Any], kept: list[bool]) -> None:
    """A histogram bucket links the same span, value and time range by either way, as the filter has it."""
    seed = random.Random(7)  # noqa: S311 - repeatable on purpose
    unsampled, sampled = span_context(seed, sampled=False), span_context(seed, sampled=True)
    shown = []
    for is_bound in (False, True):
        reader = InMemoryMetricReader()
        _, histogram = instruments(meters(reader, **settings))
        record = add_publicly(histogram, {"name": "a"})
        record(0.0, Context())
        if is_bound:
            found = bind(histogram, {"name": "a"})
            assert found is not None
            record = found
        record(1.5, unsampled)
        record(70.0, sampled)
        data = reader.get_metrics_data()
        assert data is not None
        point: Any = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
        assert all(one.time_unix_nano > 1.6e18 for one in point.exemplars)
        shown.append({(one.value, one.trace_id, one.span_id) for one in point.exemplars if one.value})
    spans = [trace.get_current_span(context).get_span_context() for context in (unsampled, sampled)]
    expected = {
        (value, span.trace_id, span.span_id)
        for value, span, keep in zip((1.5, 70.0), spans, kept, strict=True)
        if keep
    }
    assert shown == [expected, expected]


def test_the_current_span_is_the_exemplar() -> None:
    """Without a context given, the current one counts."""
    reader = InMemoryMetricReader()
    _, histogram = instruments(meters(reader))
    add_publicly(histogram, {"name": "a"})(0.0, None)
    record = bind(histogram, {"name": "a"})
    assert record is not None
    context = span_context(random.Random(3), sampled=True)  # noqa: S311 - any
    span = trace.get_current_span(context)
    with trace.use_span(span):
        record(2.0, None)
    record(3.0, None)
    data = reader.get_metrics_data()
    assert data is not None
    point: Any = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    assert [(one.value, one.span_id) for one in point.exemplars] == [(2.0, span.get_span_context().span_id)]


def test_a_delta_reader_is_never_bound() -> None:
    """Beside a delta reader, which replaces its aggregations, the public API is kept."""
    delta = InMemoryMetricReader(preferred_temporality={SDKCounter: AggregationTemporality.DELTA})
    counter, histogram = instruments(meters(InMemoryMetricReader(), delta))
    counter.add(1, {"name": "a", "status": "b"})
    histogram.record(1, {"name": "a"})
    assert bind(counter, {"name": "a", "status": "b"}) is None
    assert bind(histogram, {"name": "a"}) is not None


def test_an_unseen_label_set_is_not_bound() -> None:
    """Only what was recorded publicly before has an aggregation to bind to."""
    counter, _ = instruments(meters(InMemoryMetricReader()))
    assert bind(counter, {"name": "never", "status": "seen"}) is None


def test_foreign_instruments_are_not_bound() -> None:
    """What is no SDK instrument is left to its public API."""
    assert bind(object(), {}) is None


class Renamed:
    """The consumer of an SDK that calls one of its private names something else."""

    def __init__(self, consumer: Any, name: str) -> None:
        self._consumer = consumer
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._consumer, name)


@pytest.mark.parametrize("private_name", ["_reader_storages", "_sdk_config"])
def test_without_the_private_names_counting_stays_exact(private_name: str) -> None:
    """In an SDK that has changed inside, the family falls back to the public API and says so."""
    reader = InMemoryMetricReader()
    family = MeasuredFamily(
        semconv.ACTION_COUNT, meters(reader).get_meter(semconv.SCOPE), on_fold=print, on_drop=print
    )
    instrument: Any = family._instrument
    instrument._measurement_consumer = Renamed(instrument._measurement_consumer, private_name)
    for value in (1, 2, 3):
        family.record(value, ("a", "success"))
    assert not family.bound
    assert [point.value for _, point in collected(reader)] == [6]
