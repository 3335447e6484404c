"""The pipeline's own thread: records go in on the host's thread and are folded here.

Folding is pure computation (metrics, sums), so a reader may do it too: `drain` folds whatever is
queued on the caller's thread. Nothing queued is ever dropped: past a limit the host's thread
folds a few records itself (`help`), which bounds the queue without losing a number.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from opentelemetry.context import Context

from otel_genapp.context import start_in_no_context
from otel_genapp.quiet import quiet
from otel_genapp.records import Record

Position = tuple[str, int]
"""Where a record stands in a journal: the segment's name, and the bytes up to the record's end."""


class Fold(Protocol):
    """What is done with each record."""

    def __call__(self, record: Record, context: Context, *, position: Position | None) -> None:
        """Fold it; `position` is where it is safe, if it is."""


QUEUE_LIMIT = 10_000
_BATCH = 64
_HELP_WAIT_S = 0.01
"""How long the host's thread waits for its turn to help; a signal handler may have come in between."""
_GATHER_S = 0.02
"""How long records may gather before the thread folds them; readers fold at once."""
_RETRY_S = 1.0
_guarded = quiet("pipeline")


class Folds:
    """A queue of records, folded in order by whoever holds the fold lock."""

    def __init__(
        self, fold: Fold, *, after: Callable[[], float | None] = lambda: None, queue_limit: int = QUEUE_LIMIT
    ) -> None:
        """`after` is called on the pipeline's thread when it has folded what there was.

        It returns after how many seconds it wants to be called again though nothing came.
        """
        self._fold = fold
        self._after = after
        self._queue_limit = queue_limit
        self._queue: deque[tuple[Record, Context, Position | None]] = deque()
        self._position: Position | None = None
        self._next = threading.Lock()
        self._folding = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._closing = threading.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, record: Record, context: Context, *, position: Position | None = None) -> None:
        """Queue a record; `context` holds its span, for exemplars, and `position` is where it is safe."""
        self._queue.append((record, context, position))
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def help(self) -> None:
        """Fold a few records here, on the host's thread, where too many are queued or nobody else will."""
        if len(self._queue) > self._queue_limit or self._closing.is_set():
            self._fold_batch(_HELP_WAIT_S)

    @contextmanager
    def standing_still(self) -> Iterator[Position | None]:
        """Nothing is folded meanwhile; gives where the record folded last stands."""
        with self._folding:
            yield self._position

    def drain(self, timeout_s: float) -> bool:
        """Fold everything queued before this call; False when that took longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        if not self._take_turn(max(timeout_s, 0)):
            return False
        try:
            for _ in range(len(self._queue)):
                if time.monotonic() > deadline:
                    return False
                self._fold_next()
        finally:
            self._folding.release()
        return True

    def close(self, timeout_s: float) -> bool:
        """Fold what is queued and end the thread; later records are folded as they come."""
        self._closing.set()
        self._wake.set()
        return self.drain(timeout_s)

    def reset(self) -> None:
        """Start over with no thread and nothing queued; for the child of a fork."""
        self._queue = deque()
        self._position = None
        self._next = threading.Lock()
        self._folding = threading.Lock()
        self._starting = threading.RLock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                thread = threading.Thread(target=self._run, name="otel-genapp-folds", daemon=True)
                start_in_no_context(thread)
                self._thread = thread

    def _run(self) -> None:
        pause_s: float | None = None
        while True:
            if self._wake.wait(pause_s):
                self._closing.wait(_GATHER_S)
            self._wake.clear()
            with _guarded:
                while self._fold_batch(-1):
                    pass
            pause_s = _RETRY_S
            if not self._closing.is_set():  # who closes brings the rest into the store, and then closes that
                with _guarded:
                    pause_s = self._after()
            if self._closing.is_set():
                return

    def _fold_batch(self, timeout_s: float) -> bool:
        """Fold some records. False when none are left, or the turn did not come in time."""
        if not self._take_turn(timeout_s):
            return False
        try:
            return all(self._fold_next() for _ in range(_BATCH))
        finally:
            self._folding.release()

    def _take_turn(self, timeout_s: float) -> bool:
        """Take the fold lock. Who waits for it comes before the next batch of who has it."""
        if not self._next.acquire(timeout=timeout_s):
            return False
        try:
            return self._folding.acquire(timeout=timeout_s)
        finally:
            self._next.release()

    def _fold_next(self) -> bool:
        try:
            record, context, position = self._queue.popleft()
        except IndexError:
            return False
        with _guarded:
            self._fold(record, context, position=position)
        if position is not None:
            self._position = position
        return True
