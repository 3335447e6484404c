"""Going once through messages and feedback in the order of time, page by page, and adding them up."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from otel_genapp.ledger.conversations import ConversationRow, Conversations
from otel_genapp.read.reports.figures import Figures
from otel_genapp.read.reports.period import Span
from otel_genapp.records import Feedback

PEOPLE_KEPT = 50_000
"""People and sessions whose last contact is remembered; of more, those seen last."""
_ENDS_KEPT = 8
LOOK_BACK = 2
"""How many times as long as a repeated contact takes at most a conversation before it may have gone on."""


def rows_of(conversations: Conversations, span: Span) -> Iterator[ConversationRow]:
    """The rows of a stretch of time, in its order."""
    after = None
    while page := conversations.rows(from_ns=span.from_ns, to_ns=span.to_ns, after=after):
        yield from page
        after = page[-1].place


def feedback_of(conversations: Conversations, span: Span) -> Iterator[Feedback]:
    """The feedback given in a stretch of time, in its order."""
    after = None
    while page := conversations.facts(Feedback, from_ns=span.from_ns, to_ns=span.to_ns, after=after):
        yield from (fact for fact in page if isinstance(fact, Feedback))
        after = page[-1].at_ns, page[-1].id


class Series:
    """Stretches of time one after another, each with its figures; what is over is kept as what `close` made of it."""

    def __init__(self, spans: Sequence[Span], close: Callable[[Figures], dict[str, Any]]) -> None:
        self._spans = spans
        self._close = close
        self._found: list[dict[str, Any]] = []
        self._current = Figures()

    def at(self, moment_ns: int) -> Figures | None:
        """The figures of a moment, which lies not before those asked for earlier; None outside."""
        while len(self._found) < len(self._spans) and moment_ns >= self._spans[len(self._found)].to_ns:
            self._next()
        if len(self._found) == len(self._spans) or moment_ns < self._spans[len(self._found)].from_ns:
            return None
        return self._current

    def done(self) -> list[dict[str, Any]]:
        """What was made of each stretch."""
        while len(self._found) < len(self._spans):
            self._next()
        return self._found

    def _next(self) -> None:
        self._found.append(self._close(self._current))
        self._current = Figures()


class Contacts:
    """Which conversations are repeated contacts: of a person, or in a session, whose last one ended just before."""

    def __init__(self, repeat_ns: int) -> None:
        self._repeat_ns = repeat_ns
        self._talks: OrderedDict[tuple[str, str], tuple[tuple[int, int], ...]] = OrderedDict()
        """(began, ended) of the last conversations of a person or session."""

    def repeats(self, row: ConversationRow) -> bool:
        """Whether the conversation that begins with `row` is one; from now on it is known itself."""
        since_ns = row.at_ns - self._repeat_ns
        earliest_ns = row.at_ns - LOOK_BACK * self._repeat_ns  # however much is read before a period
        repeated = False
        for key in self._keys(row):
            talks = tuple(
                (began, ended)
                for began, ended in self._talks.pop(key, ())
                if ended >= since_ns and began >= earliest_ns
            )
            repeated = repeated or any(ended < row.at_ns for _, ended in talks)
            if row.ended_at_ns is not None:
                talks = (*talks, (row.at_ns, row.ended_at_ns))[-_ENDS_KEPT:]
            if talks:
                self._talks[key] = talks
        while len(self._talks) > PEOPLE_KEPT:
            self._talks.popitem(last=False)
        return repeated

    def _keys(self, row: ConversationRow) -> Iterator[tuple[str, str]]:
        if row.user_id is not None:
            yield "user", row.user_id
        if row.session_id is not None:
            yield "session", row.session_id


def gather(conversations: Conversations, series: Sequence[Series], *, within: Span, repeat_ns: int) -> None:
    """Add up what came within a stretch of time in every series; what came before them is looked at for contacts."""
    contacts = Contacts(repeat_ns)
    begun: set[tuple[str | None, str | None]] = set()
    begun_at_ns = 0
    facts: Iterator[ConversationRow | Feedback] = heapq.merge(
        rows_of(conversations, within), feedback_of(conversations, within), key=lambda fact: fact.at_ns
    )
    for fact in facts:
        figures = [found for one in series if (found := one.at(fact.at_ns)) is not None]
        if isinstance(fact, Feedback):
            for one in figures:
                one.add_feedback(fact)
            continue
        begins = fact.at_ns == fact.began_at_ns
        if begins:  # of messages of one moment the first begins
            if fact.at_ns != begun_at_ns:
                begun_at_ns = fact.at_ns
                begun.clear()
            key = conversation_of(fact)
            begins = key not in begun
            begun.add(key)
        repeats = begins and contacts.repeats(fact)
        for one in figures:
            one.add(fact, begins=begins, repeats=repeats)


def conversation_of(row: ConversationRow) -> tuple[str | None, str | None]:
    """What its conversation belongs to: a session, else a correlation id, else only itself."""
    if row.session_id is not None:
        return row.session_id, None
    return None, row.correlation_id if row.correlation_id is not None else row.id


def first_known(days: Sequence[date], found: Sequence[dict[str, Any]]) -> date | None:
    """The first day on which anything was recorded."""
    for day, figures in zip(days, found, strict=True):
        if figures["messages"] or figures["feedback"]["given"] or figures["llm"]["total_requests"]:
            return day
    return None
