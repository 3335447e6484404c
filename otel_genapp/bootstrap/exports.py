"""What leaves the pipeline beside the ledger's records: OTLP, and the spans that are kept here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor

from otel_genapp.bootstrap import providers
from otel_genapp.bootstrap.accounts import Accounts
from otel_genapp.bootstrap.clock import Clock
from otel_genapp.config import ENVIRONMENT, Settings
from otel_genapp.ledger.spans import SpanStore
from otel_genapp.pipeline.export import MetricExport, SpanExport
from otel_genapp.pipeline.traces import TraceKeeping
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

_MEGABYTE = 1024 * 1024

_guarded = quiet("lifecycle")


class Exports:
    """The exports of one telemetry, each with threads of its own; `spans` is None where none are kept."""

    def __init__(
        self, settings: Settings, accounts: Accounts, *, state: StateDirectory, spans: SpanStore | None
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._state = state
        self._spans: SpanExport | None = None
        self._metrics: list[MetricExport] = []
        self._store = spans
        self._clock = Clock()
        self._traces: TraceKeeping | None = None
        if spans is not None:
            self._traces = TraceKeeping(
                spans.add,
                self._tidy,
                count=accounts.delivery,
                with_content=settings.otel.capture_content,
            )

    def start(self, meters: Any, *, global_meters: Any, export_spans: bool) -> bool:
        """Open what an endpoint is configured for; whether that reads metrics.

        Raises:
            MissingDependencyError: OTLP over grpc is configured and its exporter is not installed.
        """
        settings = self._settings
        if settings.otel.traces_endpoint and export_spans:
            providers.span_exporter(settings).shutdown()  # a missing package is told now, not later
            self._spans = SpanExport(
                lambda: providers.span_exporter(settings),
                self._accounts.delivery,
                queue_size=settings.otel.span_queue_size,
                state=self._state,
            )
        if not settings.otel.metrics_endpoint:
            return False
        # Conventional http.* metrics leave beside these, so the genapp_ ones would double them.
        self._metrics = [
            MetricExport(lambda: providers.metric_exporter(settings), meters, without="genapp_http_")
        ]
        if global_meters is not None:
            self._metrics.append(MetricExport(lambda: providers.metric_exporter(settings), global_meters))
        return True

    @property
    def processors(self) -> tuple[SpanProcessor, ...]:
        """Those that want to hear of spans."""
        return tuple(one for one in (self._spans, self._traces) if one is not None)

    def flush(self, deadline: float, *, last: bool = False) -> bool:
        """Deliver what is pending, at most until then (monotonic); whether all of it arrived.

        Everybody is waited for, whoever has failed already.
        """
        answers: list[Callable[[float], bool]] = [
            one.begin_last_flush() if last else one.begin_flush() for one in self._each()
        ]
        good = True
        for answer in answers:
            good &= answer(deadline - time.monotonic())
        return good

    def drain_traces(self, timeout_s: float) -> None:
        """Bring the spans that ended in this process into their store, if that takes no longer."""
        if self._traces is not None:
            self._traces.drain(timeout_s)

    def close(self) -> None:
        """Take no more."""
        for one in self._each():
            with _guarded:
                one.close()

    def reset(self) -> None:
        """Start over; for the child of a fork."""
        if self._store is not None:
            self._store.restart()
        for one in self._each():
            one.reset()

    def describe(self) -> dict[str, Any]:
        """Their part of `status()`."""
        spans, traces = self._spans, self._traces
        return {
            "otlp": {
                "traces": spans is not None,
                "metrics": bool(self._metrics),
                "spans_pending": spans.pending if spans is not None else 0,
                "spans_spooled": spans.spooled if spans is not None else 0,
                "problem": spans.problem if spans is not None else "",
            },
            "traces": {
                "kept": traces is not None,
                "spans_waiting": traces.waiting if traces is not None else 0,
                "problem": self._why_not() if traces is None else traces.problem,
            },
        }

    def _why_not(self) -> str:
        if not self._settings.trace_megabytes:
            return f"{ENVIRONMENT['trace_megabytes']} is 0: no spans are kept, traces show LLM calls only"
        return "this store keeps no spans: traces show LLM calls only, if it finds them"

    def _tidy(self) -> None:
        settings, store = self._settings, self._store
        before_ns = self._clock.days_ago_ns(min(settings.trace_days, settings.retention_days))
        if store is not None and before_ns is not None:
            store.tidy(before_ns=before_ns, keep_bytes=settings.trace_megabytes * _MEGABYTE)

    def _each(self) -> Iterator[SpanExport | TraceKeeping | MetricExport]:
        if self._spans is not None:
            yield self._spans
        if self._traces is not None:
            yield self._traces
        yield from self._metrics
