"""A trace as rows below each other: every span under its parent, with its place on the line of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otel_genapp.read.traces import Trace
from otel_genapp.records import KeptSpan, LLMCall

WIDTH = 1000.0
DEEPEST = 12
"""Deeper spans are indented as this."""
ROWS = 1000
MESSAGE = 120
_LEAST = 4.0


@dataclass(frozen=True, slots=True)
class Row:
    """A span, an LLM call, or a span that is one: at least one of them."""

    span: KeptSpan | None
    call: LLMCall | None
    depth: int
    x: float
    width: float

    @property
    def name(self) -> str:
        """What it is called."""
        return (
            self.span.name
            if self.span is not None
            else f"{self.call.operation} {self.call.model}"
            if self.call
            else ""
        )

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return self.span.duration_ms if self.span is not None else self.call.duration_ms if self.call else 0.0

    @property
    def message(self) -> str:
        """What its error says, in short."""
        said = self.span.status_message or self.span.error_type if self.span is not None else ""
        return (said or (self.call.error_type if self.call is not None else "") or "")[:MESSAGE]

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        if self.span is not None and self.span.status == "error":
            return True
        return self.call is not None and self.call.status != "success"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The rows of a trace, at most `ROWS` of them."""

    rows: tuple[Row, ...]
    duration_ms: float
    total: int


def waterfall_of(trace: Trace) -> Waterfall:
    """The rows of a trace; calls whose span was not kept come where they began."""
    calls = {call.span_id: call for call in trace.llm_calls if call.span_id}
    lonely = [call for call in trace.llm_calls if call.span_id not in {span.span_id for span in trace.spans}]
    starts = [span.started_at_ns for span in trace.spans] + [call.started_at_ns for call in lonely]
    ends = [int(span.started_at_ns + span.duration_ms * 1e6) for span in trace.spans]
    ends += [call.ended_at_ns for call in lonely]
    first = min(starts, default=0)
    length_ns = max(max(ends, default=0) - first, 1)

    def row(span: KeptSpan | None, call: LLMCall | None, *, depth: int) -> Row:
        start_ns, duration_ms = (
            (span.started_at_ns, span.duration_ms) if span is not None
            else (call.started_at_ns, call.duration_ms) if call is not None else (first, 0.0)
        )  # fmt: skip
        x = min(max((start_ns - first) / length_ns * WIDTH, 0.0), WIDTH - _LEAST)
        width = min(max(duration_ms * 1e6 / length_ns * WIDTH, _LEAST), WIDTH - x)
        return Row(span, call, min(depth, DEEPEST), round(x, 2), round(width, 2))

    rows = [row(span, calls.get(span.span_id), depth=depth) for span, depth in _in_order(trace.spans)]
    rows += [row(None, call, depth=0) for call in lonely]
    return Waterfall(tuple(rows[:ROWS]), length_ns / 1e6, len(rows))


def _in_order(spans: Sequence[KeptSpan]) -> Iterator[tuple[KeptSpan, int]]:
    """The spans with how deep they are, each followed by those below it."""
    known = {span.span_id for span in spans}
    below: dict[str, list[KeptSpan]] = {}
    for span in spans:
        parent = span.parent_id if span.parent_id in known and span.parent_id != span.span_id else ""
        below.setdefault(parent or "", []).append(span)
    seen: set[str] = set()
    waiting = [(span, 0) for span in reversed(below.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(below.get(span.span_id, []))]
    for span in spans:  # parents in a circle: nobody is above them
        if span.span_id not in seen:
            seen.add(span.span_id)
            yield span, 0
