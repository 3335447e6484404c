"""A batch of records as what it adds to the tables' sums."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, delete, insert, select, tuple_

from otel_genapp import semconv
from otel_genapp.ledger.rollup import MODELS_KEPT, USERS_KEPT, Rollup
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.sums import from_row, to_row
from otel_genapp.records import LLMCall, Record

UNBOUND = "-"
"""The `session_key` of calls without a session."""
DIFFERENT_MODELS = 500
"""Past so many, the sums of further models are kept as one."""
_KEYS_AT_ONCE = 200
_MINUTE_NS = 60_000_000_000

Key = TypeVar("Key", bound=Hashable)


def plain(text: str) -> str:
    """Text as every database can hold it: PostgreSQL knows no NUL, no driver lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def key_of(session_id: str | None) -> str:
    """The `session_key` of a session."""
    return UNBOUND if session_id is None else f"s{plain(session_id)}"


def at_ns(record: Record) -> int:
    """When a record counts: at the call's end."""
    return record.ended_at_ns if isinstance(record, LLMCall) else record.at_ns


def add(connection: Connection, numbered: Sequence[tuple[int, Record]]) -> None:
    """Add records, none of which was added before, to the sums of sessions, models and minutes."""
    known = {
        tuple(row) for row in connection.execute(select(schema.models.c.provider, schema.models.c.model))
    }
    by_session: dict[str, list[tuple[int, Record]]] = {}
    by_model: dict[tuple[str, str, int], Rollup] = {}
    by_minute: dict[tuple[int, str, str, int], Rollup] = {}
    for number, record in numbered:
        model = (plain(record.provider), plain(record.model))
        if model not in known:
            if len(known) >= DIFFERENT_MODELS:
                model = (model[0], semconv.OVERFLOW)
            known.add(model)
        bound = int(record.session_id is not None)
        by_session.setdefault(key_of(record.session_id), []).append((number, record))
        by_model.setdefault((*model, bound), Rollup()).add(record)
        by_minute.setdefault((at_ns(record) // _MINUTE_NS, *model, bound), Rollup()).add(record)
    _merge(connection, schema.models, columns=("provider", "model", "bound"), sums=by_model)
    _merge(connection, schema.minutes, columns=("minute", "provider", "model", "bound"), sums=by_minute)
    _add_to_sessions(connection, by_session)


def _merge(
    connection: Connection, table: Table, *, columns: tuple[str, ...], sums: Mapping[Any, Rollup]
) -> None:
    rows = _rows(connection, table, columns=columns, keys=sums)
    merged = []
    for key, rollup in sums.items():
        if key in rows:
            before = from_row(rows[key])
            before.merge(rollup)
            rollup = before  # noqa: PLW2901 - the sum of both
        merged.append({**dict(zip(columns, key, strict=True)), **to_row(rollup)})
    _replace(connection, table, columns=columns, rows=merged, known=rows)


def _add_to_sessions(connection: Connection, groups: Mapping[str, list[tuple[int, Record]]]) -> None:
    table = schema.sessions
    rows = _rows(connection, table, columns=("session_key",), keys=[(key,) for key in groups])
    merged = []
    for key, numbered in groups.items():
        row = rows.get((key,))
        sums = Rollup() if row is None else from_row(row)
        models = {} if row is None else dict.fromkeys(json.loads(row["models"]))
        users = {} if row is None else dict.fromkeys(json.loads(row["users"]))
        for _, record in numbered:
            sums.add(record)
            if len(models) < MODELS_KEPT:
                models[record.model] = None
            if record.user_id is not None and len(users) < USERS_KEPT:
                users[record.user_id] = None
        merged.append({
            "session_key": key,
            "number": numbered[-1][0],
            "models": json.dumps(list(models)),
            "users": json.dumps(list(users)),
            **to_row(sums),
        })  # fmt: skip
    _replace(connection, table, columns=("session_key",), rows=merged, known=rows)


def _rows(
    connection: Connection, table: Table, *, columns: tuple[str, ...], keys: Iterable[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Mapping[Any, Any]]:
    found: dict[tuple[Any, ...], Mapping[Any, Any]] = {}
    for some in in_parts(list(keys)):
        for row in connection.execute(select(table).where(_is_one_of(table, columns, keys=some))).mappings():
            found[tuple(row[name] for name in columns)] = row
    return found


def _replace(
    connection: Connection,
    table: Table,
    *,
    columns: tuple[str, ...],
    rows: list[dict[str, Any]],
    known: Mapping[tuple[Any, ...], Any],
) -> None:
    """Only one writer is at work, so removing and inserting is what it looks like."""
    for some in in_parts(list(known)):
        connection.execute(delete(table).where(_is_one_of(table, columns, keys=some)))
    if rows:
        connection.execute(insert(table), rows)


def _is_one_of(table: Table, columns: tuple[str, ...], *, keys: Sequence[tuple[Any, ...]]) -> Any:
    if len(columns) == 1:
        return table.c[columns[0]].in_([key[0] for key in keys])
    return tuple_(*(table.c[name] for name in columns)).in_(keys)


def in_parts(keys: Sequence[Key]) -> Iterable[Sequence[Key]]:
    """The keys, as many at a time as one statement takes."""
    return (keys[start : start + _KEYS_AT_ONCE] for start in range(0, len(keys), _KEYS_AT_ONCE))
