"""What happened: the traces of a correlation id, with their spans and LLM calls.

Sampling decides which spans there are; LLM calls are the ledger's, so all of them are here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

from otel_genapp.ledger.spans import KeptTrace, ReadsSpans, TracePage, TraceSummary
from otel_genapp.ledger.store import FindsCalls
from otel_genapp.read.sessions import DEFAULT_PAGE, request_dict, time_text
from otel_genapp.records import KeptEvent, KeptSpan, LLMCall

CALLS_SHOWN = 1_000
"""LLM calls of one correlation id in an answer, the last ones."""
_OTHER_IDS = 20
"""Correlation ids within a trace whose calls are looked for besides the one that was asked for."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
NO_SPANS = "spans are not kept here: what is shown are LLM calls only"
NO_CALLS = "this store does not find LLM calls by their correlation id: what is shown are spans only"


def is_id(text: object) -> bool:
    """Whether a text can be a correlation or trace id: 1 to 128 of `A-Z a-z 0-9 . _ : -`."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace: its spans in the order of their starts, and its LLM calls in the order of theirs.

    `summary` is None where no span of it was kept (it was not sampled, or is gone): the calls are
    there all the same.
    """

    trace_id: str
    summary: TraceSummary | None
    spans: tuple[KeptSpan, ...]
    llm_calls: tuple[LLMCall, ...]
    url: str | None = None
    """Where the tracing backend shows it, by the setting `trace_url`."""

    @property
    def started_at_ns(self) -> int:
        """The first start of a span or call, UTC nanoseconds."""
        if self.summary is not None:
            return self.summary.started_at_ns
        return min((call.started_at_ns for call in self.llm_calls), default=0)

    def as_dict(self) -> dict[str, Any]:
        """The trace as JSON-ready values; see `GET /events/traces/{correlation_id}`."""
        known = {span.span_id for span in self.spans}
        answer: dict[str, Any] = {"trace_id": self.trace_id}
        if self.url is not None:
            answer["url"] = self.url
        if self.summary is not None:
            answer |= summary_dict(self.summary)
            answer["spans_truncated"] = len(self.spans) < self.summary.spans + self.summary.dropped
        answer["spans"] = [_span_dict(span, known, since_ns=self.started_at_ns) for span in self.spans]
        answer["llm_calls"] = [
            {**request_dict(call), "session_id": call.session_id, "span_id": call.span_id}
            for call in self.llm_calls
        ]
        return answer


