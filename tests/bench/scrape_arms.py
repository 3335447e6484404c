"""A scrape of 10,000 lines: our `/prometheus` and the official reader, the same series."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.arm import Arm

if TYPE_CHECKING:
    from tests.bench.series import Family


def scrape_stock(folder: Path) -> Arm:
    """The official reader and prometheus_client's text, scope labels off."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        scope_info_enabled=False,
        disable_target_info=True,
        registry=registry,
        resource_attribute_filter=lambda key: key in {"env", "app"},
    )
    families = _families(folder)
    views = [
        View(instrument_name=it["instrument"], aggregation=ExplicitBucketHistogramAggregation(it["buckets"]))
        for it in families
        if it["buckets"]
    ]
    meter = MeterProvider([reader], Resource({"env": "dev", "app": "bench"}), views=views).get_meter("bench")
    cells = []
    for it in families:
        record: Callable[..., None] = (
            meter.create_counter(it["instrument"], it["unit"], it["help"]).add
            if it["kind"] == "counter"
            else meter.create_histogram(it["instrument"], it["unit"], it["help"]).record
        )
        cells += [_cell(record, dict(zip(it["labels"], values, strict=True))) for values in it["series"]]
    return _scrapes(lambda: generate_latest(registry), cells)


def scrape(folder: Path) -> Arm:
    """Our `/prometheus`, the same series."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    from otel_genapp import semconv
    from otel_genapp.metrics.instruments import Instruments
    from otel_genapp.metrics.prometheus import GenappPrometheusReader
    from otel_genapp.metrics.views import genapp_views

    constant = {"env": "dev", "app": "bench"}
    reader = GenappPrometheusReader(constant)
    provider = MeterProvider([reader], Resource(constant), views=genapp_views())
    gauges = {metric.name: float for metric in semconv.METRICS if metric.kind == "gauge"}
    instruments = Instruments(provider.get_meter(semconv.SCOPE), gauges)
    record = {
        known.metric.name: known.record for known in vars(instruments).values() if hasattr(known, "metric")
    }
    cells = [_cell(record[it["name"]], tuple(values)) for it in _families(folder) for values in it["series"]]
    return _scrapes(lambda: reader.exposition(openmetrics=False), cells)


ARMS: dict[str, Callable[[Path], Arm]] = {arm.__name__: arm for arm in (scrape_stock, scrape)}


def _families(folder: Path) -> list[Family]:
    from tests.bench import series

    found: list[Family] = json.loads((folder / series.FILE).read_text(encoding="utf-8"))
    return found


def _cell(record: Callable[..., None], labels: object) -> Callable[[], None]:
    return lambda: record(1, labels)


def _scrapes(scrape_once: Callable[[], bytes], cells: list[Callable[[], None]]) -> Arm:
    from tests.bench import series

    def touch() -> None:
        # Every value is a new one in every scrape, so that no arm can keep its text.
        for cell in cells:
            cell()

    def run(count: int) -> None:
        for _ in range(count):
            scrape_once()

    touch()
    return Arm(run=run, refresh=touch, check=lambda _total: series.check_size(scrape_once()))
