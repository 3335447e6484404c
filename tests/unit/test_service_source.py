"""Following a service that tells only the newest calls of each session."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

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
        self.comes_in: dict[str, list[LLMCall]] = {}
        """What happens in the moment in which a path is asked for."""

    def get_json(self, path: str, **query: Any) -> Any:
        self.asked.append(path)
        if path in self.comes_in:
            self.store.apply(self.comes_in.pop(path))
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


def test_old_sessions_come_back() -> None:
    """A session that was too long ago to be looked at tells only what is new when it is active again."""
    served, source = opened()
    served.store.apply(each for number in range(120) for each in numbered(number, 1, f"s{number}"))
    found = source.newest(limit=0, session_id=None)
    served.store.apply(numbered(200, 1, "s3"))
    found = source.since(found.place, session_id=None)
    assert ([each["call_id"] for each in found.calls], found.missed) == (["200"], 0)


def test_calls_in_the_middle_of_a_look() -> None:
    """What comes in between the total and the sessions is told at once, and not taken for missed later."""
    served, source = opened()
    found = source.newest(limit=0, session_id=None)
    served.store.apply(numbered(0, 1, "s1"))
    served.comes_in["/events/metrics/sessions"] = numbered(1, 2, "s1")
    found = source.since(found.place, session_id=None)
    assert ([each["call_id"] for each in found.calls], found.missed) == (["0", "1", "2"], 0)
    served.store.apply(numbered(3, 30, "s1"))
    found = source.since(found.place, session_id=None)
    assert (len(found.calls), found.missed) == (20, 10)


def test_something_else_at_the_address() -> None:
    """What answers in JSON and is no service of ours is told as such; an older one lacks what it does not know."""
    served, source = opened()
    served.store.apply(numbered(0, 1, "s1"))
    answer = served.get_json("/events/metrics/session/s1")
    for key in ("cached_tokens", "p95_duration_ms"):
        del answer[key]
    strange: list[Any] = [[], {"status": "ok"}, "text"]
    for other in strange:
        served.get_json = lambda *_, other=other, **__: other  # type: ignore[method-assign]
        for ask in (partial(source.session, "s1"), partial(source.newest, limit=1, session_id=None)):
            with pytest.raises(ServiceError, match="does not answer as an otel-genapp service"):
                ask()
    served.get_json = lambda *_, **__: answer  # type: ignore[method-assign]
    found = source.session("s1")
    assert found is not None
    assert (found["total_requests"], found["cached_tokens"], found["p95_duration_ms"]) == (1, None, None)
