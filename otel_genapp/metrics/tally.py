"""Families as plain sums: for records that are folded after the worker that wrote them has died."""

from __future__ import annotations

from bisect import bisect_left

from opentelemetry.context import Context

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, added, compacted, number
from otel_genapp.metrics.family import VALUE_LIMIT
from otel_genapp.metrics.labels import clean_label
from otel_genapp.metrics.snapshot import Table


class Sums:
    """One family; recorded as `metrics.family.MeasuredFamily` is."""

    __slots__ = ("_metric", "_series")

    def __init__(self, metric: semconv.Metric, table: Table) -> None:
        self._metric = metric
        self._series = table.setdefault(metric.name, {})

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        """Add to the counter or observe in the histogram; what a living worker drops is dropped here too."""
        if not 0 <= value <= VALUE_LIMIT:
            return
        key = tuple([clean_label(label) for label in labels])
        new: Value = number(value)
        if self._metric.kind == "histogram":
            counts = [0] * (len(self._metric.buckets) + 1)
            counts[bisect_left(self._metric.buckets, value)] = 1
            new = counts, number(value)
        before = self._series.get(key)
        # Compact: a journal may hold a million records of one series.
        self._series[key] = new if before is None else compacted(added(before, new))


class Tally:
    """The families `metrics.folding.fold` records, by the same names, adding to `table`."""

    def __init__(self, table: Table) -> None:
        self.llm_attempts = Sums(semconv.LLM_ATTEMPTS, table)
        self.llm_cost = Sums(semconv.LLM_COST, table)
        self.llm_requests = Sums(semconv.LLM_REQUESTS, table)
        self.llm_duration = Sums(semconv.LLM_DURATION, table)
        self.llm_first_token = Sums(semconv.LLM_FIRST_TOKEN, table)
        self.llm_unpriced = Sums(semconv.LLM_UNPRICED, table)
        self.llm_unknown_usage = Sums(semconv.LLM_UNKNOWN_USAGE, table)
        self.llm_tool_calls = Sums(semconv.LLM_TOOL_CALLS, table)
        self.llm_tokens = Sums(semconv.LLM_TOKENS, table)
        self.errors = Sums(semconv.ERRORS, table)
        self.messages = Sums(semconv.MESSAGES, table)
        self.feedback_score = Sums(semconv.FEEDBACK_SCORE, table)
