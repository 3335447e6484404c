"""What the pipeline's thread does beside folding: it brings records into the store, and keeps that in order."""

from __future__ import annotations

import time

from otel_genapp.bootstrap.clock import Clock
from otel_genapp.config import ENVIRONMENT
from otel_genapp.ledger.keeping import Ledger
from otel_genapp.ledger.opening import Opened
from otel_genapp.quiet import LOG_INTERVAL_S, logger

MAINTAIN_EVERY_S = 30.0


class Upkeep:
    """Called when records have been folded; gives after how many seconds it wants to be called again."""

    def __init__(self, ledger: Ledger, opened: Opened, *, retention_days: int, clock: Clock) -> None:
        self._ledger = ledger
        self._opened = opened
        self._retention_days = retention_days
        self._write_at_s = self._maintain_at_s = self._tidy_at_s = 0.0
        self._clock = clock
        self._closed = False
        self._warned = ""
        self._warn_at_s = 0.0
        self._warn()

    def __call__(self) -> float | None:
        try:
            return self._work()
        finally:
            self._warn()

    @property
    def problem(self) -> str:
        """Why records do not come into the store, and what to do; empty where they do."""
        failure, said = self._ledger.failure, self._ledger.explanation or self._opened.see_problem()
        if not failure and not said:
            return ""
        said = said or (
            f"the store {self._opened.shown} takes no records ({failure}): "
            f"start it, or correct {ENVIRONMENT['store']}"
        )
        return said if self._ledger.journal is None else f"{said}; calls wait in the journal meanwhile"

    def _warn(self) -> None:
        problem, now_s = self.problem, time.monotonic()
        if problem and problem != self._warned and now_s >= self._warn_at_s:
            self._warned, self._warn_at_s = problem, now_s + LOG_INTERVAL_S
            logger.warning("%s", problem)
        elif not problem:
            self._warned = ""

    def _work(self) -> float | None:
        store, now_s = self._opened.store, time.monotonic()
        if now_s >= self._write_at_s:
            self._write_at_s = now_s + store.write_every_s
            self._ledger.write()
        if self._opened.in_memory or self._closed:
            return None
        if now_s >= self._maintain_at_s:
            self._maintain_at_s = now_s + MAINTAIN_EVERY_S
            self._ledger.maintain()
        if now_s >= self._tidy_at_s and not self._closed:
            self._tidy_at_s = now_s + store.tidy_every_s
            self._tidy()
        if self._ledger.gathered:
            return max(self._write_at_s - time.monotonic(), 0)
        return MAINTAIN_EVERY_S

    def close(self) -> None:
        """Begin nothing more: the store is about to be closed."""
        self._closed = True

    def _tidy(self) -> None:
        before_ns = self._clock.days_ago_ns(self._retention_days)
        if before_ns is not None:
            self._opened.store.tidy(before_ns=before_ns, keep_bytes=self._opened.keep_bytes)
