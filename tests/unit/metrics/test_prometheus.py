"""`/prometheus`: exactly the vocabulary, equal to the official exporter's, whatever is recorded."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_genapp import semconv
from otel_genapp.metrics.prometheus import SYSTEM_SCOPE, negotiate
from otel_genapp.semconv import Metric
from tests.builders import CONSTANT_LABELS, Metering, own_labels, samples_of

NASTY = (
    "plain",
    'quote " inside',
    "back\\slash",
    "line\nbreak",
    "carriage\rreturn",
    "tab\tand\x00nul",
    "next\x85line\u2028sep",
    "модель 模型 🙂",
    "half \ud800 pair",
    "",
    "{}=,",
    "# EOF",
    "le",
)
RECORDED = tuple(metric for metric in semconv.METRICS if metric.kind != "gauge")


def record_at_random(metering: Metering, seed: random.Random, count: int) -> None:
    """Random values under random labels into every family."""
    by_metric = {family.metric.name: family for family in metering.instruments._families}
    for _ in range(count):
        metric = seed.choice(RECORDED)
        labels = tuple(seed.choice(NASTY) for _ in metric.labels)
        whole = metric.kind == "counter" and not metric.name.endswith("usd_total")
        value = seed.randrange(1000) if whole else seed.choice((seed.random(), seed.uniform(0, 2e7), 0.1))
        by_metric[metric.name].record(value, labels)


def stock_reader() -> tuple[PrometheusMetricReader, CollectorRegistry]:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        disable_target_info=True,
        scope_info_enabled=False,
        resource_attribute_filter=lambda key: key in CONSTANT_LABELS,
        registry=registry,
    )
    return reader, registry


def normal(text: str, *, openmetrics: bool = False) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels, bucket bounds as numbers; each may occur once."""
    found = {}
    for sample in samples_of(text, openmetrics=openmetrics):
        labels = dict(sample.labels)
        if "le" in labels and sample.name.endswith("_bucket"):
            labels["le"] = str(float(labels["le"]))
        key = (sample.name, frozenset(labels.items()))
        assert key not in found
        found[key] = sample.value
    return found


@pytest.mark.parametrize("seed", range(2))
def test_equal_to_the_official_exporter(seed: int) -> None:
    """Random data give the same names, labels and values as the stock reader on the same provider."""
    stock, registry = stock_reader()
    metering = Metering(stock)
    record_at_random(metering, random.Random(seed), 1200)  # noqa: S311 - repeatable on purpose
    expected = normal(generate_latest(registry).decode())
    assert normal(metering.text()) == expected
    assert normal(metering.openmetrics(), openmetrics=True) == expected


def expected_labels(metric: Metric) -> set[str]:
    return {*metric.labels, "env", "app"}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_family_is_as_the_vocabulary_says(openmetrics: bool) -> None:
    """After a record in each, the families, kinds, help texts, labels and buckets are semconv's, no more."""
    metering = Metering()
    for family in metering.instruments._families:
        family.record(1, tuple("x" for _ in family.metric.labels))
    text = metering.openmetrics() if openmetrics else metering.text()
    parse = parse_openmetrics if openmetrics else parse_text
    families = {found.name: found for found in parse(text)}
    shown = [metric for metric in semconv.METRICS if metric.kind != "gauge" or metric.name in metering.gauges]
    by_name = {metric.name.removesuffix("_total"): metric for metric in shown}
    assert {name.removesuffix("_total") for name in families} == set(by_name)
    for name, found in families.items():
        metric = by_name[name.removesuffix("_total")]
        assert (found.type, found.documentation) == (metric.kind, metric.help)
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        assert {sample.name for sample in found.samples} == {metric.name + suffix for suffix in suffixes}
        for sample in found.samples:
            assert set(sample.labels) - {"le"} == expected_labels(metric)
            assert {key: sample.labels[key] for key in CONSTANT_LABELS} == CONSTANT_LABELS
        bounds = [float(sample.labels["le"]) for sample in found.samples if "le" in sample.labels]
        assert sorted(set(bounds)) == [*metric.buckets, *([float("inf")] if metric.buckets else [])]


def test_known_series_are_there_from_the_start() -> None:
    """Before anything happened every series known in advance is present with 0, and both gauges."""
    metering = Metering()
    known = {
        (metric.name, tuple(sorted(zip(metric.labels, labels, strict=True)))): 0.0
        for metric in semconv.METRICS
        for labels in metric.known
    }
    gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        (name, ()): 0.0 for name in ("genapp_llm_in_flight", "genapp_active_sessions")
    }
    shown = {(sample.name, own_labels(sample)): sample.value for sample in samples_of(metering.text())}
    assert shown == {**known, **gauges}


def test_gauges_are_read_at_the_scrape() -> None:
    """A gauge shows what its function says at that moment."""
    metering = Metering()
    metering.gauges["genapp_llm_in_flight"] = 3
    first = metering.samples("genapp_llm_in_flight")
    metering.gauges["genapp_llm_in_flight"] = 2
    assert (first, metering.samples("genapp_llm_in_flight")) == ({(): 3.0}, {(): 2.0})


def test_a_raising_gauge_loses_only_itself(expected_own_errors: list[Any]) -> None:
    """Where a gauge cannot be read the rest of the scrape is served."""
    metering = Metering()
    del metering.gauges["genapp_llm_in_flight"]
    assert metering.samples("genapp_llm_in_flight") == {}
    assert metering.samples("genapp_active_sessions") == {(): 0.0}
    assert [own.site for own in expected_own_errors] == ["metrics"] * 2


