"""What every store promises, and the values it answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from otel_genapp.ledger.rollup import Rollup, SessionRollup
from otel_genapp.records import Record


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Session ids, most recently active first; `next` continues the list, None at its end."""

    ids: tuple[str, ...]
    total: int
    next: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over calls of all sessions, those cleared or aged out included."""

    overall: Rollup
    by_model: Mapping[tuple[str, str], Rollup] = field(default_factory=dict)
    """Keyed by (provider, model)."""
    without_session: Rollup = field(default_factory=Rollup)
    """The part of `overall` that belongs to no session."""


class Store(Protocol):
    """Keeps records; every method is safe to call from any thread.

    `apply` is idempotent: a record is identified by (call_id, seq) and counts once. Clearing a
    session or ageing it out removes its detail, never the totals.
    """

    def apply(self, records: Iterable[Record]) -> int:
        """Fold the records in; returns how many were new."""

    def session(self, session_id: str) -> SessionRollup | None:
        """A copy of one session's sums, or None when it is unknown.

        `no_session` is the calls that belong to none; it is in no list and no count of sessions.
        """

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        """A page of session ids.

        Raises:
            ValueError: the cursor is not one this store gave.
        """

    def clear(self, session_id: str) -> bool:
        """Remove a session's detail; False when it is unknown."""

    def totals(self, *, from_ns: int | None = None, to_ns: int | None = None) -> Totals:
        """Sums over all time, or over the whole minutes from `from_ns` up to `to_ns` (UTC)."""

    def active_sessions(self, *, since_ns: int) -> int:
        """Distinct sessions with a call that ended at or after `since_ns`."""

    def close(self) -> None:
        """Release what the store holds. Reading afterwards answers as before."""
