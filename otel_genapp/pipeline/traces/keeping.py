"""Sampled spans on their way into the store: queued by whoever ends them, written by a thread of our own.

What threads of the application do here is to put the span into a queue. Cleaning, encoding and the
database are the writer's; where it does not keep up, the oldest spans go, counted. Sessions do not
depend on any of this.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_genapp.context import start_in_no_context
from otel_genapp.pipeline.export.account import Account, Count
from otel_genapp.pipeline.export.silence import in_own_thread, silence
from otel_genapp.pipeline.export.weight import lightened
from otel_genapp.pipeline.traces.kept import kept
from otel_genapp.quiet import quiet
from otel_genapp.records import KeptSpan

QUEUE_SPANS: Final = 4096
QUEUE_BYTES: Final = 16 * 1024 * 1024
BATCH_SPANS: Final = 200
"""What is written at once: SQLite lets nobody else write meanwhile."""
BATCH_BYTES: Final = 1024 * 1024
TURN_SPANS: Final = 20
"""After so many, half a millisecond's work, the application's threads have their turn."""
GATHER_S: Final = 0.25
TIDY_EVERY_S: Final = 30.0
TIDY_EVERY_SPANS: Final = 10_000
"""A burst must not take much more room than there is before somebody looks."""
WHAT: Final = "trace_span"
STORED: Final = "stored"

_RETRY_S, _LONGEST_RETRY_S = 1.0, 15.0
_TRIES = 20
"""A batch that the store still refuses after so long may be what is wrong."""
_MUTED = 1000
_UNWEIGHED_BYTES = 16 * 1024
_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a span not made by the SDK may raise when it is looked at."""

_guarded = quiet("pipeline")
_guarded_store = quiet("ledger")

Write = Callable[[Sequence[KeptSpan]], int]
"""Keeps spans; returns for how many of them there was room in their traces."""


