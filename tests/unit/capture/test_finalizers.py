from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_genapp import hub
from otel_genapp.capture.client_exchange import Exchange
from otel_genapp.capture.finalizers import measure, measure_put_off, watch_collections
from tests.fakes import Measurement, RecordingFamilies, hub_for, telemetry


class Garbage:
    """An object only the collector can free, and what it does then."""

    def __init__(self, finalize: Callable[[], None]) -> None:
        self.itself = self
        self.finalize = finalize

    def __del__(self) -> None:
        self.finalize()


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    undo = watch_collections()
    yield
    undo()


def test_a_measurement_outside_a_collection_is_made_at_once() -> None:
    """Nothing is put off without need."""
    with telemetry():
        assert hub.active is not None
        made: list[str] = []
        measure(hub.active, lambda: made.append("now"))
        assert made == ["now"]


def test_a_measurement_inside_a_collection_waits() -> None:
    """It is made with the next one, in order, or by whoever reads the metrics."""
    with telemetry():
        running = hub.active
        assert running is not None
        made: list[str] = []
        Garbage(lambda: measure(running, lambda: made.append("first")))
        gc.collect()
        inside = list(made)
        measure(running, lambda: made.append("second"))
        Garbage(lambda: measure(running, lambda: made.append("third")))
        gc.collect()
        measure_put_off(running)
        assert (inside, made) == ([], ["first", "second", "third"])


def test_a_collection_under_a_lock_of_the_families_locks_nothing_up() -> None:
    """An exchange that is collected while its family is being recorded does not wait for itself."""

    class LockingFamily:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.values: list[float] = []

        def record(self, value: float, labels: tuple[str, ...], context: Any = None) -> None:
            assert self.lock.acquire(timeout=5), "recording waits for itself"
            try:
                gc.collect()  # which may happen at any allocation
                self.values.append(value)
            finally:
                self.lock.release()

    families: Any = RecordingFamilies()
    families.http.requests = family = LockingFamily()
    hub.set_active(running := hub_for(families))
    try:
        forgotten = exchange(running)
        Garbage(forgotten.finish)
        exchange(running).finish()
        measure_put_off(running)
    finally:
        hub.set_active(None)
    assert (family.values, running.exchanges) == ([1, 1], set())


def test_other_threads_measure_during_a_collection() -> None:
    """Only the collecting thread holds its measurements back."""
    with telemetry():
        running = hub.active
        assert running is not None
        made: list[str] = []

        def in_another_thread() -> None:
            thread = threading.Thread(target=measure, args=(running, lambda: made.append("other")))
            thread.start()
            thread.join()

        Garbage(in_another_thread)
        gc.collect()
        assert made == ["other"]


def test_a_measurement_that_fails_does_not_stop_the_others(expected_own_errors: list[object]) -> None:
    """What was put off is made one by one."""
    with telemetry():
        running = hub.active
        assert running is not None
        made: list[str] = []

        def fail() -> None:
            raise ValueError

        running.put_off.extend([fail, lambda: made.append("next")])
        measure_put_off(running)
    assert (made, len(expected_own_errors)) == (["next"], 1)


def test_watching_ends() -> None:
    """The undo leaves the collector as it was, however often it is called."""
    before = list(gc.callbacks)
    undo = watch_collections()
    undo()
    undo()
    assert gc.callbacks == before


def test_the_end_of_an_exchange_is_measured_once() -> None:
    """The first end counts, with its error; later ones change nothing."""
    with telemetry() as families:
        assert hub.active is not None
        ended = exchange(hub.active)
        ended.answered(200)
        ended.finish(TimeoutError())
        ended.finish(ValueError())
        ended.finish()
    assert families.of("http_requests") == [Measurement("http_requests", 1, ("GET", "timeout", "h", "httpx"))]


def exchange(running: hub.Hub) -> Exchange:
    return Exchange(running, "httpx", method="GET", resource="h", timeouts=(TimeoutError,))
