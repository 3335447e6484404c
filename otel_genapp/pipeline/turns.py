"""What the LLM calls of each turn of a conversation have taken so far, for the log event of its message.

The rows of the ledger are exact; this is what one process knows at the moment a message is folded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from otel_genapp.records import LLMCall, Message, UsageRecord

TURNS_KEPT = 10_000


@dataclass(slots=True)
class Turn:
    """Sums over the calls with one correlation id since its last message."""

    tokens: int | None = None
    cost_nano_usd: int | None = 0
    """None once a call has no price."""
    started_at_ns: int | None = None
    ended_at_ns: int = 0

    def add(self, record: UsageRecord) -> None:
        """Add one record."""
        for number in (record.usage.input, record.usage.output):
            if number is not None:
                self.tokens = (self.tokens or 0) + number
        if record.unpriced:
            self.cost_nano_usd = None
        elif self.cost_nano_usd is not None:
            self.cost_nano_usd += record.cost_nano_usd or 0
        if isinstance(record, LLMCall):
            began_ns = record.started_at_ns
            self.started_at_ns = began_ns if self.started_at_ns is None else min(began_ns, self.started_at_ns)
            self.ended_at_ns = max(self.ended_at_ns, record.ended_at_ns)

    @property
    def elapsed_ms(self) -> float | None:
        """From the start of the first call to the end of the last; None without any."""
        return None if self.started_at_ns is None else (self.ended_at_ns - self.started_at_ns) / 1e6

    @property
    def cost_usd(self) -> float | None:
        """What they cost; None without any, or where one has no price."""
        if self.started_at_ns is None or self.cost_nano_usd is None:
            return None
        return self.cost_nano_usd / 1e9


class Turns:
    """The last 10,000 turns, by correlation id or, where a message has none, by session."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, str], Turn] = OrderedDict()

    def add(self, record: UsageRecord) -> None:
        """Add a priced record to its turn."""
        for kind, key in (("correlation", record.correlation_id), ("session", record.session_id)):
            if key is not None:
                self._turns.setdefault((kind, key), Turn()).add(record)
                self._turns.move_to_end((kind, key))
        while len(self._turns) > TURNS_KEPT:
            self._turns.popitem(last=False)

    def take(self, message: Message) -> Turn:
        """What a message has taken; the next one with its id begins anew."""
        by_session = self._turns.pop(("session", message.session_id or ""), None)
        if message.correlation_id is not None:
            return self._turns.pop(("correlation", message.correlation_id), None) or Turn()
        return by_session or Turn()

    def forget(self) -> None:
        """Know nothing; for the child of a fork."""
        self._turns.clear()
