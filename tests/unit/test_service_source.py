"""Following a service that tells only the newest calls of each session."""

from __future__ import annotations

from typing import Any

from otel_genapp.cli.service import ServiceError, ServiceSource
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.sessions import SessionSummary, totals_dict
from otel_genapp.records import LLMCall
from tests.builders import call


class Served:
    """A service that answers from a store in memory."""

    url = "http://shop"
    token = ""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.asked: list[str] = []

    def get_json(self, path: str, **query: Any) -> Any:
        self.asked.append(path)
        if path == "/events/metrics":
            return totals_dict(self.store, from_s=None, to_s=None, step_s=None, in_flight=0)
        if path == "/events/metrics/sessions":
            page = self.store.sessions(limit=query["limit"], cursor=query["cursor"])
            return {"sessions": list(page.ids), "count": page.total, "next": page.next}
        found = self.store.session(path.rpartition("/")[2])
        if found is None:
            raise ServiceError("no such session", 404)
        return SessionSummary(found).as_dict()


def numbered(first: int, count: int, session: str | None) -> list[LLMCall]:
    """Calls that end one after the other."""
    return [
        call(f"{number}", session_id=session, started_at_ns=1_800_000_000_000_000_000 + number * 10**9)
        for number in range(first, first + count)
    ]


def opened() -> tuple[Served, ServiceSource]:
    served = Served()
    return served, ServiceSource(served)  # type: ignore[arg-type]


def test_each_call_is_told_once() -> None:
    """New calls of known, new and no sessions are told once each, and earlier ones not again."""
    served, source = opened()
    served.store.apply([*numbered(0, 30, "old"), *numbered(30, 3, "s1")])
    found = source.newest(limit=2, session_id=None)
    assert [each["call_id"] for each in found.calls] == ["31", "32"]
    served.store.apply([*numbered(33, 2, "s1"), *numbered(35, 1, "s2"), *numbered(36, 1, None)])
    found = source.since(found.place, session_id=None)
    assert ([each["call_id"] for each in found.calls], found.missed) == (["33", "34", "35", "36"], 0)
    asked = len(served.asked)
    found = source.since(found.place, session_id=None)
    assert (found.calls, found.missed, served.asked[asked:]) == ((), 0, ["/events/metrics"])


def test_what_is_not_told_is_counted() -> None:
    """Past the newest 20 calls of a session the rest is counted as missed, once."""
    served, source = opened()
    found = source.newest(limit=10, session_id=None)
    served.store.apply(numbered(0, 50, "s1"))
    found = source.since(found.place, session_id=None)
    assert (len(found.calls), found.missed) == (20, 30)
    served.store.apply(numbered(50, 1, "s1"))
    found = source.since(found.place, session_id=None)
    assert (len(found.calls), found.missed) == (1, 0)


def test_a_session_that_was_cleared_begins_again() -> None:
    """Its new calls are told although there are fewer than before."""
    served, source = opened()
    served.store.apply(numbered(0, 5, "s1"))
    found = source.newest(limit=0, session_id="s1")
    served.store.clear("s1")
    served.store.apply(numbered(5, 2, "s1"))
    found = source.since(found.place, session_id="s1")
    assert [each["call_id"] for each in found.calls] == ["5", "6"]
    assert found.missed == 0
