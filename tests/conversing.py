"""Facts of conversations, made short, and a random history of many sessions."""

from __future__ import annotations

import random
from typing import Any

from otel_genapp.records import ConversationRecord, Feedback, LLMCall, Message, Outcome, Record, Usage
from tests.builders import START_NS, call

SECOND_NS = 10**9


def message(fact_id: str = "m1", at_s: float = 0, **said: Any) -> Message:
    """A message in session `s1` on Telegram, but for what is said."""
    plain: dict[str, Any] = {"platform": "telegram", "intent": "order", "session_id": "s1", "user_id": "u1"}
    return Message(id=fact_id, at_ns=START_NS + round(at_s * SECOND_NS), **{**plain, **said})


def feedback(fact_id: str = "f1", at_s: float = 0, **said: Any) -> Feedback:
    """Feedback in session `s1`."""
    return Feedback(
        id=fact_id, at_ns=START_NS + round(at_s * SECOND_NS), **{"session_id": "s1", "user_id": "u1", **said}
    )


def outcome(fact_id: str = "o1", at_s: float = 0, **said: Any) -> Outcome:
    """An outcome in session `s1`."""
    return Outcome(
        id=fact_id, at_ns=START_NS + round(at_s * SECOND_NS), **{"session_id": "s1", "user_id": "u1", **said}
    )


def answer(call_id: str = "c1", at_s: float = 0, **said: Any) -> LLMCall:
    """A call of one second that ends then: 100 tokens in and 20 out for 1,000 nano-dollars."""
    plain = {"started_at_ns": START_NS + round((at_s - 1) * SECOND_NS), "cost_nano_usd": 1000}
    return call(call_id, **{**plain, **said})


def history(seed: int, *, sessions: int = 12, turns: int = 8) -> list[Record]:
    """What happened in many sessions, in the order of its happening; no two things at one time."""
    chance = random.Random(seed)  # noqa: S311 - a history, no secret
    records: list[Record] = []
    for number in range(sessions):
        session_id = f"s{number}" if number else None
        at_s = number * 0.01
        for turn in range(turns):
            at_s += chance.uniform(1, 50)
            correlation_id = f"cid-{number}-{turn}" if session_id is None or chance.random() < 0.8 else None
            said: dict[str, Any] = {"session_id": session_id, "correlation_id": correlation_id}
            records += [
                answer(
                    f"call-{number}-{turn}-{part}",
                    at_s + part * 0.1,
                    **{**said, "correlation_id": correlation_id or f"own-{number}-{turn}-{part}"},
                    usage=Usage(input=chance.randrange(1000), output=chance.randrange(100)),
                    cost_nano_usd=chance.randrange(10_000) if chance.random() < 0.9 else None,
                )
                for part in range(chance.randrange(3))
            ]
            platform = chance.choice(["telegram", "web"])
            records.append(message(f"m-{number}-{turn}", at_s + 0.5, platform=platform, **said))
            records += _reactions(chance, f"{number}-{turn}", at_s=at_s + 0.6, said=said)
    return sorted(records, key=_at_ns)


def _reactions(
    chance: random.Random, name: str, *, at_s: float, said: dict[str, Any]
) -> list[ConversationRecord]:
    found: list[ConversationRecord] = []
    if chance.random() < 0.4:
        found.append(
            feedback(f"f-{name}", at_s, csat=chance.randint(1, 5), critical=chance.random() < 0.3, **said)
        )
    if chance.random() < 0.4:
        flags: dict[str, Any] = {
            kind: chance.choice([True, False, None]) for kind in ("resolved", "escalated", "converted")
        }
        found.append(
            outcome(f"o-{name}", at_s + 0.1, intent_correct=chance.choice([True, None]), **flags, **said)
        )
    return found


def _at_ns(record: Record) -> int:
    return record.ended_at_ns if isinstance(record, LLMCall) else record.at_ns
