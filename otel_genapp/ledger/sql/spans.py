"""Spans in SQLite or PostgreSQL, in the database of the ledger and in transactions of their own.

In PostgreSQL their writers have a lock of their own, too; SQLite has one for all, which is why
batches are short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Table, delete, func, select, update

from otel_genapp.ledger import span_codec
from otel_genapp.ledger.codec import DecodeError
from otel_genapp.ledger.spans import (
    FAILED,
    SPANS_SHOWN,
    TRACES_SHOWN,
    KeptTrace,
    Trace,
    TracePage,
)
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.migrations import read_meta, require_known
from otel_genapp.ledger.sql.statements import in_parts
from otel_genapp.ledger.sql.sums import within
from otel_genapp.ledger.sql.texts import said, stored
from otel_genapp.ledger.store import number_in
from otel_genapp.records import KeptSpan

T = TypeVar("T")
TRACES_AT_ONCE, SPANS_AT_ONCE = 200, 2_000
"""What one transaction removes; a trace may have more spans, and goes whole."""
_NAME_CHARS = 256
_ROWS_AT_ONCE = 500
_traces, _spans, _ids = schema.traces, schema.spans, schema.trace_ids


class _Working(Protocol):
    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


class SQLSpans:
    """The spans in one database; `read` and `write` do a piece of work in a transaction there."""

    problem = ""

    def __init__(self, dialect: Any, read: _Working, *, write: _Working) -> None:
        self._read, self._write = read, write
        self._statements = _Statements(dialect)

    def add(self, spans: Sequence[KeptSpan]) -> int:
        batch = [(span, span_codec.encode(span)) for span in spans]
        return self._write(lambda connection: _add(connection, batch, statements=self._statements))

    def by_correlation_id(self, correlation_id: str) -> tuple[KeptTrace, ...]:
        query = (
            select(_traces)
            .join(_ids, _ids.c.trace == _traces.c.number)
            .where(_ids.c.correlation == stored(correlation_id))
            .order_by(_ids.c.trace.desc())
            .limit(TRACES_SHOWN)
        )

        def read(connection: Connection) -> tuple[KeptTrace, ...]:
            room, found = SPANS_SHOWN, []
            for row in connection.execute(query).all():
                trace = _trace_of(row)
                spans = _spans_of(connection, row.number) if trace.spans <= room else ()
                room -= len(spans)
                found.append(KeptTrace(trace.summary(), spans))
            return tuple(found)

        return self._read(read)

    def by_trace_id(self, trace_id: str) -> KeptTrace | None:
        query = select(_traces).where(_traces.c.trace_id == stored(trace_id))

        def read(connection: Connection) -> KeptTrace | None:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            return KeptTrace(_trace_of(row).summary(), _spans_of(connection, row.number))

        return self._read(read)

    def recent(self, *, limit: int, cursor: str | None, only_errors: bool = False) -> TracePage:
        before = number_in(cursor)
        query = select(_traces).order_by(_traces.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(_traces.c.number < before)
        if only_errors:
            query = query.where(_traces.c.worth == FAILED)
        rows = self._read(lambda connection: connection.execute(query).all())
        more = len(rows) > limit > 0
        return TracePage(
            tuple(_trace_of(row).summary() for row in rows[:limit]),
            str(rows[limit - 1].number) if more else None,
        )

    def tidy(self, *, before_ns: int, keep_bytes: int) -> int:
        removed = 0
        for choose in (
            lambda connection: _old(connection, within(before_ns)),
            lambda connection: _excess(connection, keep_bytes),
        ):
            while numbers := self._read(choose):
                removed += self._write(lambda connection, numbers=numbers: _remove(connection, numbers))  # type: ignore[misc]
        return removed

    def clear(self, session_id: str, *, keys: Collection[str]) -> int:
        # No index: this is rare, and looking through all texts for one takes a second at most.
        holds_it = self._statements.place_of(_spans.c.span, span_codec.value_text(session_id)) > 0
        query = select(_spans.c.trace, _spans.c.span).where(holds_it)

        def read(connection: Connection) -> list[int]:
            rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
            return sorted(
                {row.trace for row in rows if span_codec.says(row.span, keys=keys, value=session_id)}
            )

        found, removed = self._read(read), 0
        for start in range(0, len(found), TRACES_AT_ONCE):
            some = found[start : start + TRACES_AT_ONCE]
            removed += self._write(lambda connection, some=some: _remove(connection, some))  # type: ignore[misc]
        return removed

    def restart(self) -> None:
        """The store does, whose database it is."""


class _Statements:
    """What a batch needs, as text whose one parameter is a list in JSON.

    A statement for each row would let go of the interpreter as often, and wait for it as often behind
    threads that compute: up to a second for a batch, in which nobody else could write to SQLite.
    """

    def __init__(self, dialect: Any) -> None:
        self._is_sqlite = dialect.name == "sqlite"
        self._listed = "json_each(?)" if self._is_sqlite else "json_array_elements(CAST(%s AS json))"
        self.add_spans = f"{self._insert(_spans)} DO NOTHING"
        self.add_ids = f"{self._insert(_ids)} DO NOTHING"
        self.replace_traces = self._replacing(_traces, "number")
        self.replace_meta = self._replacing(schema.meta, "name")
        columns = ", ".join(column.name for column in _traces.c)
        texts = "value" if self._is_sqlite else "value #>> '{}'"
        self.traces = (
            f"SELECT {columns} FROM {_traces.name} WHERE trace_id IN (SELECT {texts} FROM {self._listed})"  # noqa: S608 - names of ours
        )
        place = f"{self._value(_spans.c.trace, 0)} AS trace, {self._value(_spans.c.span_id, 1)} AS span_id"
        # CROSS JOIN: SQLite keeps to this order, and looks each wanted one up.
        self.known = (
            f"SELECT kept.trace, kept.span_id FROM (SELECT {place} FROM {self._listed}) AS wanted "  # noqa: S608 - as above
            f"CROSS JOIN {_spans.name} AS kept "
            "WHERE kept.trace = wanted.trace AND kept.span_id = wanted.span_id"
        )

    def place_of(self, column: Column[Any], text: str) -> Any:
        """Where in a column's text another one stands, from 1; 0 for nowhere."""
        return func.instr(column, text) if self._is_sqlite else func.strpos(column, text)

    def _insert(self, table: Table) -> str:
        names = ", ".join(column.name for column in table.c)
        values = ", ".join(self._value(column, place) for place, column in enumerate(table.c))
        # Without a condition SQLite would take ON CONFLICT for that of a join.
        return (
            f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {self._listed} WHERE true ON CONFLICT"  # noqa: S608 - as above
        )

    def _replacing(self, table: Table, key: str) -> str:
        others = [column.name for column in table.c if column.name != key]
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        return f"{self._insert(table)} ({key}) DO UPDATE SET {changes}"

    def _value(self, column: Column[Any], place: int) -> str:
        if self._is_sqlite:
            return f"json_extract(value, '$[{place}]')"
        return (
            f"CAST(value ->> {place} AS bigint)"
            if isinstance(column.type, BigInteger)
            else f"value ->> {place}"
        )


