"""Letting many threads work at once, or none while the process is forked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TURN_S = 1.0


class Gate:
    """Threads go through it to work. While it is shut nobody enters."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work, once the gate is open."""
        with self._changed:
            while self._shut:
                self._changed.wait(_TURN_S)  # whoever opens it may not get to say so
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def shut(self, timeout_s: float) -> bool:
        """Let nobody in any more; False if somebody is still inside after `timeout_s` seconds."""
        if not self._changed.acquire(timeout=timeout_s):
            return False
        try:
            self._changed.wait_for(lambda: not self._shut, timeout_s)
            self._shut = True
            return self._changed.wait_for(lambda: not self._inside, timeout_s)
        finally:
            self._changed.release()

    def open(self) -> None:
        """Let everybody in again."""
        self._shut = False
        if self._changed.acquire(timeout=_TURN_S):
            try:
                self._changed.notify_all()
            finally:
                self._changed.release()
