"""Conversations as stores keep them: one row for each message, settled from all that is known of it.

A conversation is the messages of a session up to the outcome that ends it; the next message begins
another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from otel_genapp.records import ConversationRecord, Feedback, Outcome

PAGE = 1000

Place = tuple[int, str]
"""Where a row stands in the order of time: (at_ns, id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRow:
    """A row of `conversation_metrics`: a message, and what is known of it by now. None: nobody said."""

    id: str
    at_ns: int
    user_id: str | None = None
    session_id: str | None = None
    correlation_id: str | None = None
    platform: str = "unknown"
    intent: str = "unknown"
    confidence: float | None = None
    response_time_ms: float | None = None
    """What the application said, else from the start of its first LLM call to the end of its last."""
    llm_calls: int = 0
    """LLM calls with its correlation id that ended after the message before it there."""
    tokens_used: int | None = None
    """Input and output tokens of those calls; None where there were none or nobody reported any."""
    cost_nano_usd: int | None = None
    """None where there were no calls, or one of them has no price."""
    satisfaction_score: float | None = None
    """CSAT, 1 to 5."""
    nps: float | None = None
    quality: float | None = None
    critical: bool = False
    intent_correct: bool | None = None
    resolved: bool | None = None
    escalated: bool | None = None
    converted: bool | None = None
    abandoned: bool | None = None
    began_at_ns: int = 0
    """When the first message of its conversation came; with the session it names the conversation."""
    ended_at_ns: int | None = None
    """When the conversation ended; None while it goes on."""

    @property
    def place(self) -> Place:
        """Where it stands in the order of time."""
        return self.at_ns, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What new records made of conversations, as it is counted once they are stored."""

    platform: str
    ended: bool = False
    outcomes: tuple[str, ...] = ()
    resolution_s: float | None = None
    repeat: bool = False
    critical: bool = False
    intents: tuple[tuple[str, bool], ...] = ()
    """(intent, whether it was right) of recognised intents that were confirmed or corrected."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears what new records made happen, each exactly once over all processes, after they are stored."""

    tell: Callable[[Happened], None]
    stored: Callable[[int], None]
    """Hears how many records of conversations were new."""
    repeat_ns: int
    """How soon after the end of a conversation another one of the same person is a repeated contact."""


def ignore() -> Listener:
    """Nobody."""
    return Listener(lambda _happened: None, lambda _number: None, 0)


@dataclass(frozen=True, slots=True)
class News:
    """What a batch of records brought: how many were new, and what they made happen."""

    facts: int = 0
    happened: tuple[Happened, ...] = ()

    def tell(self, listener: Listener) -> None:
        """Say it; after it is stored."""
        if self.facts:
            listener.stored(self.facts)
        for one in self.happened:
            listener.tell(one)


class Conversations(Protocol):
    """Reading what a store keeps of conversations. Times are UTC nanoseconds, `to_ns` is not included.

    Pages are in the order of time; the next one begins `after` the place of the last row.
    """

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on what new records make happen."""

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        """A page of rows whose messages came in that time."""

    def count(self, *, from_ns: int, to_ns: int) -> int:
        """How many rows that are."""

    def facts(
        self, kind: type[Feedback | Outcome], *, from_ns: int, to_ns: int, after: Place | None = None
    ) -> tuple[ConversationRecord, ...]:
        """A page, of at most 1000, of the feedback or the outcomes recorded in that time."""
