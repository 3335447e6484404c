"""Sampled spans on their way to the collector, as the rest of the package sees it.

Upstream: the provider's span processors, on the host's thread. Downstream: `dispatch`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from otel_genapp.pipeline.export.account import Count
from otel_genapp.pipeline.export.dispatch import Dispatch
from otel_genapp.pipeline.export.outbox import SPOOL_BYTES
from otel_genapp.pipeline.export.silence import in_own_thread
from otel_genapp.pipeline.export.weight import lightened
from otel_genapp.state_directory import StateDirectory

_UNWEIGHED_BYTES = 16 * 1024
_MUTED = 1000
_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a span not made by the SDK may raise when it is looked at."""


class SpanExport(SpanProcessor):
    """Sampled spans to one exporter. `on_end` only queues; a full queue refuses and counts.

    While the collector is away the spans wait in `state`, up to `spool_bytes` for all processes that
    share it; what a killed process has left there is sent by the next one. Without a state directory
    they wait in memory, up to `queue_size` and a few megabytes.
    """

    def __init__(
        self,
        make: Callable[[], SpanExporter],
        count: Count,
        *,
        queue_size: int,
        state: StateDirectory | None = None,
        spool_bytes: int = SPOOL_BYTES,
    ) -> None:
        self._make = make
        self._count = count
        self._queue_size = queue_size
        self._state = state
        self._spool_bytes = spool_bytes
        self._closed = False
        # Reentrant: a finalizer that ends a span may run while this thread holds it.
        self._lock = threading.RLock()
        self._muted: set[int] = set()
        self._told = 0
        """Spans accepted when an answer was last given."""
        self._dispatch = self._new_dispatch()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if in_own_thread() and len(self._muted) < _MUTED:
            # Made by a handler of our own log line, say. What only ends here is somebody else's.
            self._muted.add(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None:
            return
        if self._muted and context.span_id in self._muted:
            self._muted.discard(context.span_id)
            return
        if not context.trace_flags.sampled:
            return
        try:
            light, weight = lightened(span)
        except _ODD:
            light, weight = span, _UNWEIGHED_BYTES
        with self._lock:
            queued = not self._closed and self._dispatch.queue(light, weight)
        self._count("span", "created", number=1)
        if not queued:
            self._count("span", "shutdown" if self._closed else "queue_full", number=1)

    @property
    def pending(self) -> int:
        """Spans accepted and neither delivered nor lost; those on disk are among them."""
        return self._dispatch.accepted - self._dispatch.account.settled

    @property
    def spooled(self) -> int:
        """Those of the pending spans that are on disk, and outlive the process."""
        return self._dispatch.outbox.on_disk

    @property
    def problem(self) -> str:
        """Why spans wait, in a few words ("status 503"); "" while they are delivered."""
        return self._dispatch.delivery.problem

    def begin_flush(self) -> Callable[[float], bool]:
        """Send what is queued; the answer takes seconds to wait.

        It is True only if every span accepted since the flush before arrived.
        """
        dispatch = self._dispatch
        target, told = dispatch.accepted, self._told
        dispatch.pack()

        def answer(timeout_s: float) -> bool:
            if not dispatch.settled_within(target, timeout_s):
                return False
            self._told = max(self._told, target)
            return dispatch.account.lost_at <= told

        return answer

    begin_last_flush = begin_flush

    def close(self) -> None:
        """Take no more. What was not delivered stays on disk, or is given up and counted."""
        with self._lock:
            self._closed = True
        self._dispatch.close()

    def reset(self) -> None:
        """What the parent of a fork has queued is the parent's to send."""
        self._lock = threading.RLock()
        self._muted = set()
        self._dispatch.outbox.forget()
        if not self._closed:
            self._told = 0
            self._dispatch = self._new_dispatch()

    def _new_dispatch(self) -> Dispatch:
        return Dispatch(
            self._make,
            self._count,
            queue_size=self._queue_size,
            state=self._state,
            spool_bytes=self._spool_bytes,
        )
