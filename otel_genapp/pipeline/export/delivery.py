"""Sending, on a thread of its own: one request at a time, with a pause that grows after each failure.

Nobody waits here for the network but this thread. A request that takes longer than it may is left to
its thread, and another goes on; what is refused is halved until the poisoned span is alone.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from otel_genapp.context import start_in_no_context
from otel_genapp.pipeline.export.account import Account
from otel_genapp.pipeline.export.answers import RETRY_AFTER_LIMIT_S, Answer, Verdict
from otel_genapp.pipeline.export.outbox import Outbox
from otel_genapp.pipeline.export.packing import Parcel, halves
from otel_genapp.pipeline.export.silence import silence
from otel_genapp.pipeline.export.wire import TIMEOUT_S, Wire, wire_of
from otel_genapp.quiet import logger, quiet

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
ADOPTION_INTERVAL_S: Final = 30.0
PATIENCE_S: Final = 300.0
"""How long a server that breaks on a request is given before the request is taken for the cause."""

_GRACE_S = 0.5
_LEAST_TOLD_PAUSE_S = 0.1
_STUCK_THREADS = 3
_HOPELESS = 600
"""Refusals in a row, more than the halves of a whole request, that show it is not single spans."""
_HALVING_INTERVAL_S = 60.0
_LOG_INTERVAL_S = 60.0

_guarded = quiet("export")


class Delivery:
    """Sends what is in the outbox; `on_change` hears when an attempt begins and ends."""

    def __init__(
        self, make: Callable[[], Any], outbox: Outbox, *, account: Account, on_change: Callable[[], None]
    ) -> None:
        self.problem = ""
        """What the collector, or the way there, said at the last attempt; "" if all is well."""
        self._make = make
        self._outbox = outbox
        self._account = account
        self._on_change = on_change
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._wire: Wire | None = None
        self._began_s: float | None = None
        self._failures = 0
        self._failed_s = self._due_s = 0.0
        self._is_told_to_wait = False
        self._urgent_until_s = 0.0
        self._suspect_since_s: float | None = None
        self._refusals = 0
        self._halving_again_s = 0.0
        self._adoption_s = time.monotonic()
        self._logged_s = -_LOG_INTERVAL_S
        self._stuck: list[threading.Thread] = []
        self._worker: object = None
        self._start()

    @property
    def is_away(self) -> bool:
        """Whether the last attempt failed, and not for what was in it."""
        return bool(self.problem)

    @property
    def busy_s(self) -> float:
        """For how long the attempt under way has been; 0.0 when there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else max(time.monotonic() - began_s, 1e-9)

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.put(None)

    def hurry(self, until_s: float) -> None:
        """Somebody waits until then, by the monotonic clock: do not pause for long."""
        self._urgent_until_s = max(self._urgent_until_s, until_s)
        self.wake()

    def supervise(self) -> None:
        """Leave a request that takes too long to its thread, and go on with another."""
        wire = self._wire
        is_overdue = self.busy_s > (wire.timeout_s if wire is not None else TIMEOUT_S) + _GRACE_S
        if self._worker is None or not (is_overdue or not self._thread.is_alive()):
            return
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= _STUCK_THREADS:
            return
        with self._account.lock:
            self._stuck.append(self._thread)
            self._fail(Answer(Verdict.LATER, "no answer in time"))
            self._wire = None  # the other thread's
            self._start()
        if wire is not None:
            wire.close()

    def stop(self) -> None:
        """Send nothing more. An attempt under way is not waited for, and not heard."""
        self._worker = None
        self.wake()
        self._let_go()

    def _start(self) -> None:
        self._worker = me = object()
        self._began_s = None
        self._thread = threading.Thread(
            target=self._run, args=(me,), name="otel-genapp-spans-sender", daemon=True
        )
        start_in_no_context(self._thread)

    def _run(self, me: object) -> None:
        with silence():
            while self._worker is me:
                pause_s = 1.0
                with _guarded:
                    pause_s = self._step(me)
                if pause_s > 0:
                    with suppress(Empty):
                        self._wake.get(timeout=pause_s)

    def _step(self, me: object) -> float:
        """Do what is to be done now; the seconds until there may be more."""
        now_s = time.monotonic()
        parcel = self._outbox.head()
        if parcel is None and now_s >= self._adoption_s:
            self._adoption_s = now_s + ADOPTION_INTERVAL_S
            self._outbox.adopt()
            parcel = self._outbox.head()
        if parcel is None:
            return self._adoption_s - now_s
        wait_s = self._next_attempt_s(now_s) - now_s
        if wait_s > 0:
            return wait_s
        self._attempt(parcel, me)
        return 0.0

    def _next_attempt_s(self, now_s: float) -> float:
        if now_s < self._urgent_until_s and not self._is_told_to_wait:
            return min(self._due_s, self._failed_s + FIRST_PAUSE_S)
        return self._due_s

    def _attempt(self, parcel: Parcel, me: object) -> None:
        answer = Answer(Verdict.BROKEN, "an own error")
        self._began_s = time.monotonic()
        self._on_change()
        with _guarded:
            wire = self._wire
            if wire is None:
                self._wire = wire = wire_of(self._make())
            answer = wire.send(parcel)
        was_away = self.is_away
        with self._account.lock:
            if self._worker is not me:
                return
            self._began_s = None
            self._hear(parcel, answer)
        if self.is_away:
            self._let_go()  # a new connection may lead to a server that works
            self._log(logging.WARNING, "spans cannot be delivered (%s) and wait", answer.said)
        elif was_away:
            self._log(logging.INFO, "spans are delivered again")
        self._on_change()

    def _hear(self, parcel: Parcel, answer: Answer) -> None:
        now_s = time.monotonic()
        if answer.verdict is Verdict.LATER or (
            answer.verdict is Verdict.BROKEN and now_s < self._patient_until_s(now_s)
        ):
            self._fail(answer)
            return
        self.problem, self._is_told_to_wait = "", False
        self._failures, self._due_s, self._suspect_since_s = 0, 0.0, None
        if answer.verdict is Verdict.TAKEN:
            self._refusals = 0
            self._outbox.settle(parcel, answer=answer)
            return
        reason = "too_large" if answer.verdict is Verdict.TOO_LARGE else "rejected"
        self._refusals += 1
        if self._refusals == _HOPELESS:
            self._halving_again_s = now_s + _HALVING_INTERVAL_S
        elif self._refusals > _HOPELESS and now_s >= self._halving_again_s:
            self._refusals = 0
        parts: tuple[Parcel, ...] = ()
        if parcel.spans > 1 and self._refusals < _HOPELESS:
            with _guarded:
                parts = halves(parcel)
        if parts:
            self._outbox.split(parcel, parts)
        else:
            self._outbox.settle(parcel, reason=reason)

    def _patient_until_s(self, now_s: float) -> float:
        if self._suspect_since_s is None:
            self._suspect_since_s = now_s
        return self._suspect_since_s + PATIENCE_S

    def _fail(self, answer: Answer) -> None:
        now_s = time.monotonic()
        self.problem = answer.said
        self._failures += 1
        self._failed_s = now_s
        self._is_told_to_wait = answer.retry_after_s is not None
        if answer.verdict is Verdict.LATER:
            self._suspect_since_s = None
        if answer.retry_after_s is not None:
            pause_s = max(answer.retry_after_s, _LEAST_TOLD_PAUSE_S) * random.uniform(1.0, 1.1)  # noqa: S311 - no secret
            pause_s = min(pause_s, RETRY_AFTER_LIMIT_S)
        else:
            most_s = min(FIRST_PAUSE_S * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_S)
            pause_s = random.uniform(FIRST_PAUSE_S, most_s)  # noqa: S311 - as above
        self._due_s = now_s + pause_s

    def _let_go(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with _guarded:
                wire.close()

    def _log(self, level: int, message: str, *values: object) -> None:
        now_s = time.monotonic()
        if level >= logging.WARNING:
            if now_s - self._logged_s < _LOG_INTERVAL_S:
                return
            self._logged_s = now_s
        with _guarded:
            logger.log(level, message, *values)
