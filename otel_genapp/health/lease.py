"""Which of a host's workers keeps the history: whoever holds a lock, until it ends or is killed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from otel_genapp.state_directory import StateDirectory

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: one process
    fcntl = None

LEADER = "sla-leader"


class Lease:
    """The right to write the history. Without a state directory, or file locks, everybody has an own one."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._fd: int | None = None

    @property
    def is_shared(self) -> bool:
        """Whether there may be others to decide it with."""
        return fcntl is not None and self._state.path is not None

    @property
    def is_held(self) -> bool:
        """Whether this process had it when it last tried."""
        return self._fd is not None or not self.is_shared

    def hold(self) -> bool:
        """Whether this process has it now; it is taken if nobody has it, and never waited for."""
        if not self.is_shared:
            return True
        if self._fd is not None:
            with suppress(OSError):
                if os.fstat(self._fd).st_nlink:
                    return True
            self.release()  # somebody removed the file, and others lock another one by now
        fd = self._state.open_to_append(LEADER)
        if fd is None:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Let another worker have it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                # Explicitly: a child forked meanwhile has the descriptor too.
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)

    def leave_to_parent(self) -> None:
        """In the child of a fork: what the parent has is the parent's."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                os.close(fd)
