"""Traces as they are kept beside the ledger: what every store of spans promises, and what it answers with.

A trace is kept or removed as a whole, by what it is worth to somebody who asks later: ordinary ones
go first, slow ones after them, those with errors last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from otel_genapp.records import KeptSpan

SLOW_MS: Final = 10_000.0
"""A request that takes longer is slow. A model answers in seconds, so one or two calls stay below; ten
seconds is how long people keep their mind on something that does not answer (J. Nielsen, Usability
Engineering, 1993), so past them they ask what happened."""
SPANS_PER_TRACE: Final = 5_000
"""Further spans of a trace are dropped: work that never ends would take all the room, and then go whole."""
TRACES_SHOWN: Final = 20
SPANS_SHOWN: Final = 10_000
"""Traces and spans in one answer; of further traces the answer has the summary only."""
SPAN_BYTES: Final = 150
"""What a kept span takes besides its text: keys, indexes, room left in pages."""

ORDINARY, SLOW, FAILED = 0, 1, 2
"""What a trace is worth, as numbers in the order in which they go."""
_ROOT, _ENTRY, _INNER = 0, 1, 2
_ENTRIES = frozenset({"server", "consumer"})


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace in a list; its name and service are those of its root, or of what is nearest to one."""

    trace_id: str
    correlation_id: str
    name: str
    service: str
    started_at_ns: int
    duration_ms: float
    """From the first start to the last end."""
    failed: bool
    slow: bool
    spans: int
    dropped: int
    """Spans past `SPANS_PER_TRACE`."""


@dataclass(frozen=True, slots=True)
class KeptTrace:
    """A trace with its spans, in no order; none where an answer had no room for them."""

    summary: TraceSummary
    spans: tuple[KeptSpan, ...]


@dataclass(frozen=True, slots=True)
class TracePage:
    """Traces, newest first; `next` continues the list, None at its end."""

    traces: tuple[TraceSummary, ...]
    next: str | None


class ReadsSpans(Protocol):
    """Finds spans, whoever keeps them; every method is safe to call from any thread."""

    @property
    def problem(self) -> str:
        """Why there are none, where that is known; else ""."""

    def by_correlation_id(self, correlation_id: str) -> tuple[KeptTrace, ...]:
        """The newest traces with a span of that correlation id, whole, the newest first."""

    def by_trace_id(self, trace_id: str) -> KeptTrace | None:
        """One trace, or None when it is unknown."""

    def recent(self, *, limit: int, cursor: str | None, only_errors: bool = False) -> TracePage:
        """A page of the list of traces.

        Raises:
            ValueError: the cursor is not one this store gave.
        """


class SpanStore(ReadsSpans, Protocol):
    """Keeps spans."""

    def add(self, spans: Sequence[KeptSpan]) -> int:
        """Keep the spans; returns how many of them are kept now, the others were too many of their trace.

        A span is known by (trace_id, span_id), and kept once.
        """

    def tidy(self, *, before_ns: int, keep_bytes: int) -> int:
        """Remove traces that ended before then (UTC), and more until about so many bytes are left.

        Whole ones, by what they are worth, of the same worth the oldest first; returns how many.
        """

    def clear(self, session_id: str, *, keys: Collection[str]) -> int:
        """Remove the traces with a span that has the session in an attribute of these keys; returns how many."""

    def restart(self) -> None:
        """Share nothing with the parent; for the child of a fork."""


@dataclass(slots=True)
class Trace:
    """What is known of a trace while its spans come in."""

    trace_id: str
    correlation_id: str = ""
    name: str = ""
    service: str = ""
    rank: int = _INNER + 1
    """How near the span that gave the name is to a root."""
    named_at_ns: int = 0
    started_at_ns: int = 0
    ended_at_ns: int = 0
    worth: int = ORDINARY
    spans: int = 0
    dropped: int = 0
    size: int = 0

    def add(self, span: KeptSpan, *, size: int) -> bool:
        """Take a span in, which takes so many bytes; False if the trace is full."""
        if self.spans >= SPANS_PER_TRACE:
            self.dropped += 1
            return False
        is_entry = span.kind in _ENTRIES
        rank = _ROOT if span.parent_id is None else _ENTRY if is_entry else _INNER
        if (rank, span.started_at_ns) < (self.rank, self.named_at_ns):
            self.rank, self.named_at_ns = rank, span.started_at_ns
            self.correlation_id, self.name, self.service = span.correlation_id, span.name, span.service
        if span.failed:
            self.worth = FAILED
        elif rank != _INNER and span.duration_ms > SLOW_MS:
            self.worth = max(self.worth, SLOW)
        self.started_at_ns = min(self.started_at_ns, span.started_at_ns) if self.spans else span.started_at_ns
        self.ended_at_ns = max(self.ended_at_ns, span.ended_at_ns)
        self.spans += 1
        self.size += size + SPAN_BYTES
        return True

    def summary(self) -> TraceSummary:
        """The trace in a list."""
        return TraceSummary(
            trace_id=self.trace_id,
            correlation_id=self.correlation_id,
            name=self.name,
            service=self.service,
            started_at_ns=self.started_at_ns,
            duration_ms=max(self.ended_at_ns - self.started_at_ns, 0) / 1e6,
            failed=self.worth == FAILED,
            slow=self.worth == SLOW,
            spans=self.spans,
            dropped=self.dropped,
        )
