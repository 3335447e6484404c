"""The way of one process's spans: queued by whoever ends them, packed by one thread, sent by another.

The packing thread waits for no network, so the queue is emptied while the collector is silent, too.
What threads of the application touch here takes no lock that ours hold.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_genapp.context import start_in_no_context
from otel_genapp.pipeline.export.account import Account, Count
from otel_genapp.pipeline.export.delivery import Delivery
from otel_genapp.pipeline.export.outbox import Outbox
from otel_genapp.pipeline.export.packing import PARCEL_SPANS, Packed, packed
from otel_genapp.pipeline.export.silence import in_own_thread, silence
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

QUEUE_BYTES: Final = 40 * 1024 * 1024
"""A burst of a thousand spans with the longest text that is sent."""

_CHUNK_BYTES = 1024 * 1024
"""Packing takes several times as much for a moment."""
_TROUBLE_INTERVAL_S = 0.2
_SLOW_S = 1.0
_LEAST_PAUSE_S = 0.005
_STORE_S = 0.2
_LOCK_S = 0.5

_guarded = quiet("export")


class Dispatch:
    """Queue, packing and delivery of one process; a forked child has its own."""

    def __init__(
        self,
        make: Callable[[], Any],
        count: Count,
        *,
        queue_size: int,
        state: StateDirectory | None,
        spool_bytes: int,
    ) -> None:
        self.account = Account(count)
        self.outbox = Outbox(self.account, state, span_limit=queue_size, spool_bytes=spool_bytes)
        self.accepted = 0
        """Spans that were queued, so far."""
        self._queue: deque[tuple[ReadableSpan, int]] = deque()
        self._queue_size = queue_size
        self._bytes_in = self._bytes_out = 0
        self._batch = min(PARCEL_SPANS, queue_size, _sdk_default("max_export_batch_size", 512))
        self._delay_s = _sdk_default("schedule_delay_millis", 5000) / 1000
        self._due_s = time.monotonic() + self._delay_s
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._is_called = self._is_blocked = self._is_closing = False
        self._stored: SimpleQueue[None] = SimpleQueue()
        self.delivery = Delivery(make, self.outbox, account=self.account, on_change=self._look)
        start_in_no_context(threading.Thread(target=self._run, name="otel-genapp-spans", daemon=True))

    def queue(self, span: ReadableSpan, weight: int) -> bool:
        """Whether there was room for one more span, which costs `weight` bytes. One caller at a time."""
        waiting, waiting_bytes = len(self._queue), self._bytes_in - self._bytes_out
        if waiting >= self._queue_size or waiting_bytes >= QUEUE_BYTES:
            return False
        self.accepted += 1
        self._bytes_in += weight
        self._queue.append((span, weight))
        if not self._is_called and (waiting + 1 >= self._batch or waiting_bytes + weight >= _CHUNK_BYTES):
            self._is_called = True
            self._wake.put(True)
        return True

    def settled_within(self, target: int, timeout_s: float) -> bool:
        """Whether so many of the spans were delivered or lost, at most `timeout_s` from now."""
        if in_own_thread():  # a handler of logs that flushes: it would wait for itself
            return self.account.settled >= target
        self.delivery.hurry(time.monotonic() + timeout_s)
        return self.account.settled_within(target, timeout_s)

    def pack(self) -> None:
        """Send what is queued without waiting for more."""
        self._wake.put(True)

    def close(self) -> None:
        """Put on disk what was not delivered, or give it up where there is none; takes half a second at most."""
        self._is_closing = True
        self._wake.put(True)
        account, outbox = self.account, self.outbox
        if outbox.has_disk and self.accepted > account.settled + outbox.on_disk and not in_own_thread():
            with suppress(Empty):
                self._stored.get(timeout=_STORE_S)
        is_held = account.lock.acquire(timeout=_LOCK_S)
        try:
            account.close(self.accepted - account.settled - outbox.on_disk)
            outbox.close()
        finally:
            if is_held:
                account.lock.release()
        self.delivery.stop()

    def _look(self) -> None:
        self._wake.put(False)

    def _run(self) -> None:
        with silence():
            while not self._is_closing:
                pause_s, is_called = 1.0, False
                with _guarded:
                    pause_s = self._pause_s()
                with suppress(Empty):
                    is_called = self._wake.get(timeout=max(pause_s, _LEAST_PAUSE_S))
                with _guarded:
                    self._step(is_called=is_called)
            with _guarded:
                if self.outbox.has_disk:
                    self._pack_all(to_disk=True)
            self._stored.put(None)

    def _pause_s(self) -> float:
        if self._in_trouble():
            return _TROUBLE_INTERVAL_S
        until_due_s = self._due_s - time.monotonic()
        return min(until_due_s, _SLOW_S) if self.delivery.busy_s else until_due_s

    def _in_trouble(self) -> bool:
        """Whether what is packed should rather be on disk."""
        return self.delivery.is_away or self.outbox.is_spooling or self.delivery.busy_s > _SLOW_S

    def _step(self, *, is_called: bool) -> None:
        self.delivery.supervise()
        in_trouble = self._in_trouble()
        is_due = time.monotonic() >= self._due_s
        if is_called or is_due or in_trouble or (self._is_blocked and self.outbox.room):
            self._due_s = time.monotonic() + self._delay_s
            self._is_called = False
            self._pack_all(to_disk=in_trouble)

    def _pack_all(self, *, to_disk: bool) -> None:
        outbox = self.outbox
        while True:
            if to_disk or self._is_crowded():
                outbox.persist()
            if not self._queue or not outbox.room:
                break
            chunk = self._next_chunk()
            result = Packed([], Counter(encoding_failed=len(chunk)))
            with _guarded:
                result = packed(chunk)
            outbox.put(result.parcels)
            for reason, number in result.lost.items():
                self.account.settle(number, reason)
            self.delivery.wake()
        self._is_blocked = bool(self._queue)

    def _is_crowded(self) -> bool:
        """Whether the queue fills faster than the collector takes."""
        return not self.outbox.room and (
            len(self._queue) > self._queue_size // 2 or self._bytes_in - self._bytes_out > QUEUE_BYTES // 2
        )

    def _next_chunk(self) -> list[ReadableSpan]:
        chunk: list[ReadableSpan] = []
        weight = 0
        most = min(self._batch, self.outbox.room)
        while self._queue and len(chunk) < most and weight < _CHUNK_BYTES:
            span, cost = self._queue.popleft()
            chunk.append(span)
            weight += cost
        self._bytes_out += weight
        return chunk


def _sdk_default(name: str, otherwise: int) -> int:
    """What the SDK's batch processor takes from its `OTEL_BSP_…` variable."""
    read = getattr(BatchSpanProcessor, f"_default_{name}", None)
    value = read() if callable(read) else otherwise
    return value if isinstance(value, int) and value > 0 else otherwise
