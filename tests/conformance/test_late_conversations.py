"""What every store promises of conversations in which something comes late, comes again, or is far away."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from otel_genapp.ledger import arrivals
from otel_genapp.ledger.conversations import ConversationRow, Happened
from otel_genapp.ledger.settling import WINDOW
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.records import LLMCall, Message, Record
from tests.builders import START_NS
from tests.conformance.stores import Factory
from tests.conformance.test_conversations import ALWAYS, expected_rows, listening, row, rows
from tests.conversing import SECOND_NS, answer, feedback, history, message, outcome

FAR = WINDOW + 100
TELEGRAM = {"platform": "telegram"}


def told(store: Store, records: list[Record], *, by: int = 1) -> None:
    """Let the store have records, some at a time."""
    for start in range(0, len(records), by):
        store.apply(records[start : start + by])


def all_rows(store: Store) -> list[ConversationRow]:
    """Page by page."""
    found: list[ConversationRow] = []
    while page := store.conversations.rows(**ALWAYS, after=found[-1].place if found else None):
        found += page
    return found


def talk(*, turns: int, first: int = 0, **said: Any) -> list[Record]:
    """That many messages, a second apart."""
    return [message(f"m{at_s}", at_s, **said) for at_s in range(first, first + turns)]


def test_lateness_decides_nothing(store: Store) -> None:
    """In sessions of a thousand facts each may come some turns later than its own, and some last of all."""
    records = history(11, sessions=2, turns=550)
    chance = random.Random(11)  # noqa: S311 - repeatable on purpose
    turns = {id(one): turn + chance.randint(0, chance.choice((30, 180))) for turn, one in enumerate(records)}
    turns.update((id(record), 10_000) for record in chance.sample(records, 8))
    left = sorted(records, key=lambda record: turns[id(record)])
    while left:
        size = chance.randint(1, 90) if len(left) > 8 else 1
        store.apply(left[:size])
        del left[:size]
    assert {one.id: one for one in all_rows(store)} == expected_rows(records)


def test_a_late_fact_leaves_what_is_far_as_it_was(store: Store) -> None:
    """Rows at the far end of what is looked at keep what outcomes and feedback beyond it said."""
    records: list[Record] = talk(turns=2 * FAR)
    for at_s in range(4, 2 * FAR, 5):
        records += [
            feedback(f"f{at_s}", at_s + 0.1, csat=3.0),
            outcome(f"o{at_s}", at_s + 0.2, resolved=True, converted=True, intent_correct=True),
        ]
    store.apply(records)
    before = rows(store)
    late = range(2 * FAR - 1, 0, -83)  # what was undone would be put right by one that is further on
    told(store, [feedback(f"late{number}", number + 0.5, nps=7.0) for number in late])
    changed = {one.id for one in rows(store).values() if one != before[one.id]}
    assert changed == {f"m{number}" for number in late}


@pytest.mark.parametrize("number", range(0, 2 * FAR, 97))
def test_a_long_conversation_goes_on_after_a_late_fact(open_store: Factory, number: int) -> None:
    """What was said of it last holds, though the end lies beyond what is looked at."""
    store = open_store()
    store.apply([*talk(turns=2 * FAR), outcome("o", 2 * FAR, resolved=True, escalated=True)])
    store.apply([feedback("late", number + 0.5, csat=2.0), message("late m", number + 0.25)])
    found = rows(store)
    assert {(one.resolved, one.escalated, one.ended_at_ns, one.began_at_ns) for one in found.values()} == {
        (True, True, START_NS + 2 * FAR * SECOND_NS, START_NS)
    }
    assert [one.id for one in found.values() if one.satisfaction_score] == ["late m"]


def test_a_long_conversation_ends_where_it_began(store: Store) -> None:
    """Its first row says what became of it, however many messages later; the next one is another."""
    told(store, talk(turns=2 * FAR), by=100)
    told(store, [message("m-1", -1), message("m-2", -2)])  # from now on it began earlier
    store.apply([outcome("o1", 2 * FAR, converted=True), outcome("o2", 2 * FAR + 1, resolved=True)])
    told(store, talk(turns=FAR, first=3 * FAR), by=100)
    store.apply([outcome("o3", 4 * FAR + 1, abandoned=True)])
    found = rows(store)
    firsts = [one for one in found.values() if one.at_ns == one.began_at_ns]
    assert firsts == [
        row("m-2", -2, converted=True, resolved=True, ended_at_ns=START_NS + (2 * FAR + 1) * SECOND_NS),
        row(
            f"m{3 * FAR}",
            3 * FAR,
            abandoned=True,
            resolved=False,
            ended_at_ns=START_NS + (4 * FAR + 1) * SECOND_NS,
        ),
    ]
    ended = {message_id for message_id, one in found.items() if one.ended_at_ns is not None}
    assert {f"m{number}" for number in range(FAR + 110, 2 * FAR)} <= ended


def test_a_long_conversation_is_two_when_its_end_comes_late(store: Store) -> None:
    """Each has its own first row from then on, and its own end."""
    told(store, talk(turns=3 * FAR), by=100)
    store.apply([outcome("late", FAR - 0.5, resolved=False)])
    store.apply([outcome("o", 3 * FAR, resolved=True)])
    firsts = [one for one in rows(store).values() if one.at_ns == one.began_at_ns]
    assert firsts == [
        row("m0", 0, resolved=False, ended_at_ns=START_NS + round((FAR - 0.5) * SECOND_NS)),
        row(f"m{FAR}", FAR, resolved=True, ended_at_ns=START_NS + 3 * FAR * SECOND_NS),
    ]


def test_what_follows_a_late_end_is_said_of_the_next_conversation(store: Store) -> None:
    """Until then it was said of the one that seemed to go on, whose first row is far back."""
    told(store, talk(turns=FAR), by=100)
    told(store, [outcome("o1", 5.5, converted=True), message("next", FAR + 2)])
    store.apply([outcome("o2", FAR + 3, escalated=True)])
    store.apply([outcome("late", FAR + 1, resolved=True)])
    assert [one for one in rows(store).values() if one.at_ns == one.began_at_ns] == [
        row("m0", 0, converted=True, resolved=True, ended_at_ns=START_NS + (FAR + 1) * SECOND_NS),
        row("next", FAR + 2, escalated=True),
    ]


def test_what_is_about_a_message_far_back_finds_it(store: Store) -> None:
    """By its correlation id, out of its session, out of another one, and out of none."""
    store.apply([message("first", -1, correlation_id="cid"), *talk(turns=FAR)])
    before = rows(store)
    store.apply([feedback("f1", FAR, csat=4.0, correlation_id="cid")])
    store.apply([feedback("f2", FAR + 1, nps=8.0, correlation_id="cid", session_id="s2")])
    store.apply([feedback("f3", FAR + 2, quality=0.5, correlation_id="cid", session_id=None)])
    store.apply([outcome("o1", FAR + 3, intent_correct=True, correlation_id="cid")])
    said = {"satisfaction_score": 4.0, "nps": 8.0, "quality": 0.5, "intent_correct": True}
    assert rows(store) == {**before, "first": row("first", -1, correlation_id="cid", **said)}


@pytest.mark.parametrize("at_s", [0.5, 2.5, 4.5])
def test_feedback_waits_for_its_message(store: Store, at_s: float) -> None:
    """It is the last message's for as long as nobody knows its own, which may come whenever it likes."""
    store.apply([message("m1", 0), message("m2", 1), message("m3", 4)])
    store.apply([feedback("f1", 3, csat=4.0, correlation_id="cid")])
    assert [one.id for one in rows(store).values() if one.satisfaction_score] == ["m2"]
    store.apply([message("late", at_s, correlation_id="cid")])
    assert [one.id for one in rows(store).values() if one.satisfaction_score] == ["late"]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_conversation_ends_once(open_store: Factory, order: tuple[int, ...]) -> None:
    """Who tells of its end again tells nothing new, in whichever order; what else became of it counts."""
    store = open_store()
    happened, _ = listening(store)
    ends = [
        outcome("o1", 10, resolved=True, **TELEGRAM),
        outcome("o2", 20, resolved=True, converted=True, **TELEGRAM),
        outcome("o3", 30, resolved=False, **TELEGRAM),
    ]
    store.apply([message("m1", 0)])
    told(store, [ends[number] for number in order])
    assert sum(one.ended for one in happened) == 1
    assert sorted(one.outcomes for one in happened) == [(), ("resolved",), ("resolved", "converted")]
    ended_at_ns = START_NS + 10 * SECOND_NS
    assert rows(store) == {"m1": row("m1", 0, resolved=False, converted=True, ended_at_ns=ended_at_ns)}


