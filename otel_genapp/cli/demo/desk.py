"""The business side of the demo's chat: what customers want, what they thought, and how it ended."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from otel_genapp import bind, record_feedback, record_message, record_outcome

PLATFORM = "web"
_INTENTS = (
    ("order", "order_status", 0.97),
    ("compare", "comparison", 0.82),
    ("shoes", "product_search", 0.93),
    ("jacket", "product_search", 0.91),
    ("hat", "product_search", 0.9),
    ("tent", "product_search", 0.88),
    ("pay", "payment", 0.74),
    ("returns", "returns", 0.95),
    ("thank", "thanks", 0.99),
)


class Opinion(BaseModel):
    """What a customer sends to `/feedback` at the end."""

    session: str
    csat: int | None = None
    nps: int | None = None
    quality: float | None = None
    comment: str = ""
    platform: str | None = None  # whose message it was about, unless the customer says so


class Ending(BaseModel):
    """What the shop's system sends to `/close`."""

    session: str
    resolved: bool
    converted: bool = False
    escalated: bool = False
    intent_correct: bool | None = None


def customer_of(session: str) -> str:
    """Whose session it is: `ada` of `ada-1`."""
    return session.rpartition("-")[0]


def note(message: str) -> None:
    """Record the message that is being handled, with what a classifier of few words makes of it."""
    text = message.lower()
    for word, intent, confidence in _INTENTS:
        if word in text:
            record_message(PLATFORM, intent, confidence=confidence)
            return
    record_message(PLATFORM, "small_talk", confidence=0.6)


def add_desk(app: FastAPI) -> None:
    """Add the endpoints for feedback and endings."""

    @app.post("/feedback")
    def feedback(opinion: Opinion) -> dict[str, str]:
        with bind(session_id=opinion.session, user_id=customer_of(opinion.session)):
            record_feedback(
                opinion.csat,
                opinion.nps,
                quality=opinion.quality,
                comment=opinion.comment,
                platform=opinion.platform,
            )
        return {"thanks": opinion.session}

    @app.post("/close")
    def close(ending: Ending) -> dict[str, str]:
        with bind(session_id=ending.session, user_id=customer_of(ending.session)):
            record_outcome(
                resolved=ending.resolved,
                converted=ending.converted,
                escalated=ending.escalated,
                intent_correct=ending.intent_correct,
            )
        return {"closed": ending.session}
