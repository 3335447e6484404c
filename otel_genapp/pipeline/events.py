"""Started, completed and failed: what subscribers hear of LLM calls, on a thread of their own.

A slow subscriber delays nobody: events wait in a bounded queue, and what does not fit is dropped
and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from otel_genapp import semconv
from otel_genapp.context import start_in_no_context
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMCall

QUEUE_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRequestStarted:
    """An LLM call began. Times are UTC nanoseconds."""

    call_id: str
    at_ns: int
    provider: str
    model: str
    operation: str
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class LLMRequestCompleted:
    """An LLM call was answered; `call` is its record."""

    call: LLMCall


@dataclass(frozen=True, slots=True)
class LLMRequestFailed:
    """An LLM call failed or was cancelled; `call.status` and `call.error_type` say how."""

    call: LLMCall


Event = LLMRequestStarted | LLMRequestCompleted | LLMRequestFailed
Subscriber = Callable[[Event], None]


class EventBus:
    """Delivers events in order to the subscribers. Costs nothing while there are none."""

    def __init__(self, count: Callable[[str, str], None], *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._count = count
        self._queue_limit = queue_limit
        self._subscribers: tuple[Subscriber, ...] = ()
        self._queue: deque[Event] = deque()
        self._waiting = threading.Condition()
        self._thread: threading.Thread | None = None
        self._delivering = False
        self._closed = False

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(event)` for every event from now on; returns the call that ends it."""
        with self._waiting:
            self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            with self._waiting:
                self._subscribers = tuple(one for one in self._subscribers if one is not subscriber)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Queue an event. Never waits for a subscriber."""
        if not self._subscribers or self._closed:
            return
        self._count("created", "")
        with self._waiting:
            if len(self._queue) >= self._queue_limit:
                full = True
            else:
                full = False
                self._queue.append(event)
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._deliver, name="otel-genapp-events", daemon=True
                    )
                    start_in_no_context(self._thread)
                self._waiting.notify_all()
        if full:
            self._count("dropped", "queue_full")

    def publish_started(self, describe: Callable[[], LLMRequestStarted]) -> None:
        """Queue the event of a call that began, described only if somebody listens."""
        if self._subscribers:
            self.publish(describe())

    def publish_finished(self, call: LLMCall) -> None:
        """Queue the event a finished call makes."""
        if self._subscribers:
            succeeded = call.status == semconv.SUCCESS
            self.publish(LLMRequestCompleted(call) if succeeded else LLMRequestFailed(call))

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything queued was delivered; False when that took longer."""
        with self._waiting:
            return self._waiting.wait_for(lambda: not self._queue and not self._delivering, timeout_s)

    def close(self) -> None:
        """Take no more events; the thread ends when the queue is empty."""
        with self._waiting:
            self._closed = True
            self._waiting.notify_all()

    def abandon(self) -> None:
        """Count what is still queued as lost."""
        with self._waiting:
            left, self._queue = len(self._queue), deque()
        for _ in range(left):
            self._count("dropped", "shutdown")

    def reset(self) -> None:
        """Start over with no thread and nothing queued; for the child of a fork."""
        self._queue = deque()
        self._waiting = threading.Condition()
        self._thread = None
        self._delivering = False

    def _deliver(self) -> None:
        while True:
            with self._waiting:
                self._waiting.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                event = self._queue.popleft()
                self._delivering = True
            try:
                with quiet("pipeline"):
                    self._hand_out(event)
            finally:
                with self._waiting:
                    self._delivering = False
                    self._waiting.notify_all()

    def _hand_out(self, event: Event) -> None:
        failed = False
        for subscriber in self._subscribers:
            done = False
            with quiet("subscriber"):
                subscriber(event)
                done = True
            failed |= not done
        if failed:
            self._count("dropped", "subscriber_error")
        else:
            self._count("delivered", "")
