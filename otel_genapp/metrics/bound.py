"""Recording into an aggregation found once, instead of hashing a known label set every time.

More than half of an SDK `add` or `record` is computing the identity of a label set (measured:
7.8 µs against 0.9 µs). `bind` looks the aggregations of one label set up and returns a function
that feeds them directly; the result is equal to the public call, exemplars included. It uses
names private to the SDK, so anything unexpected makes `bind` return None and the caller keeps to
the public API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any

from opentelemetry.context import Context, get_current

Record = Callable[[float, Context | None], None]

NO_EXEMPLAR = Context()
"""Recorded with this context, a value gives no exemplar, and the filter is not even asked."""


class _Plain:
    """The part of the SDK's `Measurement` that aggregations read when no exemplar is wanted."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value


class _Sample:
    """The part they read when one is."""

    __slots__ = ("attributes", "context", "time_unix_nano", "value")

    def __init__(self, value: float, *, attributes: Mapping[str, str], context: Context) -> None:
        self.value = value
        self.time_unix_nano = time_ns()
        self.attributes = attributes
        self.context = context


def bind(instrument: Any, attributes: Mapping[str, str]) -> Record | None:
    """A function recording `instrument` with `attributes`, or None where the SDK is not as known.

    The label set must have been recorded through the public API before: that creates its
    aggregations. Delta readers replace aggregations at every collection, so they are never bound.
    """
    try:
        from opentelemetry.sdk.metrics._internal._view_instrument_match import (
            _hash_attributes,
        )
        from opentelemetry.sdk.metrics.export import AggregationTemporality

        consumer = instrument._measurement_consumer  # noqa: SLF001
        feeds: list[Callable[[Any, bool], None]] = []
        for storage in consumer._reader_storages.values():  # noqa: SLF001
            temporality = storage._instrument_class_temporality[type(instrument)]  # noqa: SLF001
            if temporality is not AggregationTemporality.CUMULATIVE:
                return None
            for match in storage._get_or_init_view_instrument_match(instrument):  # noqa: SLF001
                keys = match._view._attribute_keys  # noqa: SLF001
                kept = {name: value for name, value in attributes.items() if keys is None or name in keys}
                aggregation = match._attributes_aggregation[_hash_attributes(kept)]  # noqa: SLF001
                feeds.append(aggregation.aggregate)
        wants_exemplar = consumer._sdk_config.exemplar_filter.should_sample  # noqa: SLF001
    except (AttributeError, ImportError, KeyError, TypeError):
        return None
    if len(feeds) == 1:
        return _one(feeds[0], wants_exemplar, attributes=attributes)
    return _several(tuple(feeds), wants_exemplar, attributes=attributes)


def _one(
    feed: Callable[[Any, bool], None], wants_exemplar: Callable[..., bool], *, attributes: Mapping[str, str]
) -> Record:
    def record(value: float, context: Context | None) -> None:
        if context is None:
            context = get_current()
        if context is not NO_EXEMPLAR and wants_exemplar(value, 0, attributes, context):
            feed(_Sample(value, attributes=attributes, context=context), True)
        else:
            feed(_Plain(value), False)

    return record


def _several(
    feeds: tuple[Callable[[Any, bool], None], ...],
    wants_exemplar: Callable[..., bool],
    *,
    attributes: Mapping[str, str],
) -> Record:
    def record(value: float, context: Context | None) -> None:
        if context is None:
            context = get_current()
        exemplar = context is not NO_EXEMPLAR and wants_exemplar(value, 0, attributes, context)
        sample = _Sample(value, attributes=attributes, context=context) if exemplar else _Plain(value)
        for feed in feeds:
            feed(sample, exemplar)

    return record
