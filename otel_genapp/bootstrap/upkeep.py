"""What the pipeline's thread does beside folding: it brings records into the store, and keeps that in order."""

from __future__ import annotations

import time

from otel_genapp.ledger.keeping import Ledger
from otel_genapp.ledger.opening import Opened

MAINTAIN_EVERY_S = 30.0
CLOCK_STEP_S = 3600.0
"""By more the clock is not corrected while a process runs: it was wrong before, or is now."""
DISTRUST_S = 86_400.0
"""After such a step nothing is removed for being old for so long."""
_DAY_NS = 86_400 * 10**9
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))


class Upkeep:
    """Called when records have been folded; gives after how many seconds it wants to be called again."""

    def __init__(self, ledger: Ledger, opened: Opened, *, retention_days: int) -> None:
        self._ledger = ledger
        self._opened = opened
        self._retention_days = retention_days
        self._write_at_s = self._maintain_at_s = self._tidy_at_s = 0.0
        self._clock_offset_s = time.time() - _steady_s()

    def __call__(self) -> float | None:
        store, now_s = self._opened.store, time.monotonic()
        if now_s >= self._write_at_s:
            self._write_at_s = now_s + store.write_every_s
            self._ledger.write()
        if self._opened.in_memory:
            return None
        if now_s >= self._maintain_at_s:
            self._maintain_at_s = now_s + MAINTAIN_EVERY_S
            self._ledger.maintain()
        if now_s >= self._tidy_at_s:
            self._tidy_at_s = now_s + store.tidy_every_s
            self._tidy()
        if self._ledger.gathered:
            return max(self._write_at_s - time.monotonic(), 0)
        return MAINTAIN_EVERY_S

    def _tidy(self) -> None:
        offset_s = time.time() - _steady_s()
        if abs(offset_s - self._clock_offset_s) > CLOCK_STEP_S:
            # A clock that stands in the future for a moment would make everything old.
            self._clock_offset_s = offset_s
            self._tidy_at_s = time.monotonic() + DISTRUST_S
            return
        self._opened.store.tidy(
            before_ns=time.time_ns() - self._retention_days * _DAY_NS, keep_bytes=self._opened.keep_bytes
        )


def _steady_s() -> float:
    """Seconds that nobody sets, those the machine slept included where the platform counts them."""
    return time.clock_gettime(_STEADY) if hasattr(time, "clock_gettime") else time.monotonic()
