"""A quarter of conversations made by a seed: the records as they are applied, and what was said as plain rows.

It covers both changes of the clocks in Europe/Berlin when it begins in March and October; feedback and
outcomes come up to days late, and everything arrives in an order of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from otel_genapp.records import ConversationRecord, Feedback, LLMCall, Message, Outcome, Usage

BERLIN = ZoneInfo("Europe/Berlin")
INTENTS = ("order_status", "refund", "small_talk", "unknown")
PLATFORMS = ("telegram", "web")
MODELS = (("openai", "gpt-5"), ("anthropic", "claude-sonnet-5"))
SECOND_NS = 10**9


@dataclass
class Made:
    """Records, and the same as rows without any of ours: messages, conversations, feedback, calls."""

    records: list[ConversationRecord | LLMCall] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    conversations: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)


def make_quarter(first: datetime, days: int, *, seed: int = 7, busy: int = 14) -> Made:
    """About `busy` conversations on each of `days` days from local midnight on, around the clock."""
    chance, made = random.Random(seed), Made()  # noqa: S311 - made-up rows
    for number in range(days):
        midnight = first + timedelta(days=number)
        weekend = 0.5 if midnight.weekday() >= 5 else 1.0
        for _ in range(max(round(chance.gauss(busy * weekend, 2)), 1)):
            # In UTC, so that the hour that comes twice has its own.
            begin_ns = int(midnight.timestamp()) * SECOND_NS + chance.randrange(86_400 * SECOND_NS)
            _converse(made, chance, begin_ns=begin_ns)
    chance.shuffle(made.records)
    return made


def _converse(made: Made, chance: random.Random, *, begin_ns: int) -> None:
    key = f"c{len(made.conversations)}"
    user = f"u{chance.randrange(400)}" if chance.random() < 0.95 else None
    platform = chance.choice(PLATFORMS)
    at_ns = begin_ns
    for turn in range(chance.randint(1, 5)):
        cid = f"{key}-{turn}"
        _message(made, chance, at_ns=at_ns, cid=cid, session=key, user=user, platform=platform)
        if chance.random() < 0.2:
            _rate(made, chance, at_ns=at_ns, cid=cid, session=key)
        at_ns += chance.randint(20, 600) * SECOND_NS
    said: dict[str, Any] = dict.fromkeys(("resolved", "escalated", "converted", "abandoned"))
    ended_ns = None
    if chance.random() < 0.9:
        late_ns = chance.randrange(4 * 86_400) * SECOND_NS if chance.random() < 0.15 else 30 * SECOND_NS
        ended_ns = at_ns + late_ns
        said["abandoned"] = chance.random() < 0.15
        said["resolved"] = not said["abandoned"] and chance.random() < 0.7
        said["escalated"] = chance.random() < 0.1
        said["converted"] = chance.random() < 0.2
        made.records.append(Outcome(id=f"o-{key}", at_ns=ended_ns, session_id=key, user_id=user, **said))
    made.conversations.append({
        "key": key, "user": user, "began_ns": begin_ns, "ended_ns": ended_ns, "platform": platform, **said,
    })  # fmt: skip


def _message(
    made: Made, chance: random.Random, *, at_ns: int, cid: str, session: str, user: str | None, platform: str
) -> None:
    intent = chance.choice(INTENTS)
    confidence = None if intent == "unknown" else round(chance.uniform(0.4, 1), 3)
    made.records.append(
        Message(
            id=f"m-{cid}", at_ns=at_ns, platform=platform, intent=intent, confidence=confidence, user_id=user,
            session_id=session, correlation_id=cid,
        )
    )  # fmt: skip
    cost, took_ms = 0, 0.0
    ended_ns = at_ns - 5_000_000
    usage = Usage(
        input=chance.randint(200, 3000), output=chance.randint(10, 800), cache_read=chance.randint(0, 200)
    )
    provider, model = chance.choice(MODELS)
    took_ms = float(chance.randint(80, 9000))
    cost = chance.randint(10_000, 9_000_000)
    failed = chance.random() < 0.04
    started_ns = ended_ns - round(took_ms * 1e6)
    made.records.append(
        LLMCall(
            call_id=f"call-{cid}", started_at_ns=started_ns, duration_ms=took_ms, provider=provider, model=model,
            usage=usage, cost_nano_usd=cost, status="fail" if failed else "success", session_id=session,
            correlation_id=cid, user_id=user,
        )
    )  # fmt: skip
    made.messages.append({
        "at_ns": at_ns, "user": user, "platform": platform, "intent": intent, "confidence": confidence,
        "took_ms": took_ms, "tokens": (usage.input or 0) + (usage.output or 0), "cost_nano": cost, "cid": cid,
    })  # fmt: skip
    made.calls.append({
        "ended_ns": ended_ns, "model": model, "failed": failed, "input": usage.input, "output": usage.output,
        "cached": usage.cache_read, "cost_nano": cost,
    })  # fmt: skip
    if chance.random() < 0.3 and intent != "unknown":
        right = chance.random() < 0.8
        made.messages[-1]["right"] = right
        late_ns = chance.randrange(2 * 86_400) * SECOND_NS
        # It says nothing of an end, so the conversation goes on.
        made.records.append(
            Outcome(
                id=f"i-{cid}",
                at_ns=at_ns + late_ns,
                session_id=session,
                correlation_id=cid,
                intent_correct=right,
            )
        )


def _rate(made: Made, chance: random.Random, *, at_ns: int, cid: str, session: str) -> None:
    late_ns = chance.randrange(3 * 86_400) * SECOND_NS if chance.random() < 0.3 else 15 * SECOND_NS
    said = {
        "csat": chance.choice((None, 1.0, 2.0, 3.0, 4.0, 5.0)),
        "nps": chance.choice((None, *map(float, range(11)))),
        "quality": chance.choice((None, round(chance.random(), 2))),
        "critical": chance.random() < 0.1,
    }
    made.records.append(
        Feedback(id=f"f-{cid}", at_ns=at_ns + late_ns, session_id=session, correlation_id=cid, **said)  # type: ignore[arg-type]
    )
    made.feedback.append({"at_ns": at_ns + late_ns, **said})
