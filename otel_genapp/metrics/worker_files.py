"""The files of one running server in the state directory.

metrics-<instance>-<worker>         a worker's snapshot     metrics-<instance>-dead     the dead, added up
metrics-<instance>-<worker>.lock    held while it lives     metrics-<instance>-merge    held while merging
metrics-<instance>-<worker>.sock    it answers there        metrics-….bad                could not be read
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.metrics.snapshot import NOBODY, DamagedError, Reading, Snapshot, Writing
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: one process
    fcntl = None

START = "metrics-"
LOCK, SOCKET, BAD = ".lock", ".sock", ".bad"
DEAD, MERGE = "dead", "merge"
UNLOCKED_LIMIT_S = 7 * 86_400.0
"""Files of a server of which nobody can say whether it has ended are kept so long without a living worker."""

_BAD_LIMIT = 8
_LOOKS = 20
_guarded = quiet("metrics")


class UnreadableError(OSError):
    """What others have counted cannot be read now: too many open files, say."""


@dataclass(slots=True)
class View:
    """Everybody else of the instance, as of one moment: nobody is in it twice, and nobody is missing."""

    dead: Snapshot = NOBODY
    living: dict[str, Snapshot] = field(default_factory=dict)
    gone: dict[str, Snapshot] = field(default_factory=dict)
    """Workers that have died and are not among the dead yet."""
    leftover: list[str] = field(default_factory=list)
    """Workers among the dead whose files are still there."""


class WorkerFiles:
    """Reads and writes them. `on_problem(reason)` hears of each file that could not be understood."""

    def __init__(self, state: StateDirectory, instance: str, *, on_problem: Callable[[str], None]) -> None:
        self._state = state
        self._start = f"{START}{instance}-"
        self._instance = instance
        self._on_problem = on_problem
        self._read: dict[str, Reading] = {}
        self._writing: dict[str, Writing] = {}

    def name(self, worker: str, end: str = "") -> str:
        """The name of a worker's file."""
        return f"{self._start}{worker}{end}"

    def listing(self) -> frozenset[str]:
        """The names of all files of the instance; none where the directory cannot be read."""
        return frozenset(self._state.names(self._start))

    def has(self, worker: str) -> bool:
        """Whether a worker's snapshot is there."""
        return self.name(worker) in self._state.names(self.name(worker))

    def workers(self, names: Collection[str]) -> list[str]:
        """The workers whose lock file is there, living or not."""
        locks = sorted(name for name in names if name.endswith(LOCK))
        return [name[len(self._start) : -len(LOCK)] for name in locks]

    def hold(self, worker: str) -> int | None:
        """The descriptor of a worker's lock, held as long as it is open."""
        # Locked before anybody sees it: without its lock it would look like a dead worker's.
        new = f"new-{self.name(worker, LOCK)}"
        fd = self._state.open_to_append(new)
        if fd is None:
            return None
        if _locked(fd, 0) and self._state.rename(new, self.name(worker, LOCK)):
            return fd
        os.close(fd)
        return None

    def is_dead(self, worker: str) -> bool:
        """Whether it is known that a worker has died; who cannot be asked is taken for living."""
        return self._is_free(self.name(worker, LOCK)) is True

    def write(self, worker: str, snapshot: Snapshot, *, durable: bool = False) -> bool:
        """Replace a worker's snapshot, whole or not at all; one thread, and of the dead one process, at a time."""
        name = self.name(worker)
        # One name for what is being written: a killed worker leaves one such file, not one for each kill.
        fd = self._state.open_to_append(f"new-{name}")
        if fd is None:
            return False
        try:
            data = self._writing.setdefault(worker, Writing()).to_bytes(snapshot)
            os.ftruncate(fd, 0)
            while data:
                data = data[os.write(fd, data) :]
            if durable:
                os.fsync(fd)
        except (OSError, ValueError):  # no space, or longer than a frame may be
            self._state.remove(f"new-{name}")
            return False
        finally:
            os.close(fd)
        return self._state.rename(f"new-{name}", name)

    def look(self, own: str) -> View:
        """Everybody but `own`.

        Raises:
            UnreadableError: they cannot be read.
        """
        for attempt in range(_LOOKS):
            before = self._bytes(DEAD)
            names = self.listing()
            view = View(self._understood(DEAD, before) if before is not None else NOBODY)
            if self.name(own, LOCK) not in names or (before is None and self.name(DEAD) in names):
                continue
            # A merge writes the dead first and removes files then: the same dead, nobody removed.
            if self._fill(view, names, own=own) and self._bytes(DEAD) == before:
                return view
            time.sleep(0.001 * attempt)
        raise UnreadableError(f"the numbers of other workers: {self._state.problem or 'they keep changing'}")

    def remove(self, worker: str) -> None:
        """Remove a dead worker's files; the lock last, which says that there was one."""
        for name in (f"new-{self.name(worker)}", *(self.name(worker, end) for end in ("", SOCKET, LOCK))):
            self._state.remove(name)
        self._read.pop(worker, None)

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[bool]:
        """Whether this is the only process that merges now."""
        fd = self._state.open_to_append(self.name(MERGE))
        deadline = time.monotonic() + timeout_s
        try:
            yield fd is not None and _locked(fd, deadline)
        finally:
            if fd is not None:
                # Explicitly: a child forked meanwhile has the descriptor too, and would hold the lock.
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)

    def sweep(self, is_over: Callable[[str], bool]) -> None:
        """Remove what servers that have ended left behind; never what a living worker needs."""
        by_instance: dict[str, list[str]] = {}
        for start in (START, f"new-{START}"):
            for name in self._state.names(start):
                by_instance.setdefault(name[len(start) :].partition("-")[0], []).append(name)
        for instance, names in by_instance.items():
            if instance == self._instance or any(self._is_held(name) for name in names):
                continue
            if is_over(instance) or self._are_old(names):
                for name in names:
                    self._state.remove(name)

    def _fill(self, view: View, names: frozenset[str], *, own: str) -> bool:
        for worker in self.workers(names):
            if worker == own:
                continue
            if worker in view.dead.folded:
                view.leftover.append(worker)
                continue
            # First whether it lives: what it wrote before it died is what it wrote last.
            dead = self.is_dead(worker)
            data = self._bytes(worker)
            if data is None and self.name(worker) in names:
                return False
            group = view.gone if dead else view.living
            group[worker] = self._understood(worker, data) if data is not None else NOBODY
        return True

    def _understood(self, worker: str, data: bytes) -> Snapshot:
        reading = self._read.setdefault(worker, Reading())
        try:
            return reading.from_bytes(data)
        except DamagedError as error:
            self._quarantine(self.name(worker))
            with _guarded:
                raise DamagedError(f"the snapshot {self.name(worker)} is set aside: {error}") from error
            return reading.last

    def _quarantine(self, name: str) -> None:
        for old in [known for known in sorted(self.listing()) if known.endswith(BAD)][_BAD_LIMIT - 1 :]:
            self._state.remove(old)
        self._state.rename(name, f"{name}{BAD}")
        self._on_problem("damaged")

    def _bytes(self, worker: str) -> bytes | None:
        fd = self._state.open_to_read(self.name(worker))
        if fd is None:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def _is_held(self, name: str) -> bool:
        """Whether a living worker, of another container perhaps, holds this file."""
        return name.endswith(LOCK) and self._is_free(name) is False

    def _is_free(self, name: str) -> bool | None:
        """Whether nobody holds a lock file; None where it cannot be opened."""
        fd = self._state.open_to_read(name)
        if fd is None:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _are_old(self, names: Collection[str]) -> bool:
        limit_s = time.time() - UNLOCKED_LIMIT_S
        for name in names:
            fd = None if name.endswith(SOCKET) else self._state.open_to_read(name)
            if fd is None:
                continue
            with os.fdopen(fd, "rb"):
                if os.fstat(fd).st_mtime > limit_s:
                    return False
        return True


def _locked(fd: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        else:
            return True
