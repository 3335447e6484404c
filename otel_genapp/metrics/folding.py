"""Records of any kind as what Prometheus shows of them."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.context import Context

from otel_genapp.metrics.conversations import FoldedFamilies, fold_fact
from otel_genapp.metrics.llm import LLMFamilies, fold_usage
from otel_genapp.records import Record, UsageRecord


class Families(LLMFamilies, FoldedFamilies, Protocol):
    """All families that are folds of records."""


def fold(families: Families, record: Record, *, context: Context | None) -> None:
    """Count one record. `context` holds its span, for the exemplars of durations."""
    if isinstance(record, UsageRecord):
        fold_usage(families, record, context=context)
    else:
        fold_fact(families, record)
