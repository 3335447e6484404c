"""What leaves the pipeline beside the ledger's records: OTLP, and the spans that are kept here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor

from otel_genapp.bootstrap import providers
from otel_genapp.bootstrap.accounts import Accounts
from otel_genapp.bootstrap.clock import Clock
from otel_genapp.bootstrap.log_export import LogExport, start_log_export
from otel_genapp.config import ENVIRONMENT, Settings
from otel_genapp.ledger.opening import Opened
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.export import MetricExport, SpanExport
from otel_genapp.pipeline.traces import TraceKeeping
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

_MEGABYTE = 1024 * 1024
_DRAIN_S = 2.0

_guarded = quiet("lifecycle")


class Exports:
    """The exports of one telemetry, each with threads of its own; `opened` says where spans are kept."""

    def __init__(
        self, settings: Settings, accounts: Accounts, *, state: StateDirectory, opened: Opened
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._state = state
        self._spans: SpanExport | None = None
        self._metrics: list[MetricExport] = []
        self._logs: LogExport | None = None
        self._store = spans = opened.spans
        self._fleet = opened.fleet
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
        if settings.exports_logs:
            self._logs = start_log_export(
                lambda: providers.log_exporter(settings),
                self._accounts.delivery,
                resource=providers.build_resource(settings),
                otel=settings.otel,
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

    def drain_traces(self) -> None:
        """Bring the spans that ended in this process into their store, if that takes no longer than 2 s."""
        if self._traces is not None:
            self._traces.drain(_DRAIN_S)

    def clear_traces(self, session_id: str) -> int:
        """Remove the traces of a session from where they are kept here; returns how many."""
        if self._store is None or not session_id:
            return 0
        self.drain_traces()
        return self._store.clear(session_id, keys=dialects.SESSION_KEYS)

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
        spans, traces, logs = self._spans, self._traces, self._logs
        return {
            "otlp": {
                "traces": spans is not None,
                "metrics": bool(self._metrics),
                "spans_pending": spans.pending if spans is not None else 0,
                "spans_spooled": spans.spooled if spans is not None else 0,
                "problem": spans.problem if spans is not None else "",
                "logs": logs is not None,
                "logs_pending": logs.pending if logs is not None else 0,
                "logs_problem": logs.problem if logs is not None else "",
            },
            "traces": {
                "kept": traces is not None,
                "spans_waiting": traces.waiting if traces is not None else 0,
                "problem": self._why_not() if traces is None else traces.problem,
            },
        }

    def _why_not(self) -> str:
        if self._fleet is not None:
            return self._fleet.problem
        if not self._settings.trace_megabytes:
            return f"{ENVIRONMENT['trace_megabytes']} is 0: no spans are kept, traces show LLM calls only"
        return "this store keeps no spans: traces show LLM calls only"

    def _tidy(self) -> None:
        settings, store = self._settings, self._store
        before_ns = self._clock.days_ago_ns(min(settings.trace_days, settings.retention_days))
        if store is not None and before_ns is not None:
            store.tidy(before_ns=before_ns, keep_bytes=settings.trace_megabytes * _MEGABYTE)

    def _each(self) -> Iterator[SpanExport | TraceKeeping | MetricExport | LogExport]:
        if self._spans is not None:
            yield self._spans
        if self._traces is not None:
            yield self._traces
        yield from self._metrics
        if self._logs is not None:
            yield self._logs
