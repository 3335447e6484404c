"""Spans in this process's memory: bounded in bytes, gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from otel_genapp.ledger import span_codec
from otel_genapp.ledger.spans import SPANS_SHOWN, TRACES_SHOWN, KeptTrace, Trace, TracePage
from otel_genapp.ledger.store import number_in
from otel_genapp.records import KeptSpan

MEMORY_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Held:
    """A trace: its spans as text, a tenth of what they take as objects."""

    number: int
    trace: Trace
    spans: dict[str, str] = field(default_factory=dict)
    correlation_ids: set[str] = field(default_factory=set)


class MemorySpans:
    """Holds at most `keep_bytes` of spans; what is worth least goes first."""

    problem = ""

    def __init__(self, *, keep_bytes: int = MEMORY_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self.restart()

    def restart(self) -> None:
        self._lock = threading.Lock()
        self._last = self._size = 0
        self._held: dict[str, _Held] = {}
        self._by_number: dict[int, _Held] = {}
        self._order: tuple[list[int], ...] = ([], [], [])
        """For each worth a heap of numbers; one whose trace is gone, or is worth more by now, counts no more."""
        self._by_correlation: dict[str, dict[str, _Held]] = {}

    def add(self, spans: Sequence[KeptSpan]) -> int:
        texts = [span_codec.encode(span) for span in spans]
        with self._lock:
            kept = sum([self._add(span, text) for span, text in zip(spans, texts, strict=True)])
            self._shrink(self._keep_bytes)
        return kept

    def by_correlation_id(self, correlation_id: str) -> tuple[KeptTrace, ...]:
        with self._lock:
            found = sorted(
                self._by_correlation.get(correlation_id, {}).values(), key=lambda held: -held.number
            )
            copies = [(held.trace.summary(), list(held.spans.values())) for held in found[:TRACES_SHOWN]]
        room = SPANS_SHOWN
        traces = []
        for summary, texts in copies:
            shown = texts if len(texts) <= room else []
            room -= len(shown)
            traces.append(KeptTrace(summary, tuple(map(span_codec.decode, shown))))
        return tuple(traces)

    def by_trace_id(self, trace_id: str) -> KeptTrace | None:
        with self._lock:
            held = self._held.get(trace_id)
            if held is None:
                return None
            summary, texts = held.trace.summary(), list(held.spans.values())
        return KeptTrace(summary, tuple(map(span_codec.decode, texts)))

    def recent(self, *, limit: int, cursor: str | None, only_errors: bool = False) -> TracePage:
        before = number_in(cursor)
        page = []
        with self._lock:
            for held in reversed(self._held.values()):
                summary = held.trace.summary()
                if (before is None or held.number < before) and (summary.failed or not only_errors):
                    page.append((held.number, summary))
                    if len(page) > limit:
                        break
        more = len(page) > limit > 0
        return TracePage(
            tuple(summary for _, summary in page[:limit]), str(page[limit - 1][0]) if more else None
        )

    def tidy(self, *, before_ns: int, keep_bytes: int) -> int:
        with self._lock:
            old = [held for held in self._held.values() if held.trace.ended_at_ns < before_ns]
            for held in old:
                self._remove(held)
            return len(old) + self._shrink(keep_bytes)

    def clear(self, session_id: str, *, keys: Collection[str]) -> int:
        with self._lock:
            found = [
                held
                for held in self._held.values()
                if any(span_codec.says(text, keys=keys, value=session_id) for text in held.spans.values())
            ]
            for held in found:
                self._remove(held)
        return len(found)

    def _add(self, span: KeptSpan, text: str) -> bool:
        held = self._held.get(span.trace_id)
        if held is None:
            self._last += 1
            held = self._held[span.trace_id] = _Held(self._last, Trace(span.trace_id))
            self._by_number[held.number] = held
            heappush(self._order[held.trace.worth], held.number)
        if span.span_id in held.spans:
            return True
        worth, size = held.trace.worth, held.trace.size
        if not held.trace.add(span, size=len(text)):
            return False
        self._size += held.trace.size - size
        if held.trace.worth != worth:
            heappush(self._order[held.trace.worth], held.number)
        held.spans[span.span_id] = text
        held.correlation_ids.add(span.correlation_id)
        self._by_correlation.setdefault(span.correlation_id, {})[span.trace_id] = held
        return True

    def _shrink(self, keep_bytes: int) -> int:
        removed = 0
        for worth, numbers in enumerate(self._order):
            while self._size > keep_bytes and numbers:
                held = self._by_number.get(heappop(numbers))
                if held is not None and held.trace.worth == worth:
                    self._remove(held)
                    removed += 1
        return removed

    def _remove(self, held: _Held) -> None:
        del self._held[held.trace.trace_id], self._by_number[held.number]
        self._size -= held.trace.size
        for correlation_id in held.correlation_ids:
            traces = self._by_correlation[correlation_id]
            del traces[held.trace.trace_id]
            if not traces:
                del self._by_correlation[correlation_id]
