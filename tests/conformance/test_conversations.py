"""What every store promises of conversations."""

from __future__ import annotations

import random
from typing import Any

import pytest

from otel_genapp.ledger.conversations import ConversationRow, Happened, Listener
from otel_genapp.ledger.store import Store
from otel_genapp.records import Feedback, LLMCall, Message, Outcome, Record, Usage
from tests.builders import START_NS, amendment
from tests.conformance.stores import Factory
from tests.conversing import SECOND_NS, answer, feedback, history, message, outcome

ALWAYS: Any = {"from_ns": 0, "to_ns": 2**62}


def rows(store: Store) -> dict[str, ConversationRow]:
    return {row.id: row for row in store.conversations.rows(**ALWAYS)}


def row(message_id: str = "m1", at_s: float = 0, **said: object) -> ConversationRow:
    """The row of a message as `conversing.message` makes it."""
    at_ns = START_NS + round(at_s * SECOND_NS)
    plain = {
        "session_id": "s1", "user_id": "u1", "platform": "telegram", "intent": "order", "began_at_ns": at_ns,
    }  # fmt: skip
    return ConversationRow(id=message_id, at_ns=at_ns, **{**plain, **said})  # type: ignore[arg-type]


def listening(store: Store, *, repeat_s: int = 3600) -> tuple[list[Happened], list[int]]:
    """What the store tells from now on: what happened, and how many facts were new."""
    happened: list[Happened] = []
    stored: list[int] = []
    store.conversations.listen(Listener(happened.append, stored.append, repeat_s * SECOND_NS))
    return happened, stored


def test_a_message_takes_its_calls(store: Store) -> None:
    """Tokens, cost and time are those of the calls with its correlation id, whichever comes first."""
    store.apply([answer("c1", 1, correlation_id="cid"), message("m1", 2, correlation_id="cid")])
    store.apply([answer("c2", 1.5, correlation_id="cid"), answer("c3", 1.5, correlation_id="another")])
    assert rows(store) == {
        "m1": row(
            "m1",
            2,
            correlation_id="cid",
            llm_calls=2,
            tokens_used=240,
            cost_nano_usd=2000,
            response_time_ms=1500.0,
        )
    }


def test_amendments_count(store: Store) -> None:
    """What becomes known of a call later is the message's as well."""
    store.apply([message("m1", 2, correlation_id="cid"), answer("c1", 1, correlation_id="cid")])
    store.apply([amendment("c1", correlation_id="cid", usage=Usage(input=7), cost_nano_usd=5)])
    found = rows(store)["m1"]
    assert (found.llm_calls, found.tokens_used, found.cost_nano_usd) == (1, 127, 1005)


def test_what_nobody_said_is_unknown(store: Store) -> None:
    """No calls, no tokens, no price: None and not 0; a time the application says wins."""
    store.apply([
        message("m1", 1, correlation_id="a"),
        message("m2", 2, correlation_id="b", response_time_ms=12.5),
        answer("c2", 2, correlation_id="b", usage=Usage(), cost_nano_usd=None),
    ])  # fmt: skip
    assert rows(store) == {
        "m1": row("m1", 1, correlation_id="a"),
        "m2": row(
            "m2", 2, correlation_id="b", llm_calls=1, response_time_ms=12.5, began_at_ns=START_NS + SECOND_NS
        ),
    }


def test_calls_are_divided_among_the_messages_of_one_id(store: Store) -> None:
    """Each call is one message's: the next one's after its end, or the last one's."""
    said = {"correlation_id": "cid"}
    store.apply([message("m1", 10, **said), message("m2", 20, **said)])
    store.apply([answer(f"c{at_s}", at_s, **said) for at_s in (5, 10, 15, 25)])
    assert {one.id: one.llm_calls for one in rows(store).values()} == {"m1": 2, "m2": 2}