def test_an_end_is_told_of_at_once(store: Store) -> None:
    """Of two in one batch the first ends it; one nobody has told a message of ends once too."""
    happened, _ = listening(store)
    store.apply([message("m1", 0), outcome("o1", 1, resolved=True), outcome("o2", 2, resolved=True)])
    store.apply([outcome(f"p{at_s}", at_s, resolved=True, session_id="s2", **TELEGRAM) for at_s in range(2)])
    resolved: Any = {**TELEGRAM, "outcomes": ("resolved",)}
    assert happened == [
        Happened(ended=True, resolution_s=1.0, **resolved),
        Happened(**resolved),
        Happened(ended=True, **resolved),
        Happened(**resolved),
    ]


def test_what_belongs_to_nothing_is_kept_and_counted(store: Store) -> None:
    """A message without a session and a correlation id is a conversation of its own; the others are nobody's."""
    happened, stored = listening(store)
    alone: Any = {"session_id": None}
    batch: list[Record] = [
        message("m1", 1, **alone),
        message("m2", 2, **alone),
        feedback("f1", 3, csat=1.0, critical=True, **alone),
        outcome("o1", 4, resolved=True, **TELEGRAM, **alone),
    ]
    for _ in range(2):
        store.apply(batch)
    assert rows(store) == {"m1": row("m1", 1, **alone), "m2": row("m2", 2, **alone)}
    assert stored == [4]
    assert happened == [
        Happened(platform="unknown", critical=True),
        Happened(platform="telegram", ended=True, outcomes=("resolved",)),
    ]


