"""Sums of models over time: what records add to them, and which make up a range of minutes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, false, or_, select

from otel_genapp import semconv
from otel_genapp.ledger.rollup import Rollup
from otel_genapp.ledger.sql import schema
from otel_genapp.ledger.sql.statements import Cell, Statements
from otel_genapp.ledger.sql.sums import from_row, to_row
from otel_genapp.ledger.sql.texts import stored
from otel_genapp.records import UsageRecord

DIFFERENT_MODELS = 500
"""Past so many, the sums of further models are kept as one."""
MINUTE_NS = 60_000_000_000

Model = tuple[str, str]
"""Provider and model, as they are kept."""
_Minute = tuple[int, str, str, bool]
"""Minute, provider, model as they were said, and whether the calls belong to a session."""


def add_to_cells(
    connection: Connection, statements: Statements, *, records: Iterable[tuple[int, UsageRecord]]
) -> None:
    """Add records with their times, none of which was added before, to the sums of their models."""
    minutes: dict[_Minute, Rollup] = {}
    for at_ns, record in records:
        key = (at_ns // MINUTE_NS, record.provider, record.model, record.session_id is not None)
        sums = minutes.get(key)
        if sums is None:
            sums = minutes[key] = Rollup()
        sums.add(record)
    counted_as = _counted_as(
        connection, {(stored(provider), stored(model)) for _, provider, model, _ in minutes}
    )
    cells: dict[Cell, Rollup] = {}
    for (minute, provider, model, bound), sums in minutes.items():
        names = counted_as[stored(provider), stored(model)]
        for span in (schema.ALL_TIME, *schema.SPANS):
            start = minute - minute % span if span else 0
            cells.setdefault((span, start, *names, int(bound)), Rollup()).merge(sums)
    for row in statements.cells(connection, cells):
        cells[row[0], row[1], row[2], row[3], row[4]].merge(from_row(row))
    rows = ((*cell, *to_row(sums)) for cell, sums in cells.items())
    statements.replace(connection, schema.cells, rows=rows)


def _counted_as(connection: Connection, models: set[Model]) -> dict[Model, Model]:
    """The models -> what they are counted as, so that there are never too many."""
    known = {tuple(row) for row in connection.execute(_KNOWN)}
    found = {}
    for provider, model in sorted(models):
        is_kept = (provider, model) in known or len(known) < DIFFERENT_MODELS
        found[provider, model] = (provider, model if is_kept else semconv.OVERFLOW)
        known.add(found[provider, model])
    return found


_KNOWN = (
    select(schema.cells.c.provider, schema.cells.c.model)
    .where(schema.cells.c.span == schema.ALL_TIME)
    .distinct()
)


def cells_between(first: int | None, end: int | None) -> Any:
    """The condition for the cells that make up the minutes from `first` up to `end`; None for no bound."""
    table = schema.cells
    if first is None and end is None:
        return table.c.span == schema.ALL_TIME
    return or_(
        false(),
        *(
            and_(
                table.c.span == span,
                *(() if start is None else (table.c.start >= start,)),
                *(() if stop is None else (table.c.start < stop,)),
            )
            for span, start, stop in parts_of(first, end)
        ),
    )


def parts_of(
    first: int | None, end: int | None, *, spans: Sequence[int] = schema.SPANS
) -> Iterator[tuple[int, int | None, int | None]]:
    """(span, start, end) of the longest spans that a range of minutes is made of, without overlap."""
    if first is not None and end is not None and first >= end:
        return
    span, *shorter = spans
    start = None if first is None else -(-first // span) * span
    stop = None if end is None else end // span * span
    if start is not None and stop is not None and start >= stop:
        yield from parts_of(first, end, spans=shorter)  # the shortest, 1, never gets here
        return
    yield span, start, stop
    if shorter and start is not None:
        yield from parts_of(first, start, spans=shorter)
    if shorter and stop is not None:
        yield from parts_of(stop, end, spans=shorter)
