"""A session's row, and what records add to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from otel_genapp import semconv
from otel_genapp.ledger.rollup import MODELS_KEPT, USERS_KEPT, Rollup
from otel_genapp.ledger.sql.statements import Row
from otel_genapp.ledger.sql.sums import from_row, to_row
from otel_genapp.ledger.sql.texts import said, stored
from otel_genapp.records import UsageRecord

UNBOUND = "-"
"""The `session_key` of calls without a session."""


def key_of(session_id: str | None) -> str:
    """The `session_key` of a session."""
    return UNBOUND if session_id is None else f"s{stored(session_id)}"


def keys_of(session_id: str) -> tuple[str, ...]:
    """The keys a session of this id, as it is asked for, may have; the likeliest first."""
    key = key_of(session_id)
    return (key, UNBOUND) if session_id == semconv.NO_SESSION else (key,)


def id_of(key: str) -> str:
    """The session id of a key."""
    return semconv.NO_SESSION if key == UNBOUND else said(key[1:])


@dataclass(slots=True)
class Session:
    """A row of sessions."""

    id: int
    key: str
    number: int = 0
    sums: Rollup = field(default_factory=Rollup)
    models: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Session:
        """The session of a row."""
        return cls(row[0], row[1], row[2], from_row(row), _names_in(row[3]), _names_in(row[4]))

    def row(self) -> Row:
        """The row it is kept as."""
        names = _text_of(self.models), _text_of(self.users)
        return (self.id, self.key, self.number, *names, *to_row(self.sums))

    def add(self, number: int, record: UsageRecord) -> None:
        """Fold a record in."""
        self.number = number
        self.sums.add(record)
        if record.model not in self.models and len(self.models) < MODELS_KEPT:
            self.models = (*self.models, record.model)
        user_id = record.user_id
        if user_id is not None and user_id not in self.users and len(self.users) < USERS_KEPT:
            self.users = (*self.users, user_id)


# Most sessions have the same few names.
@lru_cache(256)
def _names_in(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(256)
def _text_of(names: tuple[str, ...]) -> str:
    return json.dumps(names)