def test_messages_without_an_id_take_the_sessions_calls(store: Store) -> None:
    """In a script no span holds them together: the session does, but for calls other messages claim."""
    store.apply([
        answer("c1", 1, correlation_id="own1"), message("m1", 2),
        answer("c2", 3, correlation_id="cid"), message("m2", 4, correlation_id="cid"),
        message("m3", 6),
    ])  # fmt: skip
    store.apply(
        [answer("c3", 5, correlation_id="own3"), answer("c4", 5, session_id="s2", correlation_id="own4")]
    )
    assert {one.id: one.llm_calls for one in rows(store).values()} == {"m1": 1, "m2": 1, "m3": 1}


def test_feedback_finds_its_message(store: Store) -> None:
    """By the correlation id, also without a session; else it is the last message before it."""
    store.apply([message("m1", 1, correlation_id="a"), message("m2", 2, correlation_id="b")])
    store.apply([
        feedback("f1", 3, csat=5.0, correlation_id="a"),
        feedback("f2", 4, csat=2.0, nps=3.0, critical=True),
        feedback("f3", 5, quality=0.5, correlation_id="a", session_id=None),
        feedback("f4", 6, nps=9.0, correlation_id="nobody's"),
    ])  # fmt: skip
    found = rows(store)
    assert (found["m1"].satisfaction_score, found["m1"].quality, found["m1"].critical) == (5.0, 0.5, False)
    assert (found["m2"].satisfaction_score, found["m2"].nps, found["m2"].critical) == (2.0, 9.0, True)


def test_an_outcome_ends_a_conversation(store: Store) -> None:
    """Every message up to it has it; the next message begins another conversation."""
    store.apply(
        [
            message("m1", 1),
            message("m2", 2),
            outcome("o1", 3, escalated=True),
            outcome("o2", 4, resolved=False),
        ]
    )
    store.apply([message("m3", 5), outcome("o3", 6, converted=True), message("m4", 7)])
    began, ended = START_NS + SECOND_NS, START_NS + 4 * SECOND_NS
    first = {"began_at_ns": began, "ended_at_ns": ended, "escalated": True, "resolved": False}
    again = {"began_at_ns": START_NS + 5 * SECOND_NS}
    assert rows(store) == {
        "m1": row("m1", 1, **first),
        "m2": row("m2", 2, **first),
        "m3": row("m3", 5, **again, converted=True),
        "m4": row("m4", 7, **again, converted=True),
    }


def test_a_late_message_is_as_if_it_had_come_in_time(store: Store) -> None:
    """Arrival decides nothing: times do."""
    store.apply([message("m2", 5), outcome("o1", 10, resolved=True), message("m3", 11)])
    store.apply([message("m1", 1)])
    began = START_NS + SECOND_NS
    ended = START_NS + 10 * SECOND_NS
    assert {one.id: (one.began_at_ns, one.ended_at_ns, one.resolved) for one in rows(store).values()} == {
        "m1": (began, ended, True),
        "m2": (began, ended, True),
        "m3": (START_NS + 11 * SECOND_NS, None, None),
    }


def test_what_happened_is_told_once(open_store: Factory) -> None:
    """Each new record is told once, after it is stored; a record that comes again is not told."""
    store = open_store()
    happened, stored = listening(store)
    batch: list[Record] = [
        message("m1", 1, intent="order", correlation_id="a"),
        message("m2", 2, intent="pay"),
        feedback("f1", 3, csat=1.0, critical=True),
        outcome("o1", 4, intent_correct=False, intent="refund", correlation_id="a"),
        outcome("o2", 11, resolved=True, converted=True),
        message("m3", 12),
    ]
    store.apply(batch)
    store.apply(batch)
    assert stored == [6]
    assert happened == [
        Happened(platform="telegram", critical=True),
        Happened(platform="telegram", intents=(("order", False),)),
        Happened(platform="telegram", ended=True, outcomes=("resolved", "converted"), resolution_s=10.0),
        Happened(platform="telegram", repeat=True),
    ]