def _add(connection: Connection, batch: Sequence[tuple[KeptSpan, str]], *, statements: _Statements) -> int:
    """Add those that are new; returns how many are kept now."""
    meta = read_meta(connection)
    require_known(meta["version"])
    keys = {span.trace_id: stored(span.trace_id) for span, _ in batch}
    rows = connection.exec_driver_sql(statements.traces, (json.dumps(list(keys.values())),)).all()
    traces = {row.trace_id: (row.number, _trace_of(row)) for row in rows}
    known = _known(connection, [(traces[keys[span.trace_id]][0], stored(span.span_id)) for span, _ in batch
                                if keys[span.trace_id] in traces], statements=statements)  # fmt: skip
    number, size, kept = meta["trace_number"], meta["trace_bytes"], 0
    span_rows: list[tuple[int, str, str]] = []
    for span, text in batch:
        key = keys[span.trace_id]
        if key not in traces:
            number += 1
            traces[key] = (number, Trace(span.trace_id))
        at, trace = traces[key]
        place = (at, stored(span.span_id))
        if place not in known:
            before = trace.size
            if not trace.add(span, size=len(text)):
                continue
            size += trace.size - before
            span_rows.append((*place, text))
            known.add(place)
        kept += 1
    ids = {(traces[keys[span.trace_id]][0], stored(span.correlation_id)) for span, _ in batch}
    for statement, values in (
        (statements.replace_traces, [_row_of(at, trace) for at, trace in traces.values()]),
        (statements.add_spans, span_rows),
        (statements.add_ids, sorted(ids)),
        (statements.replace_meta, [("trace_number", number), ("trace_bytes", size)]),
    ):
        if values:
            connection.exec_driver_sql(statement, (json.dumps(values),))
    return kept


