"""Log records on their way out over OTLP: without secrets, each once, never waited for.

The root logger's handler makes OTLP records and queues them; a thread sends them in batches. The global
LoggerProvider is left alone: what libraries write there themselves (whole prompts, some of them) has not
been asked for. Records about telemetry itself stay here, or a
collector that is away would be told of its absence for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS
from opentelemetry.context import get_value
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_genapp.bootstrap.log_batches import LogBatches
from otel_genapp.bootstrap.log_records import otlp_record, weight_of_record
from otel_genapp.bootstrap.log_rivals import Rivals
from otel_genapp.config import OtelEnvironment
from otel_genapp.logs.texts import text_of
from otel_genapp.pipeline.export.account import Count
from otel_genapp.pipeline.export.silence import in_own_thread
from otel_genapp.pipeline.redact import encodable
from otel_genapp.quiet import quiet
from otel_genapp.secrets import REDACTED

_OWN = ("opentelemetry", "otel_genapp")
_EVENTS = ("otel_genapp.messages", "otel_genapp.profiles")
"""Loggers of ours that speak of the application."""

_guarded = quiet("export")


class LogExport:
    """The records of the root logger to one exporter, in batches and on a flush."""

    def __init__(
        self,
        make: Callable[[], LogRecordExporter],
        count: Count,
        *,
        resource: Resource,
        otel: OtelEnvironment,
    ) -> None:
        self._make, self._count, self._otel = make, count, otel
        self._closed = False
        self._told = 0
        self._batches = self._new_batches()
        self._handler = _Handler(resource, lambda: self._batches)
        logging.getLogger().addHandler(self._handler)

    @property
    def pending(self) -> int:
        """Records accepted and neither delivered nor lost."""
        return self._batches.accepted - self._batches.account.settled

    @property
    def problem(self) -> str:
        """Why records are not sent, or not by us; "" if all is well."""
        return self._handler.rivals.note or self._batches.problem

    def begin_flush(self) -> Callable[[float], bool]:
        """Send what is queued; the answer takes seconds to wait.

        It is True only if every record accepted since the flush before arrived.
        """
        batches, told = self._batches, self._told
        target = batches.accepted
        batches.hurry()

        def answer(timeout_s: float) -> bool:
            # A handler of the application that flushes, told by our own thread, would wait for itself.
            if not batches.account.settled_within(target, 0 if in_own_thread() else timeout_s):
                return False
            self._told = max(self._told, target)
            return batches.account.lost_at <= told

        return answer

    begin_last_flush = begin_flush

    def close(self) -> None:
        """Take no more; what was not delivered is given up and counted. Waits for nothing."""
        logging.getLogger().removeHandler(self._handler)
        self._closed = True
        self._batches.close()

    def reset(self) -> None:
        """What the parent of a fork has queued is the parent's to send, over its own connection."""
        if not self._closed:
            self._told = 0
            self._batches = self._new_batches()

    def _new_batches(self) -> LogBatches:
        return LogBatches(self._make, self._count, otel=self._otel)


class _Handler(logging.Handler):
    """What the root logger is told, handed on to the batches of this process."""

    def __init__(self, resource: Resource, batches: Callable[[], LogBatches]) -> None:
        super().__init__()
        self.rivals = Rivals()
        self._resource, self._batches = resource, batches
        self._limits = LogRecordLimits()

    def handle(self, record: logging.LogRecord) -> Any:
        # Only the queue is behind the lock: the repr of a value may wait for a thread that logs.
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        name = text_of(record.name)
        # The metrics' reader sends under the suppression that exporters declare.
        if in_own_thread() or get_value(SUPPRESS) or (name.partition(".")[0] in _OWN and name not in _EVENTS):
            return
        with _guarded:
            if self.rivals.export(record):
                return
            made, weight = self._made(record, encodable(name))
            self.acquire()
            try:
                self._batches().take(made, weight)
            finally:
                self.release()

    def _made(self, record: logging.LogRecord, name: str) -> tuple[ReadableLogRecord, int]:
        """(the record as it is queued, the bytes it costs)."""
        made = None
        with _guarded:
            made = otlp_record(record)
        if made is None:  # what could not be cleaned is not shown
            made = LogRecord(observed_timestamp=time.time_ns(), body=REDACTED)
        weight = weight_of_record(made)  # before the SDK wraps the attributes
        scope = InstrumentationScope(name)
        limited = ReadWriteLogRecord(made, self._resource, scope, self._limits)
        return ReadableLogRecord(limited.log_record, self._resource, scope, self._limits), weight


def start_log_export(
    make: Callable[[], Any], count: Count, *, resource: Resource, otel: OtelEnvironment
) -> LogExport:
    """The running export of the root logger's records.

    Raises:
        MissingDependencyError: OTLP over grpc is configured and its exporter is not installed.
    """
    make().shutdown()  # a missing package is told now, not later
    return LogExport(make, count, resource=resource, otel=otel)
