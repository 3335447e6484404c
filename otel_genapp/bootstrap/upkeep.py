"""What the pipeline's thread does beside folding: it brings records into the store, and keeps that in order."""

from __future__ import annotations

import time

from otel_genapp.bootstrap.clock import Clock
from otel_genapp.ledger.keeping import Ledger
from otel_genapp.ledger.opening import Opened

MAINTAIN_EVERY_S = 30.0


class Upkeep:
    """Called when records have been folded; gives after how many seconds it wants to be called again."""

    def __init__(self, ledger: Ledger, opened: Opened, *, retention_days: int, clock: Clock) -> None:
        self._ledger = ledger
        self._opened = opened
        self._retention_days = retention_days
        self._write_at_s = self._maintain_at_s = self._tidy_at_s = 0.0
        self._clock = clock

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
        before_ns = self._clock.days_ago_ns(self._retention_days)
        if before_ns is not None:
            self._opened.store.tidy(before_ns=before_ns, keep_bytes=self._opened.keep_bytes)