def test_a_repeated_contact_is_the_users(store: Store) -> None:
    """It is one in another session too, within the time that was said, and only after an end."""
    happened, _ = listening(store, repeat_s=100)
    store.apply([message("m1", 1, session_id="a"), outcome("o1", 2, session_id="a", abandoned=True)])
    store.apply([message("m2", 90, session_id="b"), message("m3", 95, session_id="b")])
    store.apply([message("m4", 95, session_id="c", user_id="u2"), message("m5", 200, session_id="d")])
    assert [one for one in happened if one.repeat] == [Happened(platform="telegram", repeat=True)]


def test_order_and_batches_decide_nothing(open_store: Factory) -> None:
    """A random history comes out the same in any order and any batches, twice over."""
    records = history(7)
    chance = random.Random(3)  # noqa: S311 - as above
    expected = expected_rows(records)
    shuffled = [*records, *records]
    chance.shuffle(shuffled)
    store = open_store()
    while shuffled:
        size = chance.randint(1, 40)
        store.apply(shuffled[:size])
        del shuffled[:size]
    assert rows(store) == expected
    facts = [record for record in records if isinstance(record, Feedback | Outcome)]
    assert [
        fact.id for kind in (Feedback, Outcome) for fact in store.conversations.facts(kind, **ALWAYS)
    ] == [fact.id for kind in (Feedback, Outcome) for fact in facts if isinstance(fact, kind)]
    assert store.conversations.count(**ALWAYS) == len(expected)


