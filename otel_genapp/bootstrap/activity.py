"""How many sessions are active, asked of a store that may not answer."""

from __future__ import annotations

import threading
import time

from otel_genapp.ledger.store import Store
from otel_genapp.pipeline.errand import Errand
from otel_genapp.quiet import quiet

WINDOW_S = 300
_WAIT_S = 0.25
"""Whoever collects metrics holds locks of the SDK's, for which the end of the process waits."""
_PAUSE_S = 10.0
"""A store that did not answer is not waited for again so soon."""
_KEPT_S = 60.0
_LONG_AGO = float("-inf")
_guarded = quiet("metrics")


class ActiveSessions:
    """Called, the sessions with a call in the last 5 minutes; None where the store has not said so lately."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.restart()

    def restart(self) -> None:
        """Know nothing; for the child of a fork."""
        self._starting = threading.Lock()
        self._asking: Errand | None = None
        self._closed = False
        self._found = 0
        self._found_at_s = _LONG_AGO
        self._wait_at_s = _LONG_AGO

    def __call__(self) -> int | None:
        now_s = time.monotonic()
        if not self._closed:
            patient = now_s >= self._wait_at_s
            if not self._errand().ask().within(_WAIT_S if patient else 0) and patient:
                self._wait_at_s = now_s + _PAUSE_S
        return self._found if now_s - self._found_at_s <= _KEPT_S else None

    def close(self) -> None:
        """Ask no more: what is known is the answer."""
        self._closed = True
        if self._asking is not None:
            self._asking.close()

    def _errand(self) -> Errand:
        with self._starting:
            if self._asking is None:
                self._asking = Errand(self._ask, lambda: None, name="activity")
            return self._asking

    def _ask(self) -> bool:
        with _guarded:
            self._found = self._store.active_sessions(since_ns=time.time_ns() - WINDOW_S * 10**9)
            self._found_at_s = time.monotonic()
            self._wait_at_s = _LONG_AGO
            return True
        return False
