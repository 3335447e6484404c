"""Which messages new records may change, and what becomes of them: the same for every store.

A store gives a `Shelf`, in whose view the new records are stored already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Protocol

from otel_genapp.ledger.conversations import ConversationRow, Happened, Place
from otel_genapp.ledger.settling import (
    END,
    WINDOW,
    Fate,
    Session,
    Window,
    divided,
    in_order,
    named,
    usage_at_ns,
)
from otel_genapp.records import ConversationRecord, Feedback, LLMCall, Message, Outcome, UsageRecord

USAGE_LIMIT = 10_000
"""Usage records of one correlation id that are added up, those of more are not said; and calls of a session, the last."""
_HOPS = 16
_LOOKED_BACK = 10 * WINDOW
"""Facts of a conversation that are looked through when something late may have made two of it."""
_AT_ONE_MOMENT = 16
"""Facts of one session and nanosecond among which the first message is looked for."""

Key = tuple[str | None, str | None]
"""A session, or where there is none a correlation id: whose facts are gone through together."""


class Shelf(Protocol):
    """What a store has of conversations."""

    def messages_of(self, correlation_ids: Collection[str]) -> Sequence[Message]:
        """The messages with these correlation ids, in any session."""

    def without_correlation(self, session_ids: Collection[str]) -> Collection[str]:
        """Those of these sessions that have messages without a correlation id."""

    def facts_until(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        """The latest facts of a session before a place, in any order."""

    def facts_from(self, session_id: str, place: Place, *, limit: int) -> Sequence[ConversationRecord]:
        """The first facts of a session from a place on, in any order."""

    def facts_about(self, correlation_ids: Collection[str]) -> Sequence[ConversationRecord]:
        """The feedback and the outcomes with these correlation ids, of any session and of none."""

    def rows_of(self, ids: Collection[str]) -> Mapping[str, ConversationRow]:
        """The rows of these messages, as far as there are any."""

    def usage_of(self, correlation_id: str, *, limit: int) -> Sequence[UsageRecord]:
        """Usage records with that correlation id, of sessions that were cleared none."""

    def calls_of(
        self, session_id: str, *, after_ns: int | None, until_ns: int | None, limit: int
    ) -> Sequence[LLMCall]:
        """Calls of a session that ended after one time and not after another, those that ended last first."""

    def ended_before(self, user_id: str, at_ns: int) -> int | None:
        """When the last conversation of a user ended before then, in any session."""

    def save(self, rows: Sequence[ConversationRow]) -> None:
        """Put these in the place of the rows with their ids."""


def settle(
    shelf: Shelf,
    facts: Sequence[ConversationRecord],
    *,
    usage: Iterable[UsageRecord],
    repeat_ns: int,
    rows: Iterable[ConversationRow] = (),
) -> list[Happened]:
    """Bring the rows up to date with facts and usage records that are new; returns what they made happen.

    What the messages of `rows` took is worked out anew.
    """
    found = _Touched(shelf)
    for record in usage:
        found.usage(record)
    for fact in facts:
        found.fact(fact)
    for row in rows:
        found.row(row)
    found.look_around()
    ids = frozenset(fact.id for fact in facts)
    work = _Work(shelf, found, new=ids, untold=set(ids), repeat_ns=repeat_ns)
    for fact in found.alone:
        work.settle((None, None), Window([fact]))
    # By time: whether somebody comes again is seen in rows of what was before.
    for key in sorted(found.places, key=lambda one: min(found.places[one])):
        left = sorted(found.places[key])
        while left:
            window = found.gather(key, left)
            work.settle(key, window)
            left = [place for place in left if place > window.through]
    return work.happened


@dataclass(slots=True)
class _Work:
    """Going through windows one after another."""

    shelf: Shelf
    found: _Touched
    new: AbstractSet[str]
    untold: set[str]
    repeat_ns: int
    happened: list[Happened] = field(default_factory=list)

    def settle(self, key: Key, window: Window, *, fates: Mapping[str, Fate] | None = None) -> None:
        """Bring the rows of a window up to date, and the first one of a conversation that began before it."""
        messages = window.messages()
        known = self.shelf.rows_of([message.id for message in messages])
        earlier = self._earlier(messages, known=known) if not window.begins else None
        session = Session(
            window=window,
            known=known,
            taken=self.found.taken(key, window),
            earlier=earlier,
            before=self._before(earlier, window) if earlier is not None else None,
            new=self.new,
            untold=self.untold,
            repeat_ns=self.repeat_ns,
            ended_before=self.shelf.ended_before,
            fates=fates or {},
        )
        session.settle()
        self.happened += session.happened
        changed = session.changed()
        if changed:
            self.shelf.save(changed)
        # A window beside this one does not tell of it again.
        self.untold -= {fact.id for fact in window.facts if window.tells(fact)}
        fate = session.changed_earlier()
        if fate is not None and earlier is not None and fates is None:
            # Reports look at the first row. It is made anew of what is read now, never of an older row.
            self.settle(key, self.found.gather(key, [earlier.place]), fates={earlier.id: fate})

    def _before(self, first: ConversationRow, window: Window) -> Fate | None:
        """What had become of a conversation before a window, where its row may say what is another one's from now on."""
        facts = in_order(fact for fact in window.facts if fact.id not in window.distant)
        said = [number for number, fact in enumerate(facts) if isinstance(fact, Outcome)]
        if not said or all(fact.id not in self.new for fact in facts[: said[-1]]):
            return None  # nothing came late
        found = self.shelf.facts_from(first.session_id or "", first.place, limit=_LOOKED_BACK)
        fate = Fate()
        for fact in in_order(found):
            if fact.id == facts[0].id:
                return fate
            if isinstance(fact, Outcome):
                fate = fate.after(fact)
        return None

    def _earlier(
        self, messages: Sequence[Message], *, known: Mapping[str, ConversationRow]
    ) -> ConversationRow | None:
        """The first row of the conversation that goes on with these messages; another one where that is gone."""
        # Another worker may have added messages that have no row yet.
        row = next((known[message.id] for message in messages if message.id in known), None)
        if row is None or row.session_id is None or row.began_at_ns >= messages[0].at_ns:
            return None
        place = (row.began_at_ns, "")
        for _ in range(_HOPS):
            first = self._first(row.session_id, place)
            if first is None or first.place >= row.place:
                return row if first is None else None
            if first.began_at_ns < first.at_ns:
                if place == (first.began_at_ns, ""):  # it is too old by now
                    break
                place = (first.began_at_ns, "")  # something came before it meanwhile
            elif first.ended_at_ns is not None and first.ended_at_ns < row.at_ns:  # the next one, then
                place = (first.ended_at_ns + 1, "")
            else:
                return first
        return row

    def _first(self, session_id: str, place: Place) -> ConversationRow | None:
        """The row of the first message of a session from a place on."""
        facts = self.shelf.facts_from(session_id, place, limit=_AT_ONE_MOMENT)
        messages = Window(facts).messages()
        return self.shelf.rows_of([messages[0].id]).get(messages[0].id) if messages else None