def test_a_long_session_comes_out_right(store: Store) -> None:
    """However many messages there are, in one batch or in many: where they come in time, all is said of each."""
    records = history(5, sessions=2, turns=350)
    expected = expected_rows(records)
    chance = random.Random(3)  # noqa: S311 - as above
    first, left = records[: len(records) // 2], records[len(records) // 2 :]
    store.apply(first)
    while left:
        size = chance.randint(1, 100)
        store.apply(left[:size])
        del left[:size]
    assert rows(store) == expected


def expected_rows(records: list[Record]) -> dict[str, ConversationRow]:
    """The rows by the words of the promise: for each message everything is searched anew."""
    messages = [record for record in records if isinstance(record, Message)]
    about_of = {fact.id: meant(fact, messages) for fact in records if isinstance(fact, Feedback | Outcome)}
    owner_of = {one.call_id: owner(one, messages) for one in records if isinstance(one, LLMCall)}
    found = {}
    for one in messages:
        facts = [record for record in records if belongs(record, one)]
        ends = [fact.at_ns for fact in facts if isinstance(fact, Outcome) and fact.ends]
        before = max((end for end in ends if end < one.at_ns), default=-1)
        ended = min((end for end in ends if end >= one.at_ns), default=None)
        group = [m for m in messages if belongs(m, one) and m.at_ns > before and m.at_ns <= (ended or 2**62)]
        fate: dict[str, bool | None] = {
            "escalated": None,
            "converted": None,
            "resolved": None,
            "abandoned": None,
        }
        last_of_group = max(m.at_ns for m in group)
        following = min(
            (m.at_ns for m in messages if belongs(m, one) and m.at_ns > last_of_group), default=2**62
        )
        for fact in facts:
            if isinstance(fact, Outcome) and group[0].at_ns <= fact.at_ns < following:
                for kind in ("escalated", "converted", "abandoned"):
                    fate[kind] = getattr(fact, kind) if getattr(fact, kind) is not None else fate[kind]
                if fact.ends:
                    fate["resolved"] = bool(fact.resolved)
        about = [
            fact for fact in facts if isinstance(fact, Feedback | Outcome) and about_of[fact.id] == one.id
        ]
        taken = [
            record for record in records if isinstance(record, LLMCall) and owner_of[record.call_id] == one.id
        ]
        priced = [record.cost_nano_usd for record in taken if record.cost_nano_usd is not None]
        found[one.id] = ConversationRow(
            id=one.id, at_ns=one.at_ns, user_id=one.user_id, session_id=one.session_id,
            correlation_id=one.correlation_id, platform=one.platform, intent=one.intent,
            llm_calls=len(taken),
            tokens_used=sum((r.usage.input or 0) + (r.usage.output or 0) for r in taken) if taken else None,
            cost_nano_usd=sum(priced) if taken and len(priced) == len(taken) else None,
            response_time_ms=(max(r.ended_at_ns for r in taken) - min(r.started_at_ns for r in taken)) / 1e6 if taken else None,
            satisfaction_score=next((f.csat for f in reversed(about) if isinstance(f, Feedback) and f.csat), None),
            critical=any(isinstance(f, Feedback) and f.critical for f in about),
            intent_correct=next((f.intent_correct for f in reversed(about) if isinstance(f, Outcome) and f.intent_correct is not None), None),
            began_at_ns=min(m.at_ns for m in group), ended_at_ns=ended, **fate,
        )  # fmt: skip
    return found


def belongs(record: Record, one: Message) -> bool:
    """Whether a fact is of the session of a message, or of its correlation id where there is no session."""
    if one.session_id is None:
        return record.session_id is None and record.correlation_id == one.correlation_id
    return record.session_id == one.session_id


def meant(fact: Feedback | Outcome, messages: list[Message]) -> str | None:
    """The message a fact is about."""
    mine = [one for one in messages if belongs(fact, one) and one.at_ns <= fact.at_ns]
    named = [
        one for one in mine if fact.correlation_id is not None and one.correlation_id == fact.correlation_id
    ]
    found = named or mine
    return found[-1].id if found else None


def owner(record: LLMCall, messages: list[Message]) -> str | None:
    """The message that took a call."""
    mine = [
        one
        for one in messages
        if one.correlation_id is not None and one.correlation_id == record.correlation_id
    ]
    if not mine:
        mine = [one for one in messages if one.correlation_id is None and one.session_id == record.session_id]
    ended_ns = record.ended_at_ns
    return next((one.id for one in mine if one.at_ns >= ended_ns), mine[-1].id if mine else None)


def test_pages_and_times(store: Store) -> None:
    """Rows come in the order of time, page by page, of the time that was asked for."""
    store.apply([message(f"m{number}", number // 2) for number in range(9)])
    said: Any = {"from_ns": START_NS + SECOND_NS, "to_ns": START_NS + 4 * SECOND_NS}
    first = store.conversations.rows(**said, limit=4)
    second = store.conversations.rows(**said, limit=4, after=first[-1].place)
    assert [one.id for one in (*first, *second)] == ["m2", "m3", "m4", "m5", "m6", "m7"]
    assert store.conversations.count(**said) == 6


def test_clearing_a_session_removes_its_conversations(store: Store) -> None:
    """Its rows and facts are gone, and do not come back with a record that comes again."""
    happened, stored = listening(store)
    batch: list[Record] = [message("m1", 1), feedback("f1", 2, csat=4.0), message("m2", 1, session_id="s2")]
    store.apply(batch)
    assert store.clear("s1")
    store.apply(batch)
    assert list(rows(store)) == ["m2"]
    assert store.conversations.facts(Feedback, **ALWAYS) == ()
    assert (happened, stored) == ([], [3])


def test_old_conversations_age_out(store: Store) -> None:
    """What is older than the time that was said goes; the rest stays."""
    store.apply([message("m1", 1), feedback("f1", 2, csat=4.0), message("m2", 3 * 86_400)])
    store.tidy(before_ns=START_NS + 2 * 86_400 * SECOND_NS)
    assert list(rows(store)) == ["m2"]
    assert store.conversations.facts(Feedback, **ALWAYS) == ()


@pytest.mark.parametrize("text", ["o'brien\0\ud800", "🙂" * 300, "\x01#", ""])
def test_texts_of_any_kind(store: Store, text: str) -> None:
    """Ids and names are kept as they are, a long one as its beginning."""
    store.apply(
        [
            message(
                "m1", 1, platform=text or "p", intent=text or "i", session_id=text or None, correlation_id="c"
            )
        ]
    )
    found = rows(store)["m1"]
    if len(text) <= 256:
        assert (found.platform, found.intent, found.session_id) == (text or "p", text or "i", text or None)
    else:
        assert found.platform[:64] == text[:64]
