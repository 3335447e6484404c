"""Conversations as people and programs read them: the rows of `conversation_metrics`."""

from __future__ import annotations

from collections.abc import Callable

from otel_genapp.ledger.conversations import PAGE, ConversationRow, Conversations, Place
from otel_genapp.records import ConversationRecord, Feedback, Outcome


class ConversationRows:
    """What is known of messages and what became of them, exact at the moment of asking.

    Times are UTC nanoseconds since the epoch, `to_ns` is not included.
    """

    def __init__(self, conversations: Conversations, catch_up: Callable[[], None]) -> None:
        self._conversations = conversations
        self._catch_up = catch_up

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        """A page of messages in the order of time; the next one begins `after` the place of the last."""
        if after is None:  # a page that continues another is of the same moment, more or less
            self._catch_up()
        return self._conversations.rows(from_ns=from_ns, to_ns=to_ns, after=after, limit=limit)

    def count(self, *, from_ns: int, to_ns: int) -> int:
        """How many messages came in that time."""
        self._catch_up()
        return self._conversations.count(from_ns=from_ns, to_ns=to_ns)

    def facts(
        self, kind: type[Feedback | Outcome], *, from_ns: int, to_ns: int, after: Place | None = None
    ) -> tuple[ConversationRecord, ...]:
        """A page of the feedback or the outcomes recorded in that time."""
        if after is None:
            self._catch_up()
        return self._conversations.facts(kind, from_ns=from_ns, to_ns=to_ns, after=after)
