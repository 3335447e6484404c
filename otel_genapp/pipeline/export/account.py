"""What became of the spans: each is delivered, lost for a reason, on disk or still under way.

created + unspooled = exported + dropped{reason} + spooled + under way, at any time: a span goes to
the disk (`spooled`) and leaves it (`unspooled`) in one process or in two.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Final, Protocol

EXPORTED: Final = "exported"
"""The one good end of an export; every other one is a reason for which spans are dropped."""


class Count(Protocol):
    """Hears what became of spans."""

    def __call__(self, what: str, outcome: str, *, number: int) -> None:
        """So many `what` had that `outcome`."""


class Account:
    """Counts the ends of this process's spans, and wakes those who wait for them."""

    def __init__(self, count: Count, *, what: str = "span", good: str = EXPORTED) -> None:
        """`what` is counted; `good` is the end that loses nothing."""
        self.lock = threading.RLock()
        """Held while spans change their place. Threads of the application never wait for it."""
        self.closed = False
        self.settled = 0
        """Spans of this process that were delivered or lost."""
        self.lost_at = 0
        """How many were settled when the last one was lost."""
        self._count = count
        self._what, self._good = what, good
        self._waiting: list[tuple[int, SimpleQueue[None]]] = []

    def settle(self, number: int, outcome: str, *, own: bool = True, on_disk: bool = False) -> None:
        """So many spans came to their end; `own` says that this process made them."""
        with self.lock:
            if self.closed or number <= 0:
                return
            if on_disk:
                self._count(self._what, "unspooled", number=number)
            self._count(self._what, outcome, number=number)
            if own:
                self.settled += number
                if outcome != self._good:
                    self.lost_at = self.settled
        self._wake()

    def spooled(self, number: int) -> None:
        """So many spans are on disk now."""
        self._count(self._what, "spooled", number=number)

    def damaged(self, number: int) -> None:
        """So many records of a dead process cannot be read; nobody knows how many spans they held."""
        self._count("spool_record", "damaged", number=number)

    def close(self, under_way: int) -> None:
        """Count nothing more, after the spans that are neither settled nor on disk: they are given up."""
        self.settle(under_way, "shutdown")
        self.closed = True
        self._wake()

    def settled_within(self, target: int, timeout_s: float) -> bool:
        """Whether so many spans are settled, at most `timeout_s` from now."""
        told: SimpleQueue[None] = SimpleQueue()
        entry = (target, told)
        self._waiting.append(entry)
        try:
            if self.settled < target and not self.closed:
                told.get(timeout=max(timeout_s, 0))
        except Empty:
            pass
        finally:
            self._waiting.remove(entry)
        return self.settled >= target

    def _wake(self) -> None:
        for target, told in tuple(self._waiting):
            if self.closed or self.settled >= target:
                told.put(None)
