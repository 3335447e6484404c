"""The store in this process's memory: bounded, exact, gone with the process."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from otel_genapp import semconv
from otel_genapp.ledger.conversations_memory import MemoryConversations
from otel_genapp.ledger.rollup import Rollup, SessionRollup
from otel_genapp.ledger.settling import usage_at_ns
from otel_genapp.ledger.store import (
    NOWHERE,
    RANKINGS,
    CallPage,
    RankedPage,
    SessionPage,
    Totals,
    number_in,
    rank_in,
)
from otel_genapp.records import LLMCall, Record, UsageRecord, parted

CALLS_REMEMBERED = 50_000
CALLS_FOUND = 10_000
"""The latest calls, of any session, that are found by their correlation ids and by their sessions."""
MINUTES_KEPT = 7 * 24 * 60
CELLS_KEPT = 50_000
"""Sums of one model in one minute, 1.5 kB each; past them the oldest minutes go."""
MODELS_KEPT = 500
_MINUTE_NS = 60_000_000_000

Model = tuple[str, str]
Cell = tuple[str, str, bool]
"""Provider, model, and whether the calls belong to a session."""


class MemoryStore:
    """Holds at most `session_limit` sessions; the least recently active goes first, counted."""

    write_every_s = 0.0
    tidy_every_s = 30.0

    def __init__(self, *, session_limit: int = 10_000, on_evict: Callable[[], None] | None = None) -> None:
        self._session_limit = session_limit
        self._on_evict = on_evict
        self._lock = threading.Lock()
        self.conversations = MemoryConversations(self._usage_of, self._calls_of)
        self._empty()

    def apply(self, records: Iterable[Record], *, through: Mapping[str, int] = NOWHERE) -> int:
        usage, facts = parted(records)
        with self._lock:
            counted = [record for record in usage if self._apply(record)]
            for segment, position in through.items():
                self._positions[segment] = max(position, self._positions.get(segment, 0))
        self.conversations.take(facts, counted)
        return len(counted)

    def positions(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._positions)

    def forget(self, segments: Iterable[str]) -> None:
        with self._lock:
            for segment in segments:
                self._positions.pop(segment, None)

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        before = number_in(cursor)
        found = self.session(session_id)
        if found is None:
            return CallPage((), None)
        # Numbered from the session's first call on, so that a page is stable while calls are added.
        calls = list(zip(range(found.sums.calls, 0, -1), reversed(found.newest), strict=False))
        left = calls if before is None else [item for item in calls if item[0] < before]
        page = left[:limit]
        more = len(left) > limit
        return CallPage(tuple(call for _, call in page), str(page[-1][0]) if more and page else None)

    def session(self, session_id: str) -> SessionRollup | None:
        with self._lock:
            found = self._sessions.get(session_id)
            if found is None and session_id == semconv.NO_SESSION and self._without_session.sums.calls:
                found = self._without_session
            return copy.deepcopy(found) if found is not None else None

    def calls_by_correlation(self, correlation_id: str, *, limit: int) -> tuple[LLMCall, ...]:
        with self._lock:
            found = [
                call
                for call in self._latest
                if isinstance(call, LLMCall) and call.correlation_id == correlation_id
            ]
        return tuple(reversed(found[-limit:])) if limit > 0 else ()

    def sessions(self, *, limit: int, cursor: str | None) -> SessionPage:
        with self._lock:
            # Ordered by a number that only grows, so a page is stable while sessions move up.
            order = sorted(self._touched.items(), key=lambda item: item[1], reverse=True)
        after = number_in(cursor)
        order_from = order if after is None else [item for item in order if item[1] < after]
        page = order_from[:limit]
        more = len(order_from) > limit
        return SessionPage(
            ids=tuple(session_id for session_id, _ in page),
            total=len(order),
            next=str(page[-1][1]) if more and page else None,
        )

    def ranked(self, *, by: str, limit: int, cursor: str | None, search: str = "") -> RankedPage:
        value_of, after, wanted = RANKINGS[by], rank_in(cursor), search.lower()
        with self._lock:
            ranks = {
                session_id: (value_of(session.sums), self._touched[session_id])
                for session_id, session in self._sessions.items()
                if wanted in session_id.lower()
            }
            order = sorted(ranks, key=ranks.__getitem__, reverse=True)
            left = [one for one in order if after is None or ranks[one] < after]
            page = tuple(copy.deepcopy(self._sessions[one]) for one in left[:limit])
        for session in page:
            session.newest.clear()
        more = len(left) > limit > 0
        return RankedPage(page, "{}.{}".format(*ranks[left[limit - 1]]) if more else None)

    def clear(self, session_id: str) -> bool:
        talked = self.conversations.forget(lambda fact: fact.session_id == session_id)
        with self._lock:
            without = self._without_session
            self._forget_calls(lambda call: (call.session_id or semconv.NO_SESSION) == session_id)
            if session_id == without.session_id and without.sums.calls:
                self._forget_without_session()
                return True
            self._touched.pop(session_id, None)
            return self._sessions.pop(session_id, None) is not None or talked

    def totals(self, *, from_ns: int | None = None, to_ns: int | None = None) -> Totals:
        with self._lock:
            if from_ns is None and to_ns is None:
                return copy.deepcopy(Totals(self._overall, self._by_model, self._without_total))
            overall, without = Rollup(), Rollup()
            by_model: dict[Model, Rollup] = {}
            for models in self._minutes_between(from_ns, to_ns):
                for (*model, bound), sums in models.items():
                    overall.merge(sums)
                    by_model.setdefault((model[0], model[1]), Rollup()).merge(sums)
                    if not bound:
                        without.merge(sums)
            return Totals(overall, by_model, without)

    def active_sessions(self, *, since_ns: int) -> int:
        with self._lock:
            return sum((session.sums.last_at_ns or 0) >= since_ns for session in self._sessions.values())

    def tidy(self, *, before_ns: int, keep_bytes: int | None = None) -> int:
        with self._lock:
            old = [
                session_id
                for session_id, session in self._sessions.items()
                if (session.sums.last_at_ns or 0) < before_ns
            ]
            for session_id in old:
                del self._sessions[session_id], self._touched[session_id]
            for session in (*self._sessions.values(), self._without_session):
                while session.newest and session.newest[0].ended_at_ns < before_ns:
                    session.newest.popleft()
            self._forget_calls(lambda call: usage_at_ns(call) < before_ns)
        self.conversations.forget(lambda fact: fact.at_ns < before_ns)
        return len(old)

    def close(self) -> None:
        """Nothing to release."""

    def stand_still(self) -> None:
        """A child starts empty, with a lock of its own."""

    def go_on(self) -> None:
        """Nothing was held."""

    def restart(self) -> None:
        """Start empty, with a new lock."""
        self._lock = threading.Lock()
        self._empty()
        self.conversations.restart()

    def _usage_of(self, correlation_id: str) -> list[UsageRecord]:
        with self._lock:
            return [record for record in self._latest if record.correlation_id == correlation_id]

    def _calls_of(self, session_id: str) -> list[LLMCall]:
        with self._lock:
            return [
                record
                for record in self._latest
                if isinstance(record, LLMCall) and record.session_id == session_id
            ]

    def _forget_calls(self, is_gone: Callable[[UsageRecord], bool]) -> None:
        kept = [call for call in self._latest if not is_gone(call)]
        self._latest.clear()
        self._latest.extend(kept)

    def _forget_without_session(self) -> None:
        self._without_session = SessionRollup(semconv.NO_SESSION)

    def _empty(self) -> None:
        self._sessions: OrderedDict[str, SessionRollup] = OrderedDict()
        self._forget_without_session()
        self._without_total = Rollup()
        self._touched: dict[str, int] = {}
        self._touches = 0
        self._positions: dict[str, int] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._latest: deque[UsageRecord] = deque(maxlen=CALLS_FOUND)
        self._overall = Rollup()
        self._by_model: dict[Model, Rollup] = {}
        self._minutes: OrderedDict[int, dict[Cell, Rollup]] = OrderedDict()
        self._cells = 0

    def _apply(self, record: UsageRecord) -> bool:
        if not self._is_new(record):
            return False
        model = (record.provider, record.model)
        if model not in self._by_model and len(self._by_model) >= MODELS_KEPT:
            model = (record.provider, semconv.OVERFLOW)
        self._overall.add(record)
        self._by_model.setdefault(model, Rollup()).add(record)
        at_ns = usage_at_ns(record)
        if record.correlation_id is not None or record.session_id is not None:
            self._latest.append(record)
        self._cell(at_ns // _MINUTE_NS, (*model, record.session_id is not None)).add(record)
        if record.session_id is None:
            self._without_total.add(record)
            self._without_session.add(record)
        else:
            self._session(record.session_id).add(record)
        return True

    def _is_new(self, record: UsageRecord) -> bool:
        bit = 1 << record.seq
        seen = self._seen.get(record.call_id, 0)
        if seen & bit:
            return False
        self._seen[record.call_id] = seen | bit
        if len(self._seen) > CALLS_REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def _cell(self, minute: int, key: Cell) -> Rollup:
        models = self._minutes.setdefault(minute, {})
        sums = models.get(key)
        if sums is None:
            sums = models[key] = Rollup()
            self._cells += 1
            while len(self._minutes) > MINUTES_KEPT or self._cells > CELLS_KEPT:
                self._cells -= len(self._minutes.popitem(last=False)[1])
        return sums

    def _minutes_between(self, from_ns: int | None, to_ns: int | None) -> Iterator[dict[Cell, Rollup]]:
        # Rounded up at both ends: a minute belongs to where it starts.
        first = None if from_ns is None else -(-from_ns // _MINUTE_NS)
        end = None if to_ns is None else -(-to_ns // _MINUTE_NS)
        if first is not None and end is not None and end - first < len(self._minutes):
            yield from (self._minutes[minute] for minute in range(first, end) if minute in self._minutes)
            return
        for minute, models in self._minutes.items():
            if (first is None or minute >= first) and (end is None or minute < end):
                yield models

    def _session(self, session_id: str) -> SessionRollup:
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = SessionRollup(session_id)
            if len(self._sessions) > self._session_limit:
                evicted, _ = self._sessions.popitem(last=False)
                self._touched.pop(evicted, None)
                if self._on_evict is not None:
                    self._on_evict()
        else:
            self._sessions.move_to_end(session_id)
        self._touches += 1
        self._touched[session_id] = self._touches
        return session