@dataclass(slots=True)
class _Touched:
    """What new records may have changed, and where that is."""

    shelf: Shelf
    places: dict[Key, dict[Place, None]] = field(default_factory=dict)
    alone: list[ConversationRecord] = field(default_factory=list)
    """Facts of no session and no correlation id: nothing else has to do with them."""
    _correlations: set[str] = field(default_factory=set)
    """Those whose calls may be divided otherwise now."""
    _claims: set[str] = field(default_factory=set)
    """Those of new messages: what others had of them until now is theirs."""
    _named: list[Feedback | Outcome] = field(default_factory=list)
    _calls: dict[str, set[Place]] = field(default_factory=dict)
    """When calls ended that may be divided otherwise now, by session."""
    _unsaid: set[str] = field(default_factory=set)
    """Sessions in which messages without a correlation id may have changed."""
    _shares: dict[str, Sequence[UsageRecord]] = field(default_factory=dict)

    def usage(self, record: UsageRecord) -> None:
        if record.correlation_id is not None:
            self._correlations.add(record.correlation_id)
        if record.session_id is not None:
            self._calls.setdefault(record.session_id, set()).add((usage_at_ns(record), ""))

    def fact(self, fact: ConversationRecord) -> None:
        is_named = fact.correlation_id is not None
        # Feedback that names its message changes that one only.
        if fact.session_id is not None and not (is_named and isinstance(fact, Feedback)):
            self._touch((fact.session_id, None), (fact.at_ns, fact.id))
        elif fact.session_id is None and not is_named:
            self.alone.append(fact)
        if isinstance(fact, Message):
            if fact.correlation_id is not None:
                self._claims.add(fact.correlation_id)
            elif fact.session_id is not None:
                self._unsaid.add(fact.session_id)
        elif fact.correlation_id is not None:
            self._named.append(fact)

    def row(self, row: ConversationRow) -> None:
        if row.correlation_id is not None:
            self._correlations.add(row.correlation_id)
        elif row.session_id is not None:
            self._unsaid.add(row.session_id)
            self._touch((row.session_id, None), row.place)

    def look_around(self) -> None:
        """Find the messages that new usage, and facts from elsewhere, belong to, and those they belonged to."""
        self._correlations |= self._claims
        asked = self._correlations | {fact.correlation_id or "" for fact in self._named}
        by_correlation: dict[str, list[Message]] = {}
        for message in self.shelf.messages_of(asked) if asked else ():
            by_correlation.setdefault(message.correlation_id or "", []).append(message)
        for correlation_id in self._correlations & by_correlation.keys():
            self._touch_messages(by_correlation[correlation_id])
            self._share(by_correlation[correlation_id], correlation_id)
        for fact in self._named:
            self._find(fact, by_correlation.get(fact.correlation_id or "", []))
        for other in self.shelf.facts_about(self._claims) if self._claims else ():
            if other.session_id is not None:  # it was about another message, or none
                self._touch((other.session_id, None), (other.at_ns, other.id))
        unsure = self._calls.keys() - self._unsaid
        if unsure:
            self._unsaid |= set(self.shelf.without_correlation(unsure))
        for session_id in self._unsaid & self._calls.keys():
            for place in self._calls[session_id]:
                self._touch((session_id, None), place)

    def _find(self, fact: Feedback | Outcome, messages: Sequence[Message]) -> None:
        """Touch what a fact may be about, of the messages with its correlation id."""
        place = (fact.at_ns, fact.id)
        if fact.session_id is None:
            self._touch_messages(messages)
            if not messages:
                self._touch((None, fact.correlation_id), place)
            return
        meant = named(fact, messages)
        if meant is not None:
            self._touch_messages([meant])
        else:
            self._touch((fact.session_id, None), place)

    def gather(self, key: Key, places: Sequence[Place]) -> Window:
        """The facts around the first of these places, and around others as far as they are near."""
        session_id, correlation_id = key
        if session_id is None:
            ids = [correlation_id or ""]
            facts = [fact for fact in self.shelf.messages_of(ids) if fact.session_id is None]
            return self._with_others(Window(facts), session_id, ids=ids)
        limit = WINDOW + len(places)
        before = self.shelf.facts_until(session_id, places[0], limit=WINDOW)
        after = self.shelf.facts_from(session_id, places[0], limit=limit)
        found = sorted([*before, *after], key=lambda fact: (fact.at_ns, fact.id))
        ends = len(after) < limit
        window = Window(
            found,
            begins=len(before) < WINDOW,
            ends=ends,
            # What is touched further on needs to see as much behind it.
            through=END if ends else max(places[0], (found[-WINDOW].at_ns, found[-WINDOW].id)),
        )
        own = {fact.correlation_id for fact in found if isinstance(fact, Message)}
        return self._with_others(window, session_id, ids=[one for one in own if one is not None])

    def taken(self, key: Key, window: Window) -> dict[str, Sequence[UsageRecord]]:
        """The usage of the messages of a window for which it may have changed."""
        session_id, _ = key
        messages = window.messages()
        taken = {one.id: self._shares[one.id] for one in messages if one.id in self._shares}
        if session_id is not None and session_id in self._unsaid:
            taken.update(self._of_session(session_id, window))
        return taken

    def _touch(self, key: Key, place: Place) -> None:
        self.places.setdefault(key, {})[place] = None

    def _touch_messages(self, messages: Iterable[Message]) -> None:
        for message in messages:
            key = (message.session_id, None if message.session_id is not None else message.correlation_id)
            self._touch(key, (message.at_ns, message.id))

    def _with_others(self, window: Window, session_id: str | None, *, ids: Sequence[str]) -> Window:
        """The window with facts from elsewhere that are about its messages, which have these correlation ids."""
        seen = {fact.id for fact in window.facts}
        others = [fact for fact in self.shelf.facts_about(ids) if fact.id not in seen] if ids else []
        facts = [*in_order(window.facts), *others]
        meant: dict[str, Message] = {}
        unsure: list[Feedback | Outcome] = []
        own: dict[str, Message] = {}
        for fact in facts:
            if fact.correlation_id is None:
                continue
            if isinstance(fact, Message):
                own[fact.correlation_id] = fact
            elif fact.id in seen and fact.correlation_id in own:
                meant[fact.id] = own[fact.correlation_id]
            else:
                unsure.append(fact)
        messages: dict[str, list[Message]] = {}
        asked = {fact.correlation_id or "" for fact in unsure}
        for message in self.shelf.messages_of(asked) if asked else ():
            messages.setdefault(message.correlation_id or "", []).append(message)
        for fact in unsure:
            one = named(fact, messages.get(fact.correlation_id or "", []))
            if one is not None:
                meant[fact.id] = one
        return replace(
            window,
            facts=facts,
            named=meant,
            distant=frozenset(fact.id for fact in others if not _is_here(fact, session_id, window=window)),
        )

    def _share(self, messages: Sequence[Message], correlation_id: str) -> None:
        records = self.shelf.usage_of(correlation_id, limit=USAGE_LIMIT + 1)
        if len(records) <= USAGE_LIMIT:
            self._shares.update(divided(messages, records))
        if correlation_id in self._claims:
            for record in records:
                if record.session_id is not None:
                    self._calls.setdefault(record.session_id, set()).add((usage_at_ns(record), ""))

    def _of_session(self, session_id: str, window: Window) -> dict[str, list[UsageRecord]]:
        """What the messages without a correlation id took: the session's calls that no other message claims."""
        messages = [message for message in window.messages() if message.correlation_id is None]
        # What lies beyond a window belongs to messages that are not looked at.
        after_ns = until_ns = None
        if messages and not window.begins:
            after_ns, messages = messages[0].at_ns, messages[1:]
        if messages and not window.ends:
            until_ns = messages[-1].at_ns
        if not messages:
            return {}
        calls = self.shelf.calls_of(session_id, after_ns=after_ns, until_ns=until_ns, limit=USAGE_LIMIT)
        if len(calls) == USAGE_LIMIT:
            # There may be more, further back: of the messages there it is not known what they took.
            oldest_ns = usage_at_ns(calls[-1])
            known = bisect_left([message.at_ns for message in messages], oldest_ns)
            if known == len(messages):
                return {}
            after_ns, messages = messages[known].at_ns, messages[known + 1 :]
            calls = [call for call in calls if usage_at_ns(call) > after_ns]
        ids = {call.correlation_id for call in calls if call.correlation_id is not None}
        claimed = {message.correlation_id for message in self.shelf.messages_of(ids)} if ids else set()
        free = [call for call in calls if call.correlation_id is None or call.correlation_id not in claimed]
        return divided(messages, free)


def _is_here(fact: ConversationRecord, session_id: str | None, *, window: Window) -> bool:
    """Whether a fact from elsewhere befalls the conversations of a window too: it has no session, and came in its time."""
    if fact.session_id is not None or session_id is None:
        return fact.session_id is None
    times = [one.at_ns for one in window.facts]
    return (window.begins or fact.at_ns >= times[0]) and (window.ends or fact.at_ns <= times[-1])
