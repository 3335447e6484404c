"""Taking records into the tables, so that whatever is interrupted can be done again.

First the rows of records, which alone decide what is counted; then what follows from them, their
detail and their sessions; and at last how far into the journals that goes. Whoever comes again finds
the rows there, and adds the rest as it was meant the first time: under the number and in the life of
its session that the first copy was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from otel_genapp.ledger.clickhouse.facts import KeyedFact, fact_row
from otel_genapp.ledger.clickhouse.rows import Keyed, Standing, call_row, hex_of, record_row, session_rows
from otel_genapp.ledger.clickhouse.schema import CALLS, FACTS, META, POSITIONS, RECORDS, SESSIONS
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.records import ConversationRecord, LLMCall

AT_ONCE = 10_000
"""Records that are looked up in one query, 90 bytes each."""

# Keys come packed into one text: a list of so many would take the server longer to read than to look up.
_LOOK_UP = f"""\
SELECT 'now' AS kind, toFixedString('', 16) AS key, toUnixTimestamp64Micro(now64(6)) AS first, toInt64(0) AS second
UNION ALL
SELECT name, toFixedString('', 16), max(value), toInt64(0) FROM {META.name} GROUP BY name
UNION ALL
SELECT 'epoch', session, max(epoch), toInt64(0) FROM {SESSIONS.name}
WHERE session IN (SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '<sessions>'))), 16))
GROUP BY session
UNION ALL
SELECT 'record', identity, min(number), argMin(epoch, number) FROM {RECORDS.name}
WHERE (hour, session, at_ns, identity) IN (
    SELECT toDateTime(reinterpretAsUInt32(substring(packed, 1, 4)), 'UTC'),
        toFixedString(substring(packed, 5, 16), 16), reinterpretAsInt64(substring(packed, 21, 8)),
        toFixedString(substring(packed, 29, 16), 16)
    FROM (SELECT unhex(arrayJoin(splitByChar(',', '<places>'))) AS packed)
)
GROUP BY identity"""  # noqa: S608 - our own names

_MESSAGES = f"""
UNION ALL
SELECT 'messages', toFixedString('', 16), toInt64(1), toInt64(0) FROM (SELECT 1 FROM {FACTS.name} WHERE kind = 0 LIMIT 1)"""  # noqa: S608 - as above
_LOOK_UP_FACTS = f"""
UNION ALL
SELECT 'life', session, max(epoch), toInt64(0) FROM {FACTS.name}
WHERE session IN (SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '<sessions>'))), 16))
GROUP BY session
UNION ALL
SELECT 'fact', identity, min(number), argMin(epoch, number) FROM {FACTS.name}
WHERE (hour, session, at_ns, identity) IN (
    SELECT toDateTime(reinterpretAsUInt32(substring(packed, 1, 4)), 'UTC'),
        toFixedString(substring(packed, 5, 16), 16), reinterpretAsInt64(substring(packed, 21, 8)),
        toFixedString(substring(packed, 29, 16), 16)
    FROM (SELECT unhex(arrayJoin(splitByChar(',', '<places>'))) AS packed)
)
GROUP BY identity"""  # noqa: S608 - as above


@dataclass(frozen=True, slots=True)
class Found:
    """What is in the tables already."""

    meta: dict[str, int] = field(default_factory=dict)
    """What the tables say about themselves, and `now`: the server's clock, UTC microseconds."""
    epochs: dict[bytes, int] = field(default_factory=dict)
    """The present lives of sessions."""
    standing: dict[bytes, Standing] = field(default_factory=dict)
    """By the identity of a record."""
    lives: dict[bytes, int] = field(default_factory=dict)
    """The present lives of sessions as conversations: facts are not cleared when a session's calls are old."""
    known: dict[bytes, Standing] = field(default_factory=dict)
    """By the identity of a fact."""

    @property
    def has_messages(self) -> bool:
        """Whether there is any message that usage could belong to."""
        return "messages" in self.meta


def look_up(server: Server, items: Sequence[Keyed] = (), *, facts: Sequence[KeyedFact] = ()) -> Found:
    """What there is of these records."""
    query = _of(_LOOK_UP, items) + _MESSAGES + (_of(_LOOK_UP_FACTS, facts) if facts else "")
    found = Found()
    for kind, key, first, second in server.rows(query):
        if kind == "record":
            found.standing[key] = (first, second)
        elif kind == "epoch":
            found.epochs[key] = first
        elif kind == "fact":
            found.known[key] = (first, second)
        elif kind == "life":
            found.lives[key] = first
        else:
            found.meta[kind] = first
    return found


def add(server: Server, items: Sequence[Keyed], *, found: Found, first_number: int) -> int:
    """Add those that are not in `found`, numbered from `first_number` on, and all that follows from any.

    Returns how many were new.
    """
    standing, fresh = found.standing, list[Keyed]()
    for item in items:
        if item.identity not in standing:
            standing[item.identity] = (first_number + len(fresh), found.epochs.get(item.session, 0))
            fresh.append(item)
    server.insert(RECORDS, (record_row(item, standing[item.identity]) for item in fresh))
    # Detail of a life that is over has been removed, and is not brought back.
    alive = [
        (item, standing[item.identity])
        for item in items
        if standing[item.identity][1] >= found.epochs.get(item.session, 0)
    ]
    server.insert(CALLS, (call_row(*each) for each in alive if isinstance(each[0].record, LLMCall)))
    server.insert(SESSIONS, session_rows(alive))
    return len(fresh)


def add_facts(
    server: Server, items: Sequence[KeyedFact], *, found: Found, first_number: int
) -> list[ConversationRecord]:
    """Add those facts that are not in `found`, numbered from `first_number` on, and return them."""
    fresh = [item for item in items if item.identity not in found.known]
    server.insert(
        FACTS,
        (
            fact_row(item, (number, found.lives.get(item.session, 0)))
            for number, item in enumerate(fresh, first_number)
        ),
    )
    return [item.fact for item in fresh]


def go_through(server: Server, through: Mapping[str, int]) -> None:
    """Remember how far into the journals the tables are."""
    server.insert(POSITIONS, ((segment, end, 0) for segment, end in through.items()))


def in_parts(
    items: Sequence[Keyed], facts: Sequence[KeyedFact]
) -> Iterator[tuple[Sequence[Keyed], Sequence[KeyedFact]]]:
    """The records, as many at a time as are looked up at once; at least one part."""
    for start in range(0, max(len(items), len(facts), 1), AT_ONCE):
        yield items[start : start + AT_ONCE], facts[start : start + AT_ONCE]


def _of(query: str, items: Sequence[Keyed] | Sequence[KeyedFact]) -> str:
    sessions = hex_of({item.session for item in items})
    return query.replace("<sessions>", sessions).replace("<places>", hex_of(map(_packed, items)))


def _packed(item: Keyed | KeyedFact) -> bytes:
    hour, _, at_ns, _ = item.place
    packed: bytes = hour.to_bytes(4, "little") + item.session + at_ns.to_bytes(8, "little", signed=True)
    return packed + item.identity
