"""`/prometheus` of a server with workers: whoever is scraped answers for all, the dead ones too.

Each worker keeps a snapshot in the state directory and holds a lock as long as it lives. A scrape
writes its own down first, asks the living for theirs, and adds up all files: so nothing shown is
ever taken back. What a dead worker's journal holds beyond its snapshot is folded in when its files
are merged into the one of the dead.

    metrics-<instance>-<worker>         snapshot        metrics-<instance>-dead    the dead, added up
    metrics-<instance>-<worker>.lock    its life        metrics-<instance>.merge   taken while merging
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from otel_genapp.context import start_in_no_context
from otel_genapp.metrics.instance import Instance, is_over
from otel_genapp.metrics.prometheus import GenappPrometheusReader
from otel_genapp.metrics.pull import PullServer, pull
from otel_genapp.metrics.snapshot import NOBODY, Snapshot
from otel_genapp.metrics.taken import Taken
from otel_genapp.metrics.tally import Tally
from otel_genapp.quiet import logger, quiet
from otel_genapp.state_directory import StateDirectory

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: one process
    fcntl = None

START = "metrics-"
PULL_TIMEOUT_S = 0.25
MERGE_TIMEOUT_S = 2.0
FLUSH_EVERY_S = 0.2
_SHARE = 0.05
"""Of its time the flusher works at most so much."""
_LOCK, _SOCKET, _DEAD = ".lock", ".sock", "dead"

Position = tuple[str, int]
_guarded = quiet("metrics")


class WorkerMetrics:
    """What this worker and the others of its instance have counted.

    `standing_still` holds the folding of records up and gives the position in the journal folded
    last; `replay(position, tally)` folds what the journal of a dead worker holds beyond a position.
    """

    def __init__(
        self,
        reader: GenappPrometheusReader,
        state: StateDirectory,
        *,
        standing_still: Callable[[], AbstractContextManager[Position | None]],
        replay: Callable[[Position, Tally], None],
        revision: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._state = state
        self._standing_still = standing_still
        self._replay = replay
        self._revision = revision
        self._worker = ""
        self._instance = ""
        self._reset()

    def _reset(self) -> None:
        self._persisting = threading.Lock()
        self._ending = threading.Event()
        self._life: int | None = None
        self._server: PullServer | None = None
        self._written = -1
        self._last = NOBODY
        self._position: Position | None = None
        self._has_children = False

    @property
    def active(self) -> bool:
        """Whether there may be other workers."""
        return self._life is not None

    def begin(self, instance: Instance, worker: str) -> None:
        """Be one of the instance's workers, if it has any; `worker` is the id of this process's journal."""
        self._instance, self._worker = instance.id, worker
        with _guarded:
            self._sweep()
            if instance.is_worker:
                self._join()

    def forked(self) -> None:
        """This process has a child that may count too: from the next scrape on they add up."""
        self._has_children = True

    def _join(self) -> None:
        if self.active or self._state.path is None or fcntl is None:
            return
        self._life = self._locked(f"{self._name}{_LOCK}")
        if self._life is None:
            return
        self._server = PullServer(self._state.path, f"{self._name}{_SOCKET}", persist=self._persist_now)
        thread = threading.Thread(target=self._flush, name="otel-genapp-snapshots", daemon=True)
        start_in_no_context(thread)

    def exposition(self, *, openmetrics: bool) -> bytes:
        """The text of a scrape."""
        if self._has_children:
            self._has_children = False
            with _guarded:
                self._join()
        if not self.active:
            return self._reader.exposition(openmetrics=openmetrics)
        taken = self._persist()
        others = NOBODY
        with _guarded:
            others = self._others()
        return self._reader.exposition(openmetrics=openmetrics, taken=taken, others=others)

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
            self._persist()
        self._let_go()

    def restart(self, worker: str) -> None:
        """In the child of a fork: one more worker of the same instance."""
        inherited = self._life
        if self._server is not None:
            listening, self._server = self._server._socket, None  # noqa: SLF001 - the parent's to close
            if listening is not None:
                listening.close()
        if inherited is not None:
            with suppress(OSError):
                os.close(inherited)
        self._reset()
        self._worker = worker
        with _guarded:
            self._join()

    @property
    def _name(self) -> str:
        return f"{START}{self._instance}-{self._worker}"

    def _persist_now(self) -> None:
        self._persist()

    def _persist(self) -> Taken:
        with self._persisting:
            revision = self._revision()
            with self._standing_still() as position:
                taken = self._reader.take()
            data = taken.snapshot(position).to_bytes()
            if self._life is not None and self._state.write_private(self._name, data, durable=False):
                self._written, self._position = revision, position
        return taken

    def _flush(self) -> None:
        ending, pause_s = self._ending, FLUSH_EVERY_S
        while not ending.wait(pause_s):
            if self._revision() == self._written:
                continue
            began_s = time.thread_time()
            with _guarded:
                self._persist()
            pause_s = max(FLUSH_EVERY_S, (time.thread_time() - began_s) / _SHARE)

    def _others(self) -> Snapshot:
        folder = self._state.path
        living = [worker for worker in self._workers() if worker != self._worker and self._lives(worker)]
        if living and folder is not None:
            pull(
                folder,
                [f"{START}{self._instance}-{worker}{_SOCKET}" for worker in living],
                timeout_s=PULL_TIMEOUT_S,
            )
        with self._merging() as alone:
            if not alone:  # somebody who merges hangs: nothing newer can be told without a step back
                return self._last
            others = self._merge()
        self._last = others
        return others

    def _merge(self) -> Snapshot:
        """The dead folded into their file, then everybody's added up; no other worker does it meanwhile."""
        dead = self._read(_DEAD) or Snapshot()
        living: list[Snapshot] = []
        gone: list[str] = []
        for worker in self._workers():
            if worker == self._worker:
                continue
            if self._lives(worker):
                living.append(self._read(worker) or NOBODY)
            elif worker in dead.folded:
                gone.append(worker)
            else:
                self._bury(worker, dead)
                gone.append(worker)
        if gone or dead.folded:
            # First the sums with the names in them, then the files: a crash in between counts nobody twice.
            dead.folded = tuple(gone)
            if self._state.write_private(f"{START}{self._instance}-{_DEAD}", dead.to_bytes()):
                for worker in gone:
                    self._remove(worker)
        others = Snapshot()
        others.add(dead, gauges=False)
        for snapshot in living:
            others.add(snapshot, gauges=True)
        return others

    def _bury(self, worker: str, dead: Snapshot) -> None:
        last = self._read(worker) or Snapshot()
        dead.add(last, gauges=False)
        self._replay(last.position or (f"journal-{worker}-", 0), Tally(dead.own))

    def _sweep(self) -> None:
        """Remove what servers that have ended left behind."""
        for name in self._state.names(START):
            instance = name.removeprefix(START).rsplit(".", 1)[0].rsplit("-", 1)[0]
            if instance != self._instance and is_over(instance.removesuffix(".merge")):
                self._state.remove(name)

    def _workers(self) -> list[str]:
        start = f"{START}{self._instance}-"
        return [name[len(start) : -len(_LOCK)] for name in self._state.names(start) if name.endswith(_LOCK)]

    def _read(self, worker: str) -> Snapshot | None:
        name = f"{START}{self._instance}-{worker}"
        data = self._state.read_private(name)
        if data is None:
            return None
        try:
            return Snapshot.from_bytes(data)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            logger.warning("the snapshot %s cannot be read (%s); it is kept as bad-%s", name, error, name)
            self._state.rename(name, f"bad-{name}")
            return None

    def _remove(self, worker: str) -> None:
        for end in ("", _SOCKET, _LOCK):
            self._state.remove(f"{START}{self._instance}-{worker}{end}")

    def _lives(self, worker: str) -> bool:
        fd = self._state.open_to_read(f"{START}{self._instance}-{worker}{_LOCK}")
        if fd is None:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def _locked(self, name: str) -> int | None:
        """A file locked before anybody sees it: without its lock it would look like a dead worker's."""
        fd = self._state.open_to_append(f"new-{name}")
        if fd is None:
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self._state.rename(f"new-{name}", name):
            return fd
        os.close(fd)
        return None

    def _let_go(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            os.close(life)

    @contextmanager
    def _merging(self) -> Iterator[bool]:
        """Whether this is the only worker that merges now."""
        fd = self._state.open_to_append(f"{START}{self._instance}.merge")
        deadline = time.monotonic() + MERGE_TIMEOUT_S
        alone = False
        try:
            while fd is not None and not alone:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone = True
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.001)
            yield alone
        finally:
            if fd is not None:
                os.close(fd)