def _known(
    connection: Connection, places: Iterable[tuple[int, str]], *, statements: _Statements
) -> set[tuple[int, str]]:
    """Which of these spans are there: a batch may come again whose first writing was not answered."""
    wanted = list(places)
    if not wanted:
        return set()
    rows = connection.exec_driver_sql(statements.known, (json.dumps(wanted),)).all()
    return {(row[0], row[1]) for row in rows}


def _trace_of(row: Any) -> Trace:
    """The trace of a row."""
    return Trace(
        trace_id=said(row.trace_id),
        correlation_id=said(row.correlation),
        name=said(row.name),
        service=said(row.service),
        rank=row.rank,
        named_at_ns=row.named_at_ns,
        started_at_ns=row.started_at_ns,
        ended_at_ns=row.ended_at_ns,
        worth=row.worth,
        spans=row.spans,
        dropped=row.dropped,
        size=row.size,
    )


def _row_of(number: int, trace: Trace) -> tuple[Any, ...]:
    """The row of a trace."""
    return (
        number,
        stored(trace.trace_id),
        stored(trace.correlation_id),
        stored(trace.name[:_NAME_CHARS]),
        stored(trace.service[:_NAME_CHARS]),
        trace.rank,
        within(trace.named_at_ns),
        within(trace.started_at_ns),
        within(trace.ended_at_ns),
        trace.worth,
        trace.spans,
        trace.dropped,
        trace.size,
    )


def _spans_of(connection: Connection, number: int) -> tuple[KeptSpan, ...]:
    """A trace's spans, but for those that only a newer version can read."""
    found = []
    for text in connection.execute(select(_spans.c.span).where(_spans.c.trace == number)).scalars():
        with suppress(DecodeError):
            found.append(span_codec.decode(text))
    return tuple(found)


def _old(connection: Connection, before_ns: int) -> list[int]:
    """Some traces that ended before then."""
    query = (
        select(_traces.c.number, _traces.c.spans, _traces.c.size)
        .where(_traces.c.ended_at_ns < before_ns)
        .order_by(_traces.c.ended_at_ns)
        .limit(TRACES_AT_ONCE)
    )
    return _some(connection.execute(query).all(), excess=None)


def _excess(connection: Connection, keep_bytes: int) -> list[int]:
    """Some of the traces that have to go so that so many bytes are left, in the order in which they go."""
    excess = read_meta(connection).get("trace_bytes", 0) - keep_bytes
    if excess <= 0:
        return []
    query = (
        select(_traces.c.number, _traces.c.spans, _traces.c.size)
        .order_by(_traces.c.worth, _traces.c.number)
        .limit(TRACES_AT_ONCE)
    )
    return _some(connection.execute(query).all(), excess=excess)


def _some(rows: Iterable[Any], *, excess: int | None) -> list[int]:
    numbers: list[int] = []
    spans = 0
    for row in rows:
        if numbers and (spans + row.spans > SPANS_AT_ONCE or (excess is not None and excess <= 0)):
            break
        numbers.append(row.number)
        spans += row.spans
        if excess is not None:
            excess -= row.size
    return numbers


def _remove(connection: Connection, numbers: Sequence[int]) -> int:
    """Remove traces; returns how many were there still, as others remove them too."""
    require_known(read_meta(connection)["version"])
    removed = freed = 0
    for some in in_parts(numbers):
        query = select(func.count(), func.coalesce(func.sum(_traces.c.size), 0)).where(
            _traces.c.number.in_(some)
        )
        number, size = connection.execute(query).one()
        removed, freed = removed + number, freed + int(size)
        for table, column in ((_spans, _spans.c.trace), (_ids, _ids.c.trace), (_traces, _traces.c.number)):
            connection.execute(delete(table).where(column.in_(some)))
    meta = schema.meta
    change: Any = {"value": meta.c.value - freed}
    connection.execute(update(meta).where(meta.c.name == "trace_bytes").values(change))
    return removed
