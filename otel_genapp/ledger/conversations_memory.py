"""Conversations in this process's memory: bounded, gone with the process."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice

from otel_genapp.ledger.arrivals import settle
from otel_genapp.ledger.conversations import PAGE, ConversationRow, Happened, Listener, News, Place, ignore
from otel_genapp.ledger.settling import WINDOW, usage_at_ns
from otel_genapp.records import ConversationRecord, Feedback, LLMCall, Message, Outcome, UsageRecord

FACTS_KEPT = 50_000


def place_of(fact: ConversationRecord) -> Place:
    """Where a fact stands in the order of time."""
    return fact.at_ns, fact.id


class _Places:
    """Places by a key, each key's in the order of time."""

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}

    def add(self, key: str, place: Place) -> None:
        insort(self._places.setdefault(key, []), place)

    def remove(self, key: str, place: Place) -> None:
        places = self._places[key]
        del places[bisect_left(places, place)]
        if not places:
            del self._places[key]

    def of(self, key: str) -> Sequence[Place]:
        return self._places.get(key, ())

    def until(self, key: str, place: Place, *, limit: int) -> Sequence[Place]:
        """The last ones before a place."""
        places = self.of(key)
        end = bisect_left(places, place)
        return places[max(end - limit, 0) : end]

    def starting(self, key: str, place: Place, *, limit: int) -> Sequence[Place]:
        """The first ones from a place on."""
        places = self.of(key)
        start = bisect_left(places, place)
        return places[start : start + limit]


