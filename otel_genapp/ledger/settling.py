"""What is known of the messages of one session, from its facts and its LLM calls: pure arithmetic.

The result does not depend on the order in which facts arrive, only on their times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from otel_genapp.ledger.conversations import ConversationRow, Happened, Place
from otel_genapp.records import (
    ConversationRecord,
    Feedback,
    LLMAmendment,
    LLMCall,
    Message,
    Outcome,
    UsageRecord,
)

WINDOW = 200
"""Facts of a session that are looked at on either side of what is new: messages further away stay as they are."""

END: Place = (2**63, "")
"""Behind all there is."""

Taken = Mapping[str, Sequence[UsageRecord]]
"""id of a message -> the usage records it took."""


def in_order(facts: Iterable[ConversationRecord]) -> list[ConversationRecord]:
    """Facts in the order in which they count: of one moment, messages come first."""
    return sorted(facts, key=lambda fact: (fact.at_ns, not isinstance(fact, Message), fact.id))


def divided(messages: Iterable[Message], records: Iterable[UsageRecord]) -> dict[str, list[UsageRecord]]:
    """Usage records divided among the messages they may belong to: each to one, none is lost.

    A message takes those that ended since the one before it; what ends after the last belongs to that.
    """
    places = sorted((message.at_ns, message.id) for message in messages)
    taken: dict[str, list[UsageRecord]] = {message_id: [] for _, message_id in places}
    if not places:
        return taken
    for record in records:
        ended_ns = usage_at_ns(record)
        later = (message_id for at_ns, message_id in places if at_ns >= ended_ns)
        taken[next(later, places[-1][1])].append(record)
    return taken


def with_usage(
    row: ConversationRow, records: Sequence[UsageRecord], *, said_ms: float | None
) -> ConversationRow:
    """The row with what these records say; `said_ms` is the response time the application gave."""
    calls = [record for record in records if isinstance(record, LLMCall)]
    tokens = [
        number
        for record in records
        for number in (record.usage.input, record.usage.output)
        if number is not None
    ]
    elapsed_ms = None
    if calls:
        elapsed_ns = max(call.ended_at_ns for call in calls) - min(call.started_at_ns for call in calls)
        elapsed_ms = elapsed_ns / 1e6
    priced = [record for record in records if not record.unpriced]
    return replace(
        row,
        llm_calls=len(calls),
        tokens_used=sum(tokens) if tokens else None,
        cost_nano_usd=sum(record.cost_nano_usd or 0 for record in priced)
        if records and len(priced) == len(records)
        else None,
        response_time_ms=elapsed_ms if said_ms is None else said_ms,
    )


@dataclass(frozen=True, slots=True)
class Window:
    """Facts of a session that are looked at together."""

    facts: Sequence[ConversationRecord]
    begins: bool = True
    """Whether there are none before them in their session."""
    ends: bool = True
    through: Place = END
    """What is touched up to here needs no window of its own."""
    named: Mapping[str, Message] = field(default_factory=dict)
    """id of feedback or an outcome -> the message of its correlation id, which may lie outside."""
    distant: frozenset[str] = frozenset()
    """ids of facts that came elsewhere, and are about a message in here."""

    def messages(self) -> list[Message]:
        """The messages, in the order of time."""
        found = [fact for fact in self.facts if isinstance(fact, Message)]
        return sorted(found, key=lambda message: (message.at_ns, message.id))

    def tells(self, fact: ConversationRecord) -> bool:
        """Whether what a fact made happen is known in here: of an outcome with a session that is where it came."""
        return fact.id not in self.distant or isinstance(fact, Feedback) or fact.session_id is None


class Fate(NamedTuple):
    """What became of a conversation."""

    resolved: bool | None = None
    escalated: bool | None = None
    converted: bool | None = None
    abandoned: bool | None = None
    ended_at_ns: int | None = None

    @classmethod
    def of(cls, row: ConversationRow) -> Fate:
        """What a row says."""
        return cls(row.resolved, row.escalated, row.converted, row.abandoned, row.ended_at_ns)

    def after(self, outcome: Outcome) -> Fate:
        """What it is after an outcome; when it ended is known otherwise."""
        return self._replace(
            resolved=bool(outcome.resolved) if outcome.ends else self.resolved,
            escalated=self.escalated if outcome.escalated is None else outcome.escalated,
            converted=self.converted if outcome.converted is None else outcome.converted,
            abandoned=self.abandoned if outcome.abandoned is None else outcome.abandoned,
        )

    def or_else(self, other: Fate) -> Fate:
        """This, and where it says nothing the other."""
        said = {name: value for name, value in self._asdict().items() if value is not None}
        return other._replace(**said)


@dataclass(slots=True)
class _Talk:
    """A conversation, as far as it lies in a window. `earlier` is a row of it where it began before."""

    began_ns: int
    earlier: ConversationRow | None = None
    messages: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ended_ns: int | None = None
    counted: int | None = None
    """Which of what happened says that it ended."""


@dataclass(slots=True)
class Session:
    """A window of a session being gone through, fact by fact in their order.

    `known` are the rows there are already, by id, and `taken` the usage of the messages for which it
    may have changed. Of a conversation that began before the window `earlier` is the first row, or
    where that is gone another one; `before` is what had become of it until then, if that was looked up. `new` are the ids of facts that are new, `untold` of those nobody has
    counted; `ended_before(user_id, at_ns)` says when the last conversation of a user ended before then,
    in any session. `fates` says what became of conversations, by their first message, as it was found elsewhere.
    """

    window: Window
    known: Mapping[str, ConversationRow]
    taken: Taken
    earlier: ConversationRow | None = None
    before: Fate | None = None
    new: AbstractSet[str] = frozenset()
    untold: AbstractSet[str] = frozenset()
    repeat_ns: int = 0
    ended_before: Callable[[str, int], int | None] = lambda _user_id, _at_ns: None
    fates: Mapping[str, Fate] = field(default_factory=dict)
    rows: dict[str, ConversationRow] = field(default_factory=dict)
    happened: list[Happened] = field(default_factory=list)
    _talks: list[_Talk] = field(default_factory=list)
    _said: list[tuple[str, Feedback | Outcome]] = field(default_factory=list)
    _last: Message | None = None
    _ended_ns: int | None = None

    def settle(self) -> None:
        """Go through all facts of the window."""
        if self.earlier is not None:
            self._talks.append(_Talk(self.earlier.began_at_ns, self.earlier))
        for fact in in_order(self.window.facts):
            if isinstance(fact, Message):
                self._message(fact)
            elif isinstance(fact, Feedback):
                self._feedback(fact)
            else:
                self._outcome(fact)
        for talk in self._talks:
            fate = self._fate(talk)
            for message_id in talk.messages:
                self.rows[message_id] = replace(self.rows[message_id], **fate._asdict())
        self._say()

    def changed(self) -> list[ConversationRow]:
        """The rows that are not as they were."""
        return [row for row in self.rows.values() if self.known.get(row.id) != row]

    def changed_earlier(self) -> Fate | None:
        """What became of the conversation that began before the window, if its first row does not say so."""
        if self.earlier is None or self.earlier.id in self.rows or self.earlier.id in self.fates:
            return None
        fate = self._fate(self._talks[0])
        return fate if fate != Fate.of(self.earlier) else None

    def _message(self, fact: Message) -> None:
        talk = self._talks[-1] if self._talks else None
        if talk is None or talk.ended_ns is not None:
            talk = _Talk(fact.at_ns)
            self._talks.append(talk)
            if fact.id in self.untold and self._repeats(fact):
                self.happened.append(Happened(platform=fact.platform, repeat=True))
        row = ConversationRow(
            id=fact.id,
            at_ns=fact.at_ns,
            user_id=fact.user_id,
            session_id=fact.session_id,
            correlation_id=fact.correlation_id,
            platform=fact.platform,
            intent=fact.intent,
            confidence=fact.confidence,
            response_time_ms=fact.response_time_ms,
            began_at_ns=talk.began_ns,
        )
        known = self.known.get(fact.id)
        if fact.id in self.taken:
            row = with_usage(row, self.taken[fact.id], said_ms=fact.response_time_ms)
        elif known is not None:
            row = replace(
                row,
                llm_calls=known.llm_calls,
                tokens_used=known.tokens_used,
                cost_nano_usd=known.cost_nano_usd,
                response_time_ms=known.response_time_ms,
            )
        self.rows[fact.id] = row
        self._last = fact
        talk.messages.append(fact.id)

    def _repeats(self, fact: Message) -> bool:
        since_ns = fact.at_ns - self.repeat_ns
        if self._ended_ns is not None and self._ended_ns >= since_ns:
            return True
        ended_ns = self.ended_before(fact.user_id, fact.at_ns) if fact.user_id is not None else None
        return ended_ns is not None and ended_ns >= since_ns

    def _feedback(self, fact: Feedback) -> None:
        about = self._about(fact)
        if about is not None:
            self._said.append((about.id, fact))
        if fact.critical and self._tells(fact):
            self.happened.append(Happened(platform=_platform(fact, about), critical=True))

    def _outcome(self, fact: Outcome) -> None:
        about = self._about(fact)
        intents: tuple[tuple[str, bool], ...] = ()
        if fact.intent_correct is not None and about is not None:
            intents = ((about.intent, fact.intent_correct),)
            self._said.append((about.id, fact))
        ended, took_s = False, None
        if fact.id not in self.window.distant:
            ended, took_s = self._befalls(fact)
        if self._tells(fact):
            if ended:
                self._talks[-1].counted = len(self.happened)
            self.happened.append(
                Happened(
                    platform=_platform(fact, about),
                    ended=ended,
                    outcomes=fact.held(),
                    resolution_s=took_s,
                    intents=intents,
                )
            )

    def _befalls(self, fact: Outcome) -> tuple[bool, float | None]:
        """Whether the conversation ends with an outcome, and how long it took until it was resolved so, in seconds."""
        if fact.ends and not self._talks:
            self._talks.append(_Talk(fact.at_ns))  # one whose messages nobody has told of
        if not self._talks:
            return False, None
        talk = self._talks[-1]
        talk.outcomes.append(fact)
        if not fact.ends:
            return False, None
        self._ended_ns = fact.at_ns
        if talk.ended_ns is None:
            talk.ended_ns = fact.at_ns
            took = fact.resolved and (talk.messages or talk.earlier)
            return True, (fact.at_ns - talk.began_ns) / 1e9 if took else None
        if fact.id not in self.untold and talk.counted is not None:
            # It was counted when this one came.
            counted = self.happened[talk.counted]
            took_s = None if fact.resolved else counted.resolution_s
            self.happened[talk.counted] = replace(counted, ended=False, resolution_s=took_s)
            talk.counted = None
        return False, None

    def _fate(self, talk: _Talk) -> Fate:
        """What became of a conversation; where its beginning or its end lies outside, with what is known of that."""
        first = talk.earlier.id if talk.earlier is not None else talk.messages[0] if talk.messages else ""
        if first in self.fates:
            return self.fates[first]
        is_cut = talk is self._talks[-1] and not self.window.ends
        rows = (self.known[one] for one in talk.messages if one in self.known)
        known = talk.earlier or (next(rows, None) if is_cut else None)
        fate = Fate.of(known) if known is not None else Fate()
        if talk.earlier is not None and self.before is not None and not is_cut:
            fate = self.before
        if not is_cut or (fate.ended_at_ns is not None and fate.ended_at_ns <= self._until_ns()):
            fate = fate._replace(resolved=None, ended_at_ns=None)
        holds = not is_cut
        for outcome in talk.outcomes:
            # Where the end is not seen, later ones may have said otherwise since, but not what a new one says.
            holds = holds or outcome.id in self.new
            said = fate.after(outcome)
            fate = said if holds else fate.or_else(said)
        return fate if talk.ended_ns is None else fate._replace(ended_at_ns=talk.ended_ns)

    def _until_ns(self) -> int:
        return max(fact.at_ns for fact in self.window.facts if fact.id not in self.window.distant)

    def _say(self) -> None:
        """Put what was said of messages into their rows."""
        cut = None
        if self._last is not None and not self.window.ends and self._last.id in self.known:
            # More may have been said of it, further on.
            cut, known = self._last.id, self.known[self._last.id]
            self.rows[cut] = replace(
                self.rows[cut],
                satisfaction_score=known.satisfaction_score,
                nps=known.nps,
                quality=known.quality,
                critical=known.critical,
                intent_correct=known.intent_correct,
            )
        for message_id, fact in self._said:
            if message_id in self.rows and (message_id != cut or fact.id in self.new):
                self.rows[message_id] = _with_said(self.rows[message_id], fact)

    def _about(self, fact: Feedback | Outcome) -> Message | None:
        """The message a fact is about: that of its correlation id, else the last one."""
        return self.window.named.get(fact.id, self._last)

    def _tells(self, fact: Feedback | Outcome) -> bool:
        return fact.id in self.untold and self.window.tells(fact)


def named(fact: Feedback | Outcome, messages: Iterable[Message]) -> Message | None:
    """Which of the messages with its correlation id a fact is about: the last one before it, in its own session if any."""
    found = list(messages)
    mine = [one for one in found if one.session_id == fact.session_id] or found
    before = [one for one in mine if one.at_ns <= fact.at_ns]
    if before:
        return max(before, key=lambda one: (one.at_ns, one.id))
    return min(mine, key=lambda one: (one.at_ns, one.id), default=None)


def _with_said(row: ConversationRow, fact: Feedback | Outcome) -> ConversationRow:
    if isinstance(fact, Outcome):
        return replace(row, intent_correct=fact.intent_correct)
    return replace(
        row,
        satisfaction_score=row.satisfaction_score if fact.csat is None else fact.csat,
        nps=row.nps if fact.nps is None else fact.nps,
        quality=row.quality if fact.quality is None else fact.quality,
        critical=row.critical or fact.critical,
    )


def _platform(fact: Feedback | Outcome, about: Message | None) -> str:
    if fact.platform is not None:
        return fact.platform
    return about.platform if about is not None else "unknown"


def usage_at_ns(record: UsageRecord) -> int:
    """When a usage record counts: at the call's end."""
    return record.at_ns if isinstance(record, LLMAmendment) else record.ended_at_ns
