"""The LLM families as folds of records: what the ledger holds is what Prometheus shows."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.context import Context

from otel_genapp import semconv
from otel_genapp.metrics.bound import NO_EXEMPLAR
from otel_genapp.records import LLMAmendment, Usage, UsageRecord


class Family(Protocol):
    """One of them."""

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        """Add to the counter or observe in the histogram."""


class LLMFamilies(Protocol):
    """The families LLM records are folded into."""

    @property
    def llm_attempts(self) -> Family: ...
    @property
    def llm_cost(self) -> Family: ...
    @property
    def llm_requests(self) -> Family: ...
    @property
    def llm_duration(self) -> Family: ...
    @property
    def llm_first_token(self) -> Family: ...
    @property
    def llm_unpriced(self) -> Family: ...
    @property
    def llm_unknown_usage(self) -> Family: ...
    @property
    def llm_tool_calls(self) -> Family: ...
    @property
    def llm_tokens(self) -> Family: ...
    @property
    def errors(self) -> Family: ...


def fold_usage(instruments: LLMFamilies, record: UsageRecord, *, context: Context | None) -> None:
    """Count one record. `context` holds the call's span, for the exemplars of its durations."""
    model = (record.provider, record.model)
    for status in record.attempts:
        instruments.llm_attempts.record(1, (*model, status), NO_EXEMPLAR)
    if isinstance(record, LLMAmendment):
        _fold_tokens(instruments, record.usage, labels=model)
        if record.cost_nano_usd is not None:
            instruments.llm_cost.record(record.cost_nano_usd / 1e9, model, NO_EXEMPLAR)
        return
    operation = (*model, record.operation)
    instruments.llm_requests.record(1, (*operation, record.status), NO_EXEMPLAR)
    instruments.llm_duration.record(record.duration_ms / 1e3, operation, context)
    if record.first_token_ms is not None:
        instruments.llm_first_token.record(record.first_token_ms / 1e3, operation, context)
    _fold_tokens(instruments, record.usage, labels=model)
    if record.cost_nano_usd is not None:
        instruments.llm_cost.record(record.cost_nano_usd / 1e9, model, NO_EXEMPLAR)
    elif record.unpriced:
        instruments.llm_unpriced.record(1, model, NO_EXEMPLAR)
    if record.usage_unknown:
        instruments.llm_unknown_usage.record(1, model, NO_EXEMPLAR)
    if record.tool_calls:
        instruments.llm_tool_calls.record(record.tool_calls, model, NO_EXEMPLAR)
    if record.status == semconv.FAIL:
        instruments.errors.record(1, (record.error_type or "unknown", record.provider), context)


def _fold_tokens(instruments: LLMFamilies, usage: Usage, *, labels: tuple[str, str]) -> None:
    for kind, tokens in usage.by_type():
        if tokens:
            instruments.llm_tokens.record(tokens, (*labels, kind), NO_EXEMPLAR)