def test_a_lone_surrogate_does_not_end_the_scrapes() -> None:
    """A label value out of a broken JSON escape is shown with a replacement."""
    metering = Metering()
    metering.instruments.action_count.record(1, ("broken \ud83d name", "success"))
    assert metering.samples("genapp_action_count_total") == {
        (("name", "broken ? name"), ("status", "success")): 1.0
    }


def traced(trace_id: int, *, sampled: bool = True) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    span = SpanContext(trace_id, trace_id + 1, is_remote=False, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


def test_exemplars() -> None:
    """OpenMetrics links a bucket to a sampled trace; text never does, nor does an unsampled one."""
    metering = Metering()
    metering.instruments.action_duration.record(0.3, ("a",), traced(0xABC))
    metering.instruments.action_duration.record(7.0, ("a",), traced(0xDEF, sampled=False))
    metering.instruments.action_count.record(1, ("a", "success"), traced(0xABC))
    found = {
        (sample.name, sample.labels.get("le")): (
            sample.exemplar.labels,
            sample.exemplar.value,
            float(sample.exemplar.timestamp or 0) > 1.6e9,
        )
        for sample in samples_of(metering.openmetrics(), openmetrics=True)
        if sample.exemplar
    }
    link = {"trace_id": f"{0xABC:032x}", "span_id": f"{0xABD:016x}"}
    assert found == {
        ("genapp_action_duration_sec_bucket", "0.5"): (link, 0.3, True),
        ("genapp_action_count_total", None): (link, 1.0, True),
    }
    assert " # {" not in metering.text()


def test_exemplars_on_random_traffic_are_valid() -> None:
    """Each exemplar lies in its bucket, its labels fit the 128 characters OpenMetrics allows."""
    metering = Metering()
    seed = random.Random(5)  # noqa: S311 - repeatable on purpose
    for number in range(500):
        value = seed.choice((seed.random(), seed.uniform(0, 900), 0.0, 600.0))
        metering.instruments.llm_duration.record(value, ("p", "m", "chat"), traced(number + 1))
    lower = 0.0
    shown = 0
    for sample in samples_of(metering.openmetrics(), openmetrics=True):
        if sample.name != "genapp_llm_request_duration_sec_bucket":
            continue
        upper = float(sample.labels["le"])
        if sample.exemplar:
            shown += 1
            assert lower < sample.exemplar.value <= upper or sample.exemplar.value == 0.0
            assert sum(len(key) + len(value) for key, value in sample.exemplar.labels.items()) <= 128
        lower = upper
    assert shown > 10


def test_concurrent_scrapes_are_consistent() -> None:
    """4 threads with 200 scrapes each, while others record, each see whole and never falling numbers."""
    metering = Metering()
    stop = threading.Event()
    problems: list[str] = []

    def record() -> None:
        while not stop.is_set():
            metering.instruments.action_count.record(1, ("a", "success"))
            metering.instruments.action_duration.record(0.2, ("a",))

    def scrape(openmetrics: bool) -> None:
        last: Counter[str] = Counter()
        for _ in range(200):
            text = metering.openmetrics() if openmetrics else metering.text()
            lines = re.findall(
                r"^(genapp_action_[^ ]*(?:total|bucket|count)\{.*\}) (\d+)\b", text, re.MULTILINE
            )
            found = Counter({series: int(value) for series, value in lines})
            buckets = [value for series, value in found.items() if 'le="+Inf"' in series]
            if len(lines) != len(found):
                problems.append("a series is there twice")
            if any(found[series] < value for series, value in last.items()):
                problems.append("a number fell")
            if buckets != [
                value for series, value in found.items() if "_count" in series and "_sec" in series
            ]:
                problems.append("the buckets do not add up to the count")
            last = found

    recording = [threading.Thread(target=record) for _ in range(2)]
    scraping = [threading.Thread(target=scrape, args=(number % 2 == 0,)) for number in range(4)]
    for thread in (*recording, *scraping):
        thread.start()
    for thread in scraping:
        thread.join()
    stop.set()
    for thread in recording:
        thread.join()
    assert problems == []


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1", True),
    ],
)
def test_negotiation(accept: str, openmetrics: bool) -> None:
    """OpenMetrics is for those who ask for it."""
    assert negotiate(accept) is openmetrics


def test_foreign_instruments_stay_out() -> None:
    """Instruments of other scopes on the provider, and unknown ones of ours, are not exposed."""
    metering = Metering()
    metering.provider.get_meter("somebody").create_counter("genapp_http_requests").add(5)
    metering.provider.get_meter(semconv.SCOPE).create_counter("genapp_unheard_of").add(5)
    text = metering.text()
    assert metering.samples("genapp_http_requests_total") == {}
    assert "unheard" not in text


@pytest.mark.parametrize("openmetrics", [False, True])
def test_system_metrics_are_served_too(openmetrics: bool) -> None:
    """What the official system-metrics instrumentation records is shown under its official names."""
    metering = Metering()
    meter = metering.provider.get_meter(SYSTEM_SCOPE)
    meter.create_counter("process.cpu.time", unit="s").add(2.5, {"type": "user"})
    text = metering.openmetrics() if openmetrics else metering.text()
    shown = [sample for sample in samples_of(text, openmetrics=openmetrics) if "cpu" in sample.name]
    assert [(sample.name, sample.labels, sample.value) for sample in shown] == [
        ("process_cpu_time_seconds_total", {"type": "user", **CONSTANT_LABELS}, 2.5)
    ]