class MemoryConversations:
    """The last 50,000 facts, and the rows of their messages.

    `calls` gives the calls that are found by a correlation id, `calls_of_session` those of a session.
    """

    def __init__(
        self,
        calls: Callable[[str], Sequence[UsageRecord]],
        calls_of_session: Callable[[str], Sequence[LLMCall]],
    ) -> None:
        self._calls = calls
        self._calls_of_session = calls_of_session
        self._listener: Listener = ignore()
        self.restart()

    def restart(self) -> None:
        """Know nothing, with a lock nobody holds."""
        self._lock = threading.RLock()
        self._facts: OrderedDict[str, ConversationRecord] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._by_session = _Places()
        self._contacts = _Places()
        """Messages and feedback by their user."""
        self._ends = _Places()
        """Outcomes that end a conversation by their user."""
        self._by_correlation: dict[str, dict[str, None]] = {}
        self._rows: dict[str, ConversationRow] = {}

    def listen(self, listener: Listener) -> None:
        """Tell whom what new records make happen."""
        self._listener = listener

    def take(self, facts: Iterable[ConversationRecord], usage: Sequence[UsageRecord]) -> None:
        """Add facts and bring the rows up to date."""
        happened: list[Happened] = []
        with self._lock:
            new = [fact for fact in facts if self._add(fact)]
            if new or self._facts:
                happened = settle(self, new, usage=usage, repeat_ns=self._listener.repeat_ns)
        News(len(new), tuple(happened)).tell(self._listener)

    def forget(self, is_gone: Callable[[ConversationRecord], bool]) -> bool:
        """Remove facts and their rows; they are not taken again. False if there were none."""
        with self._lock:
            gone = [fact for fact in self._facts.values() if is_gone(fact)]
            for fact in gone:
                self._remove(fact)
        return bool(gone)

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        with self._lock:
            places = sorted(
                row.place
                for row in self._rows.values()
                if from_ns <= row.at_ns < to_ns and (after is None or row.place > after)
            )
            return tuple(self._rows[message_id] for _, message_id in islice(places, limit))

    def count(self, *, from_ns: int, to_ns: int) -> int:
        with self._lock:
            return sum(from_ns <= row.at_ns < to_ns for row in self._rows.values())

    def facts(
        self, kind: type[Feedback | Outcome], *, from_ns: int, to_ns: int, after: Place | None = None
    ) -> tuple[ConversationRecord, ...]:
        with self._lock:
            found = sorted(
                place_of(fact)
                for fact in self._facts.values()
                if isinstance(fact, kind)
                and from_ns <= fact.at_ns < to_ns
                and (after is None or place_of(fact) > after)
            )
            return tuple(self._facts[fact_id] for _, fact_id in found[:PAGE])

    def messages_of(self, correlation_ids: Collection[str]) -> Sequence[Message]:
        return [fact for fact in self._of(correlation_ids) if isinstance(fact, Message)]

    def without_correlation(self, session_ids: Collection[str]) -> Collection[str]:
        return {
            one
            for one in session_ids
            for fact in self._at(self._by_session.of(one))
            if isinstance(fact, Message) and fact.correlation_id is None
        }

    def facts_until(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        return self._at(self._by_session.until(session_id, place, limit=limit))

    def facts_from(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        return self._at(self._by_session.starting(session_id, place, limit=limit))

    def facts_about(self, correlation_ids: Collection[str]) -> Sequence[ConversationRecord]:
        return [fact for fact in self._of(correlation_ids) if not isinstance(fact, Message)]

    def rows_of(self, ids: Collection[str]) -> Mapping[str, ConversationRow]:
        return {one: self._rows[one] for one in ids if one in self._rows}

    def usage_of(self, correlation_id: str, *, limit: int) -> Sequence[UsageRecord]:
        return self._calls(correlation_id)[:limit]

    def calls_of(
        self, session_id: str, *, after_ns: int | None, until_ns: int | None, limit: int
    ) -> Sequence[LLMCall]:
        found = [
            call
            for call in self._calls_of_session(session_id)
            if (after_ns is None or usage_at_ns(call) > after_ns)
            and (until_ns is None or usage_at_ns(call) <= until_ns)
        ]
        return sorted(found, key=usage_at_ns, reverse=True)[:limit]

    def ended_before(self, user_id: str, at_ns: int) -> int | None:
        said = self._ends.until(user_id, (at_ns, ""), limit=1)
        # Whoever tells of an end may not know the user, but messages do.
        seen = (self._rows.get(one) for _, one in self._contacts.until(user_id, (at_ns, ""), limit=WINDOW))
        ended = [row.ended_at_ns for row in seen if row is not None and row.ended_at_ns is not None]
        return max((*(at for at, _ in said), *(at for at in ended if at < at_ns)), default=None)

    def save(self, rows: Sequence[ConversationRow]) -> None:
        self._rows.update({row.id: row for row in rows})

    def _at(self, places: Iterable[Place]) -> list[ConversationRecord]:
        return [self._facts[one] for _, one in places]

    def _of(self, correlation_ids: Collection[str]) -> list[ConversationRecord]:
        return [
            self._facts[one]
            for correlation_id in correlation_ids
            for one in self._by_correlation.get(correlation_id, ())
        ]

    def _add(self, fact: ConversationRecord) -> bool:
        if fact.id in self._seen:
            return False
        self._seen[fact.id] = None
        if len(self._seen) > FACTS_KEPT:
            self._seen.popitem(last=False)
        self._facts[fact.id] = fact
        for index, key in self._indexes(fact):
            index.add(key, place_of(fact))
        if fact.correlation_id is not None:
            self._by_correlation.setdefault(fact.correlation_id, {})[fact.id] = None
        if len(self._facts) > FACTS_KEPT:
            self._remove(next(iter(self._facts.values())))
        return True

    def _remove(self, fact: ConversationRecord) -> None:
        del self._facts[fact.id]
        self._rows.pop(fact.id, None)
        for index, key in self._indexes(fact):
            index.remove(key, place_of(fact))
        if fact.correlation_id is not None:
            same = self._by_correlation[fact.correlation_id]
            del same[fact.id]
            if not same:
                del self._by_correlation[fact.correlation_id]

    def _indexes(self, fact: ConversationRecord) -> list[tuple[_Places, str]]:
        """The indexes a fact is in, each with its key there."""
        found = [(self._by_session, fact.session_id)]
        found.append(
            (self._ends if isinstance(fact, Outcome) and fact.ends else self._contacts, fact.user_id)
        )
        return [(index, key) for index, key in found if key is not None]
