"""`/prometheus` of a server with workers: whoever is scraped answers for all, the dead ones too.

Each worker keeps a snapshot in the state directory and holds a lock as long as it lives. A scrape
writes its own down first, asks the living for theirs, and adds up all files: so nothing shown is
ever taken back. What a dead worker's journal holds beyond its snapshot is folded in when its files
are merged into the one of the dead. Readers wait for nobody: a merge that hangs delays the merging.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from otel_genapp.context import start_in_no_context
from otel_genapp.metrics.instance import Instance, is_over
from otel_genapp.metrics.instruments import asks_store
from otel_genapp.metrics.others import Others, Position
from otel_genapp.metrics.prometheus import GenappPrometheusReader
from otel_genapp.metrics.pull import PullServer, pull
from otel_genapp.metrics.snapshot import Snapshot, Table
from otel_genapp.metrics.taken import Taken
from otel_genapp.metrics.tally import Tally
from otel_genapp.metrics.worker_files import (
    LOCK,
    SOCKET,
    START,
    WorkerFiles,
    fcntl,
)
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

PULL_TIMEOUT_S = 0.25
FLUSH_EVERY_S = 0.1
REFRESH_S = 60.0
"""The system figures of a worker that measures nothing may be so old."""
_SHARE = 0.05
"""Of its time the flusher works at most so much."""
_NOTHING_SINCE = -1

_guarded = quiet("metrics")


class WorkerMetrics:
    """What this worker and the others of its instance have counted.

    `standing_still` holds the folding of records up and gives the position in the journal folded
    last; `replay(position, tally)` folds what the journal of a dead worker holds beyond a position;
    `revision` changes with what was recorded; `drain` folds what waits; `on_problem(reason)` hears of
    snapshots nobody can read.
    """

    def __init__(
        self,
        reader: GenappPrometheusReader,
        state: StateDirectory,
        *,
        standing_still: Callable[[], AbstractContextManager[Position | None]],
        replay: Callable[[Position, Tally], None],
        revision: Callable[[], int],
        drain: Callable[[], object] = lambda: None,
        on_problem: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._reader = reader
        self._state = state
        self._standing_still = standing_still
        self._replay = replay
        self._revision = revision
        self._drain = drain
        self._on_problem = on_problem
        self._worker = ""
        self._instance = ""
        self._reset()

    def _reset(self) -> None:
        self._files = WorkerFiles(self._state, self._instance, on_problem=self._on_problem)
        self._persisting = threading.Lock()
        self._joining = threading.Lock()
        self._ending = threading.Event()
        self._life: int | None = None
        self._server: PullServer | None = None
        self._written = _NOTHING_SINCE
        self._written_at_s = 0.0
        self._position: Position | None = None
        self._others = Others(self._state, self._files, worker=self._worker, replay=self._replay)
        self._directory_ns = _NOTHING_SINCE
        self._is_flushing = False
        self._noting: threading.Thread | None = None
        self._unwritten = self._unread = ""

    @property
    def active(self) -> bool:
        """Whether there may be other workers."""
        return self._life is not None

    @property
    def instance(self) -> str:
        """The running server this process belongs to."""
        return self._instance

    @property
    def problem(self) -> str:
        """Why a scrape may not show what other workers counted; "" if it does."""
        return "; ".join(filter(None, (self._unwritten, self._unread, self._others.problem)))

    def begin(self, instance: Instance, worker: str) -> None:
        """Be one of the instance's workers, if it has any; `worker` is the id of this process's journal."""
        self._instance, self._worker = instance.id, worker
        self._reset()
        with _guarded:
            if fcntl is None:
                self._unread = "without file locks the numbers of several workers are not added up"
                return
            self._files.sweep(is_over)
            if instance.is_worker:
                self._join()
                self._serve()

    def forked(self) -> None:
        """This process has a child that may count too: what it counted itself is there for the child to add.

        On a thread that ends at once: the fork must not wait for a lock, and a server's master, which
        is never asked and forks on, keeps no threads.
        """
        noting = self._noting
        if not self._instance or fcntl is None or (noting is not None and noting.is_alive()):
            return
        if self._is_flushing or (self.active and self._revision() == self._written):
            return
        with _guarded:
            self._noting = threading.Thread(target=self._note, name="otel-genapp-forked", daemon=True)
            start_in_no_context(self._noting)

    def exposition(self, *, openmetrics: bool) -> bytes:
        """The text of a scrape."""
        if not self._is_joined():
            return self._reader.exposition(openmetrics=openmetrics)
        taken, mine = self._persist(self._take_with_store)
        with _guarded:
            self._ask()
        others, hidden = self._others.gathered(mine)
        return self._reader.exposition(openmetrics=openmetrics, taken=taken.without(hidden), others=others)

    def counted(self) -> Table:
        """What all workers have counted."""
        if not self._is_joined():
            return self._reader.take().snapshot(None).counted
        _, mine = self._persist(self._take)
        with _guarded:
            self._ask()
        return self._others.total(mine)

    @property
    def living(self) -> int:
        """How many workers there were when they were asked last, this one included."""
        return 1 + self._others.living

    def needs(self, segment: str) -> bool:
        """Whether a segment of a journal may still have to be replayed."""
        _, worker, number = segment.rsplit("-", 2)
        if worker == self._worker and self.active:
            return self._position is None or self._position[0].rsplit("-", 1)[-1] <= number
        return any(worker in name for name in self._state.names(START))

    def end(self) -> None:
        """Write the last word down; the others count this worker among the dead from now on."""
        if not self.active:
            return
        self._ending.set()
        if self._server is not None:
            self._server.close()
        with _guarded:
            self._persist(self._take)
        with self._persisting:  # nothing is written once the lock is gone
            life, self._life = self._life, None
            if life is not None:
                # Explicitly: a forked child that never started telemetry has the descriptor too.
                fcntl.flock(life, fcntl.LOCK_UN)
                os.close(life)

    def restart(self, worker: str) -> None:
        """In the child of a fork: one more worker of the same instance, with counts of its own."""
        if self._server is not None:
            self._server.leave_to_parent()
        if self._life is not None:
            with suppress(OSError):
                os.close(self._life)  # the parent's lock is the parent's: it holds the file open too
        self._worker = worker
        self._reset()
        with _guarded:
            if self._instance:
                self._join()
                self._serve()

    def _is_joined(self) -> bool:
        with _guarded:
            if self.active or self._has_company():
                self._join()
                self._serve()
        return self.active

    def _join(self) -> None:
        """Be there: from now on a death is noticed, and what was in the journal by then is counted."""
        with self._joining:
            if self.active or self._ending.is_set() or not self._instance or self._state.path is None:
                return
            if fcntl is not None:
                self._life = self._files.hold(self._worker)
                self._unread = (
                    "" if self._life is not None else f"workers are not added up: {self._state.problem}"
                )

    def _serve(self) -> None:
        """Answer the others, and write down what is new."""
        with self._joining:
            folder = self._state.path
            if not self.active or folder is None:
                return
            if self._server is None:
                name = self._files.name(self._worker, SOCKET)
                self._server = PullServer(folder, name, persist=self._answer_pull)
            if not self._is_flushing:
                self._is_flushing = True
                thread = threading.Thread(
                    target=self._flush, args=(self._ending,), name="otel-genapp-snapshots", daemon=True
                )
                start_in_no_context(thread)

    def _has_company(self) -> bool:
        """Whether a child that was started, not forked, has joined; looks only where files have come or gone."""
        folder = self._state.path
        if not self._instance or folder is None or fcntl is None:
            return False
        with suppress(OSError):
            changed_ns = folder.stat().st_mtime_ns
            if changed_ns != self._directory_ns:
                self._directory_ns = changed_ns
                return bool(self._files.workers(self._files.listing()))
        return False

    def _answer_pull(self) -> None:
        with _guarded:
            self._drain()
        # An idle worker has nothing to say but what its process uses, unless its file was set aside.
        is_old = time.monotonic() > self._written_at_s + REFRESH_S
        if is_old or self._revision() != self._written or not self._files.has(self._worker):
            self._persist(self._take)

    def _take(self) -> tuple[Taken, Position | None]:
        """What is counted and how far into the journal that goes, without a question to the store."""
        asking = asks_store.set(False)
        try:
            with self._standing_still() as position:
                return self._reader.take(), position
        finally:
            asks_store.reset(asking)

    def _take_with_store(self) -> tuple[Taken, Position | None]:
        """The same with what the store tells, which must not hold the folding up."""
        with self._standing_still() as before:
            pass
        taken = self._reader.take()
        with self._standing_still() as position:
            if position == before:
                return taken, position
        again, position = self._take()
        return again.with_store_gauges_of(taken), position

    def _persist(self, take: Callable[[], tuple[Taken, Position | None]]) -> tuple[Taken, Snapshot]:
        with self._persisting:
            revision = self._revision()
            taken, position = take()
            snapshot = taken.snapshot(position)
            if self.active:
                if self._files.write(self._worker, snapshot):
                    self._written, self._position, self._unwritten = revision, position, ""
                    self._written_at_s = time.monotonic()
                else:
                    self._unwritten = f"this worker's numbers cannot be written down: {self._state.problem}"
        return taken, snapshot

    def _persist_if_new(self) -> None:
        if self._revision() != self._written:
            self._persist(self._take)

    def _note(self) -> None:
        with _guarded:
            self._join()
            if self.active:
                self._persist_if_new()

    def _flush(self, ending: threading.Event) -> None:
        """Write down what is new."""
        pause_s, is_first = FLUSH_EVERY_S, True
        while not ending.wait(pause_s):
            began_s = time.thread_time()
            with _guarded:
                self._persist_if_new()
            pause_s = max(FLUSH_EVERY_S, (time.thread_time() - began_s) / _SHARE)
            if is_first:  # not before a server that starts has answered its first requests
                is_first = False
                with _guarded:
                    self._others.bury_if_any()

    def _ask(self) -> None:
        """Have the others write down what is new."""
        names = self._files.listing()
        if names and self._files.name(self._worker, LOCK) not in names:
            self._rejoin()
        others = [worker for worker in self._files.workers(names) if worker != self._worker]
        if others and self._state.path is not None:
            sockets = [self._files.name(worker, SOCKET) for worker in others]
            pull(self._state.path, sockets, timeout_s=PULL_TIMEOUT_S)

    def _rejoin(self) -> None:
        """Somebody has removed our files: be there again."""
        with self._joining:
            life, self._life = self._life, self._files.hold(self._worker)
            server, self._server = self._server, None
        if life is not None:
            os.close(life)
        if server is not None:
            server.close()
        self._serve()
        self._persist(self._take)