class TraceKeeping(SpanProcessor):
    """Keeps sampled spans by `write(spans)`, and calls `tidy()` now and then, both on its own thread."""

    def __init__(
        self, write: Write, tidy: Callable[[], object], *, count: Count, with_content: bool = False
    ) -> None:
        self._write = write
        self._tidy = tidy
        self._count = count
        self._with_content = with_content
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a finalizer that ends a span may run while this thread holds it.
        self._lock = threading.RLock()
        self._queue: deque[tuple[ReadableSpan, int]] = deque()
        self._accepted = self._created = self._told = 0
        self._bytes_in = self._bytes_out = self._bytes_dropped = 0
        self._muted: set[int] = set()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._called = False
        self._thread: threading.Thread | None = None
        self._account = Account(self._count, what=WHAT, good=STORED)
        self._batch: list[KeptSpan] = []
        self._tries = 0
        self._untidy = 0
        self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
        self._retry_at_s = 0.0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if in_own_thread() and len(self._muted) < _MUTED:
            # Made by a handler of our own log line, say. What only ends here is somebody else's.
            self._muted.add(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        if self._muted and context.span_id in self._muted:
            self._muted.discard(context.span_id)
            return
        try:
            light, weight = lightened(span)
        except _ODD:
            light, weight = span, _UNWEIGHED_BYTES
        with self._lock:
            if self._closed:
                return
            self._accepted += 1
            self._bytes_in += weight
            self._queue.append((light, weight))
            while len(self._queue) > QUEUE_SPANS or (
                self._bytes_waiting > QUEUE_BYTES and len(self._queue) > 1
            ):
                self._drop_oldest()
            if self._thread is None:
                self._start()
        if not self._called:
            self._called = True
            self._wake.put(False)

    @property
    def waiting(self) -> int:
        """Spans that are neither kept nor lost yet."""
        return self._accepted - self._account.settled

    @property
    def problem(self) -> str:
        """Why spans wait; "" while they are written."""
        return "the store does not take spans, see the log" if self._tries else ""

    def drain(self, timeout_s: float) -> bool:
        """Write what ended before this call; False where that takes longer than `timeout_s`."""
        return self._settled_within(self._accepted, timeout_s)

    def begin_flush(self) -> Callable[[float], bool]:
        """Write what is queued; the answer takes seconds to wait.

        It is True only if every span since the flush before was kept.
        """
        target, told = self._accepted, self._told
        if target > self._account.settled:
            self._wake.put(True)

        def answer(timeout_s: float) -> bool:
            if not self._settled_within(target, timeout_s):
                return False
            self._told = max(self._told, target)
            return self._account.lost_at <= told

        return answer

    begin_last_flush = begin_flush

    def close(self) -> None:
        """Take no more; what is not written yet is given up and counted."""
        with self._lock:
            self._closed = True
        self._wake.put(True)
        self._count_created()
        with self._account.lock:  # the writer may be settling some of them
            self._account.close(self.waiting)

    def reset(self) -> None:
        """What the parent of a fork has queued is the parent's to write."""
        self._begin()

    @property
    def _bytes_waiting(self) -> int:
        return self._bytes_in - self._bytes_out - self._bytes_dropped

    def _drop_oldest(self) -> None:
        with suppress(IndexError):  # the writer may have taken it
            _, weight = self._queue.popleft()
            self._bytes_dropped += weight
            self._account.settle(1, "store_unavailable" if self._tries else "queue_full")

    def _settled_within(self, target: int, timeout_s: float) -> bool:
        account = self._account
        if account.settled >= target or in_own_thread():  # the latter would wait for itself
            return account.settled >= target
        self._wake.put(True)
        return account.settled_within(target, timeout_s)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otel-genapp-traces", daemon=True)
        with suppress(RuntimeError):  # the interpreter is shutting down
            start_in_no_context(thread)
            self._thread = thread

    def _run(self) -> None:
        wake = self._wake
        with silence():
            while not self._closed:
                at_once = True
                try:
                    at_once = wake.get(timeout=self._pause_s())
                    if not at_once:
                        at_once = wake.get(timeout=GATHER_S)
                except Empty:
                    pass
                with _guarded:
                    self._step(at_once=at_once)

    def _pause_s(self) -> float:
        if self._tries:
            return max(self._retry_at_s - time.monotonic(), 0.01)
        return max(self._tidy_at_s - time.monotonic(), 0.01)

    def _step(self, *, at_once: bool) -> None:
        self._called = False
        self._count_created()
        if self._tries and not at_once and time.monotonic() < self._retry_at_s:
            return
        # What comes meanwhile calls again: to run after each span would write them one by one.
        last = self._account.settled + len(self._batch) + len(self._queue)
        while not self._closed and (self._batch or (self._queue and self._account.settled < last)):
            self._batch = self._batch or self._next_batch()
            if self._batch and not self._write_batch():
                return
        if time.monotonic() >= self._tidy_at_s or self._untidy >= TIDY_EVERY_SPANS:
            self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
            self._untidy = 0
            with _guarded_store:
                self._tidy()

    def _next_batch(self) -> list[KeptSpan]:
        batch: list[KeptSpan] = []
        taken = weight = 0
        while self._queue and taken < BATCH_SPANS and weight < BATCH_BYTES:
            with suppress(IndexError):  # the host may have dropped it
                span, cost = self._queue.popleft()
                taken += 1
                weight += cost
                with _guarded:
                    batch.append(kept(span, with_content=self._with_content))
            if taken % TURN_SPANS == 0:
                time.sleep(0)  # else the interpreter lets nobody else run for 5 ms
        self._bytes_out += weight
        self._account.settle(taken - len(batch), "redaction_failed")
        return batch

    def _write_batch(self) -> bool:
        """Whether the batch is done with: kept, or given up."""
        batch, stored = self._batch, None
        with _guarded_store:
            stored = self._write(batch)
        if stored is None:
            self._tries += 1
            if self._tries < _TRIES:
                self._retry_at_s = time.monotonic() + min(_RETRY_S * 2 ** (self._tries - 1), _LONGEST_RETRY_S)
                return False
            self._account.settle(len(batch), "store_unavailable")
        else:
            self._account.settle(stored, STORED)
            self._account.settle(len(batch) - stored, "trace_full")
            self._untidy += len(batch)
        self._batch = []
        self._tries = 0
        return True

    def _count_created(self) -> None:
        """Done here and not for each span: that would be the dearest part of keeping one."""
        with self._account.lock:
            new, self._created = self._accepted - self._created, self._accepted
        if new and not self._account.closed:
            self._count(WHAT, "created", number=new)
