"""Facts of conversations as rows, and the rows of `conversation_metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from otel_genapp.ledger import codec
from otel_genapp.ledger.clickhouse.rows import (
    NOBODY,
    NUMBER_LIMIT,
    UNBOUND,
    Standing,
    correlation_key,
    hash_of,
    hour_of,
    said,
    session_key,
    stored,
    within,
)
from otel_genapp.ledger.clickhouse.schema import METRICS
from otel_genapp.ledger.clickhouse.server import Row
from otel_genapp.ledger.conversations import ConversationRow
from otel_genapp.records import ConversationRecord, Feedback, Message, Outcome

KINDS: Mapping[type[ConversationRecord], int] = {Message: 0, Feedback: 1, Outcome: 2}
CLEARED = 3
"""The `kind` of a row that ends a session's life."""
GONE = 2**64 - 1
"""The `version` of a row that says that a message is gone: no id is given twice, so it is the last."""

_TEXTS = frozenset({"id", "user_id", "platform", "intent", "session_id", "correlation_id"})
_OURS = frozenset({"timestamp", "cost_usd", "version", "is_gone"})
COLUMNS = tuple(column.name for column in METRICS.columns if column.name not in _OURS)
"""The columns that are fields of a `ConversationRow`."""


@dataclass(slots=True)
class KeyedFact:
    """A fact, what identifies it, and where it is in the tables."""

    fact: ConversationRecord
    session: bytes
    identity: bytes

    @property
    def place(self) -> Row:
        """Where its row is: hour, session, at_ns, identity."""
        at_ns = within(self.fact.at_ns)
        return hour_of(at_ns), self.session, at_ns, self.identity


def keyed_facts(facts: Iterable[ConversationRecord]) -> list[KeyedFact]:
    """The facts, each once."""
    found: dict[bytes, KeyedFact] = {}
    for fact in facts:
        identity = hash_of(fact.id)
        if identity not in found:
            found[identity] = KeyedFact(fact, session_key(fact.session_id), identity)
    return list(found.values())


def fact_row(item: KeyedFact, standing: Standing) -> Row:
    """Its row; of a fact without a session the life is the only one."""
    fact, (number, epoch) = item.fact, standing
    return (
        *item.place,
        number,
        0 if item.session == UNBOUND else epoch,
        NUMBER_LIMIT - number,
        KINDS[type(fact)],
        int(isinstance(fact, Outcome) and fact.ends),
        correlation_key(fact.correlation_id),
        person_key(fact.user_id),
        stored(fact.id),
        codec.encode(fact).decode("ascii"),
    )


def person_key(user_id: str | None) -> bytes:
    """The `person` of a user; zeros where there is none."""
    return NOBODY if user_id is None else hash_of(user_id)


def ending_row(session: bytes, *, epoch: int) -> Row:
    """That a session's conversations up to this life, which is a time in microseconds, are cleared."""
    at_ns = within(epoch * 1000)
    identity = hash_of(f"{session.hex()}:{epoch}")
    place = (hour_of(at_ns), session, at_ns, identity)
    return (*place, epoch, epoch, NUMBER_LIMIT - epoch, CLEARED, 0, NOBODY, NOBODY, "", "")


def metrics_row(row: ConversationRow, *, version: int) -> Row:
    """The row of a message as people read it."""
    values: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS}
    values.update((name, stored(values[name])) for name in _TEXTS if values[name] is not None)
    values.update((name, within(values[name])) for name in ("at_ns", "began_at_ns"))
    values["timestamp"] = timestamp_of(row.at_ns)
    values["cost_usd"] = None if row.cost_nano_usd is None else row.cost_nano_usd / 1e9
    values.update(version=version, is_gone=0)
    return tuple(values[column.name] for column in METRICS.columns)


def gone_row(message: Message) -> Row:
    """That a message is gone."""
    gone = ConversationRow(id=message.id, at_ns=message.at_ns, platform="", intent="")
    *values, _, _ = metrics_row(gone, version=0)
    return (*values, GONE, 1)


def row_of(values: Sequence[Any]) -> ConversationRow:
    """The row that `metrics_row` made these `COLUMNS` of."""
    found = dict(zip(COLUMNS, values, strict=True))
    found.update((name, said(found[name])) for name in _TEXTS if found[name] is not None)
    return ConversationRow(**found)


def timestamp_of(at_ns: int) -> int:
    """A time in microseconds, as a table holds it: not before 1970."""
    return max(within(at_ns) // 1000, 0)


def decoded(texts: Iterable[str]) -> Iterator[ConversationRecord]:
    """The facts in these texts, but for those that only a newer version can read."""
    for text in texts:
        with suppress(codec.DecodeError):
            record = codec.decode(text.encode("ascii"))
            if isinstance(record, ConversationRecord):
                yield record
