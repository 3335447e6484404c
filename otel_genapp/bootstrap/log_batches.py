"""Log records in a queue, and the thread that sends them in batches.

The queue is bounded in records and in bytes. What cannot be encoded is lost alone; whatever is lost
is counted, once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from otel_genapp.config import OtelEnvironment
from otel_genapp.context import start_in_no_context
from otel_genapp.pipeline.export.account import EXPORTED, Account, Count
from otel_genapp.pipeline.export.packing import parts_of
from otel_genapp.pipeline.export.silence import silence
from otel_genapp.quiet import quiet

QUEUE_BYTES: Final = 16 * 1024 * 1024
BATCH_BYTES: Final = 1024 * 1024
"""Encoded, a text may take twice what it weighs: still less than a collector takes over gRPC."""

_guarded = quiet("export")


class LogBatches:
    """A bounded queue and the thread that empties it; its exporter is made there, once there is a record."""

    def __init__(self, make: Callable[[], LogRecordExporter], count: Count, *, otel: OtelEnvironment) -> None:
        self.account = Account(count, what="log")
        self.accepted = 0
        self.problem = ""
        self._make, self._count, self._otel = make, count, otel
        self._queue: deque[tuple[ReadableLogRecord, int]] = deque()
        self._bytes_in = self._bytes_out = 0
        self._refused = 0
        self._counted = self._counted_refused = 0
        self._called = False
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._exporter: LogRecordExporter | None = None
        self._thread: threading.Thread | None = None

    def take(self, record: ReadableLogRecord, weight: int) -> None:
        """Queue a record that costs `weight` bytes.

        Called under the handler's lock, perhaps from a finalizer: nothing is counted here.
        """
        if self.account.closed:
            return
        self.accepted += 1
        waiting, waiting_bytes = len(self._queue), self._bytes_in - self._bytes_out + weight
        if waiting >= self._otel.log_queue_size or (waiting and waiting_bytes > QUEUE_BYTES):
            self._refused += 1
        else:
            self._bytes_in += weight
            self._queue.append((record, weight))
        if self._thread is None:
            self._start()
        elif not self._called and (waiting + 1 >= self._otel.log_batch_size or waiting_bytes >= BATCH_BYTES):
            self._called = True
            self.hurry()

    def hurry(self) -> None:
        """Send at once what is there."""
        self._wake.put(True)

    def close(self) -> None:
        """Send nothing more; what was not delivered is given up and counted. Waits for nothing."""
        with self.account.lock:  # else what is delivered meanwhile would be given up as well
            self._settle_counts()
            self.account.close(self._counted - self.account.settled)
        self._wake.put(False)
        exporter = self._exporter
        if exporter is not None:
            with _guarded:
                exporter.shutdown()  # type: ignore[no-untyped-call] # breaks off its waits between attempts

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otel-genapp-logs", daemon=True)
        try:
            start_in_no_context(thread)
        except RuntimeError:  # too many threads, say: the next record tries again
            self.problem = "no thread can be started to send log records"
        else:
            self._thread = thread
            self.problem = ""

    def _run(self) -> None:
        with silence():
            while self._pause():
                with _guarded:
                    self._step()

    def _pause(self) -> bool:
        """Wait until it is time to send; whether to go on."""
        try:
            told = self._wake.get(timeout=self._otel.log_delay_s)
        except Empty:
            return not self.account.closed
        return told and not self.account.closed

    def _step(self) -> None:
        self._called = False
        self._settle_counts()
        while self._queue and not self.account.closed:
            self._send(self._next_batch())

    def _next_batch(self) -> list[ReadableLogRecord]:
        batch: list[ReadableLogRecord] = []
        weight = 0
        while self._queue and len(batch) < self._otel.log_batch_size:
            cost = self._queue[0][1]
            if batch and weight + cost > BATCH_BYTES:
                break
            batch.append(self._queue.popleft()[0])
            weight += cost
        self._bytes_out += weight
        return batch

    def _send(self, batch: Sequence[ReadableLogRecord]) -> None:
        if self._is_taken(batch):
            self.account.settle(len(batch), EXPORTED)
            return
        # Perhaps for what is in it: an exporter does not say why.
        for part, data in parts_of(batch, _encoded):
            if data is None:
                outcome = "encoding_failed"
            else:
                outcome = EXPORTED if len(part) < len(batch) and self._is_taken(part) else "export_failed"
            self.account.settle(len(part), outcome)

    def _is_taken(self, batch: Sequence[ReadableLogRecord]) -> bool:
        """Whether the collector took a batch."""
        taken = False
        with _guarded:
            if self._exporter is None:
                self._exporter = self._make()
            taken = self._exporter.export(batch) is LogRecordExportResult.SUCCESS
        self.problem = "" if taken else "the collector did not take the last log records"
        return taken

    def _settle_counts(self) -> None:
        """Count what came since the last time, and what there was no room for."""
        with self.account.lock:
            if self.account.closed:
                return
            # Refused ones first: each of them has been accepted.
            refused, accepted = self._refused, self.accepted
            new, self._counted = accepted - self._counted, accepted
            lost, self._counted_refused = refused - self._counted_refused, refused
            if new:
                self._count("log", "created", number=new)
            self.account.settle(lost, "queue_full")


def _encoded(batch: Sequence[ReadableLogRecord]) -> bytes:
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

    data: bytes = encode_logs(batch).SerializeToString()
    return data
