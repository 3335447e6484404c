"""Events for subscribers: in order, on a thread of their own, and every one accounted for."""

from __future__ import annotations

import threading
from collections import Counter

from otel_genapp.pipeline.events import (
    Event,
    EventBus,
    LLMRequestCompleted,
    LLMRequestFailed,
    LLMRequestStarted,
)
from tests.builders import START_NS, call
from tests.fakes import eventually

STARTED = LLMRequestStarted(call_id="c1", at_ns=START_NS, provider="openai", model="gpt-5", operation="chat")


class Accounts:
    """A bus and what it said of its events."""

    def __init__(self, *, queue_limit: int = 10_000) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.bus = EventBus(lambda *said: self.counts.update([said]), queue_limit=queue_limit)


def test_without_subscribers_nothing_happens() -> None:
    """No thread, no count, and a start nobody listens to is not even described."""
    accounts = Accounts()

    def describe() -> LLMRequestStarted:
        raise AssertionError

    accounts.bus.publish_started(describe)
    accounts.bus.publish(STARTED)
    accounts.bus.publish_finished(call())
    assert (accounts.bus.drain(0), accounts.counts, accounts.bus._thread) == (True, {}, None)


def test_delivery_in_order() -> None:
    """Every subscriber hears every event, in order, as long as it is one."""
    accounts = Accounts()
    first: list[Event] = []
    second: list[Event] = []
    end_first = accounts.bus.subscribe(first.append)
    accounts.bus.subscribe(second.append)
    done, failed, cancelled = call("1"), call("2", status="fail"), call("3", status="cancelled")
    accounts.bus.publish_started(lambda: STARTED)
    accounts.bus.publish_finished(done)
    assert accounts.bus.drain(5)
    end_first()
    accounts.bus.publish_finished(failed)
    accounts.bus.publish_finished(cancelled)
    assert accounts.bus.drain(5)
    assert first == [STARTED, LLMRequestCompleted(done)]
    assert second == [*first, LLMRequestFailed(failed), LLMRequestFailed(cancelled)]
    assert accounts.counts == {("created", ""): 4, ("delivered", ""): 4}
    accounts.bus.close()


def test_a_slow_subscriber_holds_up_nobody() -> None:
    """Publishing goes on while a subscriber hangs; what does not fit is dropped and counted."""
    accounts = Accounts(queue_limit=5)
    busy, go_on = threading.Event(), threading.Event()

    def hang(_event: Event) -> None:
        busy.set()
        go_on.wait(10)

    accounts.bus.subscribe(hang)
    accounts.bus.publish(STARTED)
    assert busy.wait(5)
    for _ in range(20):
        accounts.bus.publish(STARTED)
    assert not accounts.bus.drain(0.01)
    go_on.set()
    assert accounts.bus.drain(5)
    assert accounts.counts == {("created", ""): 21, ("delivered", ""): 6, ("dropped", "queue_full"): 15}
    accounts.bus.close()


def test_close_delivers_what_is_queued() -> None:
    """A closed bus takes nothing more, delivers the rest and ends its thread."""
    accounts = Accounts()
    heard: list[Event] = []
    accounts.bus.subscribe(heard.append)
    for _ in range(100):
        accounts.bus.publish(STARTED)
    accounts.bus.close()
    accounts.bus.publish(STARTED)
    assert accounts.bus.drain(5)
    assert heard == [STARTED] * 100
    thread = accounts.bus._thread
    assert thread is not None
    assert eventually(lambda: not thread.is_alive())


def test_what_is_abandoned_is_counted() -> None:
    """Events nobody waits for any longer are dropped and counted, those delivered were delivered."""
    accounts = Accounts()
    busy, go_on = threading.Event(), threading.Event()

    def hang(_event: Event) -> None:
        busy.set()
        go_on.wait(10)

    accounts.bus.subscribe(hang)
    for _ in range(5):
        accounts.bus.publish(STARTED)
    assert busy.wait(5)
    accounts.bus.close()
    accounts.bus.abandon()
    go_on.set()
    assert accounts.bus.drain(5)
    assert accounts.counts == {("created", ""): 5, ("delivered", ""): 1, ("dropped", "shutdown"): 4}


def test_a_finalizer_may_publish_inside_the_bus() -> None:
    """An event made by a garbage collection that runs while the queue is held does not lock it up."""
    accounts = Accounts()
    heard: list[Event] = []
    accounts.bus.subscribe(heard.append)

    def publish_inside() -> None:
        with accounts.bus._waiting:
            accounts.bus.publish(STARTED)

    publishing = threading.Thread(target=publish_inside, daemon=True)
    publishing.start()
    publishing.join(5)
    assert not publishing.is_alive()
    assert accounts.bus.drain(5)
    assert heard == [STARTED]
    accounts.bus.close()


def test_reset_in_a_child() -> None:
    """A forked child, left with the parent's queue, lock and no thread, starts empty and delivers."""
    accounts = Accounts()
    heard: list[Event] = []
    accounts.bus.subscribe(heard.append)
    accounts.bus._thread = threading.Thread()  # as the child sees it: not running
    accounts.bus._queue.append(LLMRequestCompleted(call("parent's")))
    holding = threading.Thread(target=accounts.bus._waiting.acquire)
    holding.start()
    holding.join()
    accounts.bus.reset()
    accounts.bus.publish(STARTED)
    assert accounts.bus.drain(5)
    assert heard == [STARTED]
    accounts.bus.close()
