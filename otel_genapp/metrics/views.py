"""Views that hold every family to its label set and buckets, whatever is recorded into it."""

from __future__ import annotations

import inspect
from typing import Any

from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from otel_genapp import semconv

# Newer SDKs fold past 2000 label sets into a series without any of the labels. The label guard
# folds earlier and label by label, so the SDK's own limit must never be met.
_NEVER_MET = 1_000_000


def genapp_views() -> list[View]:
    """One View for each family of `semconv.METRICS`."""
    limit: dict[str, Any] = {}
    if "aggregation_cardinality_limit" in inspect.signature(View.__init__).parameters:
        limit["aggregation_cardinality_limit"] = _NEVER_MET
    return [
        View(
            instrument_name=metric.instrument,
            meter_name=semconv.SCOPE,
            attribute_keys=set(metric.labels),
            aggregation=ExplicitBucketHistogramAggregation(metric.buckets) if metric.buckets else None,
            **limit,
        )
        for metric in semconv.METRICS
    ]