PLANTED: dict[str, tuple[Record, ...]] = {
    "claimed later": (
        answer("c1", 1, correlation_id="x"), answer("c2", 2), answer("c3", 3, correlation_id="y"),
        message("m1", 4), message("m2", 5, correlation_id="x"), message("m3", 6),
    ),
    "claimed from no session": (
        answer("c1", 1, correlation_id="x"), answer("c2", 2, session_id=None, correlation_id="x"),
        message("m1", 3), message("m2", 4, correlation_id="x", session_id=None), message("m3", 0),
        feedback("f1", 5, csat=2.0, correlation_id="x"),
    ),
    "claimed from another session": (
        answer("c1", 1, correlation_id="x"), answer("c2", 7), message("m1", 3),
        message("m2", 4, correlation_id="x", session_id="other"), message("m3", 6),
        outcome("o1", 5, intent_correct=True, resolved=True, correlation_id="x"),
    ),
    "shared": (
        answer("c1", 1, correlation_id="x"), answer("c2", 3, correlation_id="x", session_id="other"),
        message("m1", 2, correlation_id="x"), message("m2", 4, correlation_id="x", session_id="other"),
        message("m3", 5), feedback("f1", 2.5, csat=2.0, correlation_id="x", session_id=None),
    ),
}  # fmt: skip
"""Records of which any may come before any other."""


