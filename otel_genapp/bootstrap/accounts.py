"""Where the parts of the machinery say what they did: the families that count telemetry itself."""

from __future__ import annotations

from otel_genapp.metrics.bound import NO_EXEMPLAR
from otel_genapp.metrics.instruments import Instruments

_STATES = frozenset({"created", "exported", "spooled", "stored", "unspooled"})


class Accounts:
    """`genapp_telemetry_records_total`, `…_dropped_total` and `…_errors_total`; silent until they are there."""

    def __init__(self) -> None:
        self.instruments: Instruments | None = None

    def record(self, kind: str, state: str, *, number: int = 1) -> None:
        """So many came into that state."""
        if self.instruments is not None:
            self.instruments.telemetry_records.record(number, (kind, state), NO_EXEMPLAR)

    def drop(self, what: str, reason: str, *, number: int = 1) -> None:
        """So many are lost."""
        if self.instruments is not None:
            self.instruments.telemetry_dropped.record(number, (what, reason), NO_EXEMPLAR)

    def delivery(self, what: str, outcome: str, *, number: int) -> None:
        """What became of spans: a state, or why they are lost."""
        if outcome in _STATES:
            self.record(what, outcome, number=number)
        else:
            self.drop(what, outcome, number=number)

    def event(self, outcome: str, reason: str) -> None:
        """What became of an event for a subscriber."""
        if outcome == "dropped":
            self.drop("event", reason)
        else:
            self.record("event", outcome)

    def stored(self, number: int) -> None:
        """Records this process brought into the store."""
        self.record("llm_call", "stored", number=number)

    def stored_of_conversations(self, number: int) -> None:
        """Records of conversations this process brought into the store."""
        self.record("conversation", "stored", number=number)

    def unjournaled(self, reason: str) -> None:
        """A record the journal could not take."""
        self.drop("journal", reason)

    def unread_snapshot(self, reason: str) -> None:
        """What another worker had written of its counts and nobody can read."""
        self.drop("snapshot", reason)

    def evicted(self) -> None:
        """A session that had to go from memory."""
        self.drop("session", "memory_limit")

    def own_error(self, site: str, _error: Exception) -> None:
        """An error of ours, swallowed."""
        if self.instruments is not None:
            self.instruments.telemetry_errors.record(1, (site,))
