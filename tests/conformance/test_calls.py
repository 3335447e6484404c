"""What every store promises that finds calls by their correlation ids: all of them do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import FindsCalls, Store
from otel_genapp.ledger.store_memory import MemoryStore
from tests.builders import START_NS, amendment, call


def finding(store: Store) -> FindsCalls:
    """The store, known to find calls."""
    assert isinstance(store, MemoryStore | SQLStore | ClickHouseStore)
    return store


def test_calls_are_found_by_their_correlation_ids(store: Store) -> None:
    """The last ones first, no amendments, no others; with a session or without, and once."""
    calls = [
        call(str(number), correlation_id="cid", session_id="s1" if number % 2 else None)
        for number in range(5)
    ]
    others = [call("other", correlation_id="other"), call("none")]
    for _ in range(2):
        store.apply((*calls, *others, amendment("1")))
    assert finding(store).calls_by_correlation("cid", limit=3) == tuple(calls[:1:-1])
    assert finding(store).calls_by_correlation("cid", limit=9) == tuple(reversed(calls))
    assert finding(store).calls_by_correlation("unknown", limit=9) == ()


def test_an_odd_correlation_id_finds_its_calls(store: Store) -> None:
    """What `bind` takes is any text."""
    odd = ["nul\0", "lone\ud800", "long" * 1000, "", "'; DROP TABLE"]
    store.apply([call(str(number), correlation_id=text) for number, text in enumerate(odd)])
    for number, text in enumerate(odd):
        assert [one.call_id for one in finding(store).calls_by_correlation(text, limit=9)] == [str(number)]


@pytest.mark.parametrize(
    "forget",
    [lambda store: store.clear("s1"), lambda store: store.tidy(before_ns=START_NS * 2)],
    ids=["cleared", "aged"],
)
def test_forgotten_calls_are_not_found(store: Store, forget: Callable[[Store], object]) -> None:
    """Clearing a session and ageing take its calls away here too; what comes later is found."""
    store.apply([call(str(number), correlation_id="cid") for number in range(3)])
    forget(store)
    assert finding(store).calls_by_correlation("cid", limit=9) == ()
    new = call("new", correlation_id="cid", started_at_ns=START_NS * 3)
    store.apply((new,))
    assert finding(store).calls_by_correlation("cid", limit=9) == (new,)
