"""Whichever store the records are in, what people are shown of them is the same, to the last byte."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from otel_genapp import semconv
from otel_genapp.ledger.store import Store
from otel_genapp.read.sessions import Sessions, totals_dict
from otel_genapp.records import Record, Usage
from tests.builders import MINUTE_NS, START_NS, amendment, call
from tests.conformance.stores import SHARED, opened_at
from tests.servers import Servers

CALLS, AT_ONCE = 5_000, 250
SESSIONS = (*(f"session-{number}" for number in range(40)), "сессия", None)


def some_records() -> list[Record]:
    """Calls of every kind in many sessions over two days, some with amendments, some with no usage or price."""
    chance = random.Random(11)  # noqa: S311 - repeatable on purpose
    records: list[Record] = []
    for number in range(CALLS):
        session_id = chance.choice(SESSIONS)
        status = chance.choice((semconv.SUCCESS,) * 6 + (semconv.FAIL, semconv.CANCELLED))
        usage = Usage(
            chance.randrange(5000), chance.randrange(800), chance.randrange(50), None, chance.randrange(9)
        )
        records.append(
            call(
                f"call-{number}",
                session_id=session_id,
                status=status,
                error_type="KeyError" if status == semconv.FAIL else None,
                model=chance.choice(("gpt-5", "gpt-5-mini", "claude-sonnet-4-5")),
                provider=chance.choice(("openai", "anthropic")),
                user_id=chance.choice((None, "anna", "bob")),
                started_at_ns=START_NS + chance.randrange(2 * 24 * 60 * MINUTE_NS),
                # Whole microseconds: their sums are the same, however they are added.
                duration_ms=chance.randrange(500, 90_000_000) / 1000,
                usage=usage if chance.random() < 0.9 else Usage(),
                cost_nano_usd=chance.choice((None, chance.randrange(10**9))),
                tool_calls=chance.choice((0, 0, 2)),
                tool_names=("search",),
                attempts=chance.choice(((), ("429", "200"))),
                correlation_id=f"cid-{number}",
            )
        )
        if chance.random() < 0.2:
            records.append(
                amendment(f"call-{number}", session_id=session_id, cost_nano_usd=chance.randrange(99))
            )
    return records


@pytest.fixture
def stores(servers: Servers) -> Iterator[dict[str, Store]]:
    """An empty store of each kind that is shared: SQLite, PostgreSQL and ClickHouse."""
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(opened_at(stack.enter_context(place(servers))))()
            for kind, place in SHARED.items()
        }


def shown(store: Store) -> dict[str, str]:
    """The JSON that is shown of a store: of each session, of its calls page by page, of lists and totals."""
    sessions = Sessions(store, lambda: None)
    found: dict[str, str] = {}
    for session_id in (*SESSIONS, semconv.NO_SESSION):
        if session_id is not None:
            summary = sessions.get(session_id)
            assert summary is not None
            found[session_id] = json.dumps(summary.as_dict())
            calls = pages(partial(sessions.history, session_id, limit=60), "calls")
            found[f"calls of {session_id}"] = json.dumps([one.call_id for one in calls])
    found["list"] = json.dumps(pages(partial(sessions.list, 9), "ids"))
    for by in ("cost", "tokens"):
        ranked = pages(partial(sessions.ranked, by, limit=7), "sessions")
        found[by] = json.dumps([one.session_id for one in ranked])
    totals = totals_dict(store, from_s=None, to_s=None, step_s=None, in_flight=0)
    day_s = START_NS / 1e9
    series = totals_dict(store, from_s=day_s, to_s=day_s + 86_400, step_s=3600, in_flight=0)
    return {
        **found,
        "totals": json.dumps(totals, sort_keys=True),
        "series": json.dumps(series, sort_keys=True),
    }


def pages(page: Callable[..., Any], name: str) -> list[Any]:
    """All of a list, page by page."""
    found: list[Any] = []
    cursor = None
    while True:
        one = page(cursor=cursor)
        found += getattr(one, name)
        cursor = one.next
        if cursor is None:
            return found


def test_the_same_json_from_every_store(stores: dict[str, Store]) -> None:
    """Of the same 5,000 calls SQLite, PostgreSQL and ClickHouse show the same, a second delivery included."""
    records = some_records()
    answers = {}
    for kind, store in stores.items():
        for start in range(0, len(records), AT_ONCE):
            store.apply(records[max(start - 20, 0) : start + AT_ONCE])
        answers[kind] = shown(store)
    expected = answers.pop("sqlite")
    assert json.loads(expected["totals"])["events"]["started"] == CALLS
    for kind, answer in answers.items():
        different = [name for name in expected if answer[name] != expected[name]]
        assert (kind, different, answer.keys()) == (kind, [], expected.keys())
