"""What every store promises, and the values it answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from otel_genapp.ledger.rollup import Rollup, SessionRollup
from otel_genapp.records import LLMCall, Record

NOWHERE: Mapping[str, int] = MappingProxyType({})
"""No position in any journal."""


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


@dataclass(frozen=True, slots=True)
class CallPage:
    """Calls of a session, newest first; `next` continues the list, None at its end."""

    calls: tuple[LLMCall, ...]
    next: str | None


class Store(Protocol):
    """Keeps records; every method is safe to call from any thread.

    `apply` is idempotent: a record is identified by (call_id, seq) and counts once. Clearing a
    session or ageing it out removes its detail, never the totals.
    """

    @property
    def write_every_s(self) -> float:
        """How long records may gather in a telemetry before it writes them here; 0: it does not wait.

        Reading, flushing and stopping write first, however long that is.
        """

    @property
    def tidy_every_s(self) -> float:
        """How often a telemetry calls `tidy`."""

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        """Fold the records in; returns how many were new.

        `through` says how far into which journal segments that goes (bytes); both are kept, or neither.
        """

    def positions(self) -> Mapping[str, int]:
        """Journal segment -> how many bytes of it are in the store."""

    def forget(self, segments: Iterable[str]) -> None:
        """Forget the positions of segments that are no more."""

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        """A page of a session's kept calls, the last ones applied first.

        Raises:
            ValueError: the cursor is not one this store gave.
        """

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

    def tidy(self, *, before_ns: int, keep_bytes: int | None = None) -> int:
        """Remove sessions whose last call ended before then (UTC), and older calls; returns how many sessions.

        With `keep_bytes` more go, the oldest first, until about so many bytes of detail are left.
        """

    def stand_still(self) -> None:
        """Let no thread be at work in here, for a fork, until `go_on` is called by the same thread."""

    def go_on(self) -> None:
        """The fork is done."""

    def restart(self) -> None:
        """Share nothing with the parent; for the child of a fork."""

    def close(self) -> None:
        """Release what the store holds. Reading afterwards answers as before."""


class Arrivals(Protocol):
    """A store that several processes write to, and that tells what came in since one looked last."""

    def arrivals(self, *, after: str | None, limit: int) -> CallPage:
        """Kept calls in the order in which they came in, after a place; without one the last ones.

        `next` is where to go on, and never None. It may lie before the last call that was given.

        Raises:
            ValueError: `after` is not a place that this store gave.
        """


def number_in(cursor: str | None) -> int | None:
    """The number a cursor stands for; None for no cursor.

    Raises:
        ValueError: it is not one that a page gave.
    """
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValueError(f"cursor must be one that an earlier page gave, got {cursor!r}")
    return int(cursor)