@pytest.mark.parametrize("planted", PLANTED)
def test_each_call_is_one_messages_in_any_order(store: Store, planted: str) -> None:
    """Whichever way they come, the rows are the same, and no call is counted twice or lost."""
    records = PLANTED[planted]
    orders = list(permutations(records))
    if not isinstance(store, MemoryStore):
        number = 150 if isinstance(store, SQLStore) else 24  # the others take seconds for each
        orders = random.Random(5).sample(orders, number)  # noqa: S311 - repeatable on purpose
    orders = [tuple(_in_world(record, number) for record in order) for number, order in enumerate(orders)]
    for turn in range(len(records)):
        store.apply([order[turn] for order in orders])
    found: dict[str, list[ConversationRow]] = {}
    for one in all_rows(store):
        found.setdefault(one.id.split("#")[1], []).append(one)
    results = {_out_of_world(some, number) for number, some in found.items()}
    assert len(found) == len(orders)
    assert len(results) == 1
    calls = sum(isinstance(record, LLMCall) for record in records)
    assert sum(one.llm_calls for one in results.pop()) == calls


def _in_world(record: Record, number: int) -> Record:
    """The record with ids of its own."""
    names = ("id", "call_id", "session_id", "correlation_id", "user_id")
    said = {name: getattr(record, name, None) for name in names}
    changes: Any = {name: f"{text}#{number}" for name, text in said.items() if text is not None}
    return replace(record, **changes)


def _out_of_world(found: list[ConversationRow], number: str) -> tuple[ConversationRow, ...]:
    """The rows without them."""
    made = []
    for one in sorted(found, key=lambda one: one.at_ns):
        said = {name: getattr(one, name) for name in ("id", "session_id", "correlation_id", "user_id")}
        changes: Any = {
            name: text.removesuffix(f"#{number}") for name, text in said.items() if text is not None
        }
        made.append(replace(one, **changes))
    return tuple(made)


def test_calls_without_an_id_are_the_sessions(store: Store) -> None:
    """Whether they have a correlation id of their own or none at all."""
    store.apply([answer("c1", 1), message("m1", 2)])
    store.apply([answer("c2", 3), message("m2", 4), answer("c3", 5, session_id="s2"), answer("c4", 6)])
    assert {one.id: (one.llm_calls, one.tokens_used) for one in rows(store).values()} == {
        "m1": (1, 120),
        "m2": (2, 240),
    }


def test_of_too_many_calls_the_last_are_added_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages so far back that their calls are not looked at keep what they have."""
    monkeypatch.setattr(arrivals, "USAGE_LIMIT", 6)
    for at_s in range(0, 20, 2):
        store.apply([answer(f"c{at_s}", at_s), answer(f"d{at_s}", at_s + 0.5), message(f"m{at_s}", at_s + 1)])
    store.apply([message("late", 3.25)])
    assert {one.id: one.llm_calls for one in rows(store).values() if one.id != "late"} == {
        f"m{at_s}": 2 for at_s in range(0, 20, 2)
    }


@pytest.mark.parametrize("by", [1, 10])
def test_a_repeated_contact_is_seen_without_the_user_of_the_outcome(store: Store, by: int) -> None:
    """Whoever tells of an end may not know who it was; the messages say it."""
    happened, _ = listening(store, repeat_s=100)
    records: list[Record] = [
        message("m1", 1, session_id="a"),
        outcome("o1", 2, session_id="a", user_id=None, resolved=True),
        message("m2", 90, session_id="b"),
        message("m3", 90, session_id="c", user_id="u2"),
        message("m4", 300, session_id="d"),
    ]
    told(store, records, by=by)
    assert [one for one in happened if one.repeat] == [Happened(platform="telegram", repeat=True)]


def test_messages_of_one_moment_are_one_conversation(store: Store) -> None:
    """Which of them comes first is said by their ids, whichever way they come."""
    both: list[Message] = [message("b", 1), message("a", 1)]
    told(store, [*both, outcome("o", 1, resolved=True)])
    assert {(one.began_at_ns, one.resolved) for one in rows(store).values()} == {(START_NS + SECOND_NS, True)}
