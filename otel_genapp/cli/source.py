"""Where the commands that read LLM usage read it: a state directory, a store, or a running service.

`choosing` opens the one that the options name; here is what they have in common. All of them answer with the dictionaries of the HTTP endpoints, so that `--json` says the same
whatever was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Session = Mapping[str, Any]
"""The JSON of `GET /events/metrics/session/{id}`."""
Call = Mapping[str, Any]
"""One of its `requests`, with `session_id` beside."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of sessions, most recently active first; `next` continues it, None at its end."""

    sessions: Sequence[Session]
    count: int
    next: str | None


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls, and where to go on. `missed` is how many more there were that cannot be shown."""

    calls: Sequence[Call]
    place: object
    missed: int = 0


class Source(Protocol):
    """Something that knows sessions and calls.

    Every method raises `GenappError` where it cannot answer, ValueError for a cursor nobody gave.
    """

    shown: str
    """What it is, as people may see it."""
    limits: str
    """What it cannot tell that others can; empty for nothing."""

    def sessions(self, *, limit: int, cursor: str | None) -> Listing:
        """A page of sessions with their sums."""

    def session(self, session_id: str) -> Session | None:
        """One session, or None when it is unknown."""

    def calls(self, session_id: str, *, limit: int) -> Sequence[Call]:
        """A session's kept calls as far as the source tells them, the newest first."""

    def newest(self, *, limit: int, session_id: str | None) -> Calls:
        """The last calls, oldest first: of one session, or of all."""

    def since(self, place: object, *, session_id: str | None) -> Calls:
        """What came in after a place that `newest` or `since` gave, oldest first; bounded."""

    def notes(self) -> Iterator[str]:
        """What is worth saying about the answers given so far."""

    def close(self) -> None:
        """Let go of it."""
