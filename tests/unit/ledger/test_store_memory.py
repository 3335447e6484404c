"""What is particular to the store in memory: its bounds, and a fork."""

from __future__ import annotations

import pytest

from otel_genapp import semconv
from otel_genapp.ledger import store_memory
from otel_genapp.ledger.store_memory import MemoryStore
from tests.builders import MINUTE_NS, START_NS, call


def test_models_are_bounded() -> None:
    """Past the limit further models are summed up under one name, so that totals stay exact."""
    store = MemoryStore()
    limit = store_memory.MODELS_KEPT
    store.apply(call(str(number), model=f"m{number}") for number in range(limit + 50))
    found = store.totals()
    assert len(found.by_model) == limit + 1
    assert found.by_model["openai", semconv.OVERFLOW].calls == 50
    assert sum(sums.calls for sums in found.by_model.values()) == found.overall.calls == limit + 50


def test_minutes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest minutes go, by number and by what they hold; the totals over all time keep them."""
    monkeypatch.setattr(store_memory, "MINUTES_KEPT", 10)
    monkeypatch.setattr(store_memory, "CELLS_KEPT", 12)
    store = MemoryStore()
    for number in range(20):
        store.apply((call(str(number), started_at_ns=START_NS + number * MINUTE_NS),))
    assert store.totals(from_ns=0).overall.calls == 10
    last_ns = START_NS + 20 * MINUTE_NS
    store.apply(call(f"wide {number}", model=f"m{number}", started_at_ns=last_ns) for number in range(12))
    assert store.totals(from_ns=0).overall.calls == 12
    assert store.totals().overall.calls == 32


def test_remembered_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the latest calls are remembered for telling a second delivery."""
    monkeypatch.setattr(store_memory, "CALLS_REMEMBERED", 100)
    store = MemoryStore()
    store.apply(call(str(number)) for number in range(1000))
    assert len(store._seen) == 100
    assert store.apply((call("999"), call("900"))) == 0


def test_reset_in_a_child() -> None:
    """A child, left with the parent's lock held, starts empty."""
    store = MemoryStore()
    store.apply((call("1"),))
    store._lock.acquire()
    store.restart()
    assert (store.session("s1"), store.totals().overall.calls, store.apply((call("1"),))) == (None, 0, 1)
