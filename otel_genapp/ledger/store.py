"""What every store promises, and the values it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from otel_genapp.ledger.conversations import Conversations
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
class RankedPage:
    """Sessions with their sums, without calls; `next` continues the list, None at its end."""

    sessions: tuple[SessionRollup, ...]
    next: str | None


RANKINGS: Mapping[str, Callable[[Rollup], int]] = MappingProxyType({
    "recent": lambda sums: sums.last_at_ns or 0,
    "cost": lambda sums: sums.cost_nano_usd,
    "tokens": lambda sums: (
        sums.tokens.input + sums.tokens.output + sums.failed_tokens.input + sums.failed_tokens.output
    ),
    "failed": lambda sums: sums.failed,
})  # fmt: skip
"""What a list of sessions can be ordered by, the highest first."""


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

    `apply` is idempotent: a record is identified by (call_id, seq), one of conversations by its id, and counts once. Clearing a
    session or ageing it out removes its detail, never the totals.
    """

    @property
    def conversations(self) -> Conversations:
        """What it keeps of conversations."""

    @property
    def write_every_s(self) -> float:
        """How long records may gather in a telemetry before it writes them here; 0: it does not wait.

        Reading, flushing and stopping write first, however long that is.
        """

    @property
    def tidy_every_s(self) -> float:
        """How often a telemetry calls `tidy`."""

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        """Fold the records in; returns how many of LLM usage were new. Of the others `conversations` tells.

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

    def ranked(self, *, by: str, limit: int, cursor: str | None, search: str = "") -> RankedPage:
        """A page of sessions by one of `RANKINGS`; only those whose id contains `search`, in any case.

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


class FindsCalls(Protocol):
    """A store that knows which calls had a correlation id; one may do without."""

    def calls_by_correlation(self, correlation_id: str, *, limit: int) -> tuple[LLMCall, ...]:
        """The kept calls of that correlation id, the last ones applied first; none of cleared sessions."""


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


def rank_in(cursor: str | None) -> tuple[int, int] | None:
    """The value and the number of the session a cursor of a ranked list stands for; None for no cursor.

    Raises:
        ValueError: it is not one that a page gave.
    """
    if cursor is None:
        return None
    value, _, number = cursor.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= 39 for part in (value, number)):
        raise ValueError(f"cursor must be one that an earlier page gave, got {cursor[:80]!r}")
    return int(value), int(number)
