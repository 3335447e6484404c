"""Families as plain sums: for records that are folded after the worker that wrote them has died."""

from __future__ import annotations

from bisect import bisect_left

from opentelemetry.context import Context

from otel_genapp import semconv
from otel_genapp.metrics.labels import clean_label
from otel_genapp.metrics.snapshot import Table


class _Sums:
    """One family; recorded as `metrics.family.MeasuredFamily` is."""

    __slots__ = ("_metric", "_series")

    def __init__(self, metric: semconv.Metric, table: Table) -> None:
        self._metric = metric
        self._series = table.setdefault(metric.name, {})

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        """Add to the counter or observe in the histogram."""
        key = tuple(clean_label(label) for label in labels)
        if self._metric.kind == "counter":
            before = self._series.get(key, 0)
            if not isinstance(before, list):
                self._series[key] = before + value
            return
        found = self._series.get(key)
        if not isinstance(found, list):
            found = self._series[key] = [0] * (len(self._metric.buckets) + 1) + [0.0]
        found[bisect_left(self._metric.buckets, value)] += 1
        found[-1] += value


class Tally:
    """The families `metrics.llm.fold` records, by the same names, adding to `table`."""

    def __init__(self, table: Table) -> None:
        self.llm_attempts = _Sums(semconv.LLM_ATTEMPTS, table)
        self.llm_cost = _Sums(semconv.LLM_COST, table)
        self.llm_requests = _Sums(semconv.LLM_REQUESTS, table)
        self.llm_duration = _Sums(semconv.LLM_DURATION, table)
        self.llm_first_token = _Sums(semconv.LLM_FIRST_TOKEN, table)
        self.llm_unpriced = _Sums(semconv.LLM_UNPRICED, table)
        self.llm_unknown_usage = _Sums(semconv.LLM_UNKNOWN_USAGE, table)
        self.llm_tool_calls = _Sums(semconv.LLM_TOOL_CALLS, table)
        self.llm_tokens = _Sums(semconv.LLM_TOKENS, table)
        self.errors = _Sums(semconv.ERRORS, table)