class Traces:
    """What happened, by correlation id. Methods may be called on any thread.

    LLM calls are exact at the moment of asking, in every worker; spans of another process are there
    within a second.
    """

    def __init__(
        self,
        spans: ReadsSpans | None,
        calls: FindsCalls | None,
        *,
        catch_up: Callable[[], None],
        url: str = "",
    ) -> None:
        self._spans = spans
        self._calls = calls
        self._catch_up = catch_up
        self._url = url

    @property
    def notes(self) -> tuple[str, ...]:
        """What an answer lacks here, whatever is asked."""
        no_spans = NO_SPANS if self._spans is None else self._spans.problem
        return tuple(note for note in (no_spans, NO_CALLS if self._calls is None else "") if note)

    def by_correlation_id(self, correlation_id: str) -> list[Trace]:
        """The traces of a correlation id, the earliest first; several if it went through several or was sent twice.

        A trace comes whole, the spans in it that have another correlation id too.

        Raises:
            ValueError: it is no correlation id.
        """
        if not is_id(correlation_id):
            raise ValueError("a correlation id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        self._catch_up()
        kept = self._spans.by_correlation_id(correlation_id) if self._spans is not None else ()
        return self._joined(kept, asked=(correlation_id,))

    def by_trace_id(self, trace_id: str) -> Trace | None:
        """One trace by its own id, or None where no span of it was kept."""
        if not is_id(trace_id) or self._spans is None:
            return None
        self._catch_up()
        kept = self._spans.by_trace_id(trace_id)
        return self._joined([kept])[0] if kept is not None else None

    def recent(
        self, limit: int = DEFAULT_PAGE, cursor: str | None = None, *, only_errors: bool = False
    ) -> TracePage:
        """A page of the kept traces, newest first; `next` of one is the `cursor` for the one after it.

        Raises:
            ValueError: `limit` is below 1, or `cursor` is not one that a page gave.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        if self._spans is None:
            return TracePage((), None)
        self._catch_up()
        return self._spans.recent(limit=limit, cursor=cursor, only_errors=only_errors)

    def _joined(self, kept: Iterable[KeptTrace], *, asked: tuple[str, ...] = ()) -> list[Trace]:
        """The traces with their calls, and those that only calls of the ids that were asked for tell of."""
        traces = list(kept)
        shown = {trace.summary.trace_id for trace in traces}
        calls: dict[str, list[LLMCall]] = {}
        for call in sorted(self._calls_of(traces, asked), key=attrgetter("started_at_ns", "call_id")):
            if call.trace_id in shown or call.correlation_id in asked:
                calls.setdefault(call.trace_id, []).append(call)
        result = []
        for trace in traces:
            trace_id, spans = trace.summary.trace_id, _in_order(trace.spans)
            of_trace = tuple(calls.pop(trace_id, ()))
            result.append(Trace(trace_id, trace.summary, spans, of_trace, self._link(trace_id)))
        for trace_id, others in calls.items():
            result.append(Trace(trace_id, None, (), tuple(others), self._link(trace_id)))
        return sorted(result, key=attrgetter("started_at_ns", "trace_id"))

    def _calls_of(self, traces: Iterable[KeptTrace], asked: Iterable[str]) -> Iterator[LLMCall]:
        """The calls of these correlation ids, and of others that work within the traces was given."""
        others = dict.fromkeys(span.correlation_id for trace in traces for span in trace.spans)
        for correlation_id in dict.fromkeys([*asked, *islice(others, _OTHER_IDS)]):
            if self._calls is not None:
                yield from self._calls.calls_by_correlation(correlation_id, limit=CALLS_SHOWN)

    def _link(self, trace_id: str) -> str | None:
        # Not `format`: such URLs may have other braces.
        return self._url.replace("{trace_id}", trace_id) if self._url and trace_id else None


def traces_dict(correlation_id: str, traces: Iterable[Trace], *, notes: Iterable[str]) -> dict[str, Any]:
    """The JSON of `GET /events/traces/{correlation_id}`."""
    answer = {"correlation_id": correlation_id, "traces": [trace.as_dict() for trace in traces]}
    said = list(notes)
    return {**answer, "notes": said} if said else answer


def summary_dict(summary: TraceSummary) -> dict[str, Any]:
    """A trace in a list as JSON-ready values."""
    return {
        "trace_id": summary.trace_id,
        "correlation_id": summary.correlation_id,
        "name": summary.name,
        "service": summary.service,
        "started_at": time_text(summary.started_at_ns),
        "duration_ms": round(summary.duration_ms, 3),
        "error": summary.failed,
        "slow": summary.slow,
        "span_count": summary.spans,
        "dropped_spans": summary.dropped,
    }


def _in_order(spans: Iterable[KeptSpan]) -> tuple[KeptSpan, ...]:
    """By their starts; of those that started at once, parents before children."""
    by_id = {span.span_id: span for span in spans}
    return tuple(
        sorted(by_id.values(), key=lambda span: (span.started_at_ns, _depth(span, by_id), span.span_id))
    )


def _depth(span: KeptSpan, by_id: Mapping[str, KeptSpan]) -> int:
    """How many known spans that started at the same moment are above it."""
    depth = 0
    seen = {span.span_id}
    parent = by_id.get(span.parent_id or "")
    while parent is not None and parent.started_at_ns == span.started_at_ns and parent.span_id not in seen:
        seen.add(parent.span_id)
        depth += 1
        parent = by_id.get(parent.parent_id or "")
    return depth


def _span_dict(span: KeptSpan, known: set[str], *, since_ns: int) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "parent_known": span.parent_id in known,
        "correlation_id": span.correlation_id,
        "name": span.name,
        "kind": span.kind,
        "scope": span.scope,
        "service": span.service,
        "started_at": time_text(span.started_at_ns),
        "offset_ms": round((span.started_at_ns - since_ns) / 1e6, 3),
        "duration_ms": round(span.duration_ms, 3),
        "status": span.status,
        "status_message": span.status_message,
        "error_type": span.error_type,
        "attributes": dict(span.attributes),
        "events": [_event_dict(event) for event in span.events],
        "links": span.links,
        "cut": span.cut,
    }


def _event_dict(event: KeptEvent) -> dict[str, Any]:
    return {"name": event.name, "at": time_text(event.at_ns), "attributes": dict(event.attributes)}
