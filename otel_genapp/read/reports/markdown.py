"""A report as Markdown: tables for people, with nothing in them that a foreign text could break."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from otel_genapp.read.cells import clean
from otel_genapp.read.reports.report import Report
from otel_genapp.read.reports.tables import Table, tables_of

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_TEXT_LIMIT = 500


def report_markdown(report: Report) -> str:
    """The report, one heading for each table."""
    return "".join(f"{line}\n" for line in _lines(report))


def escaped(text: str) -> str:
    """A text as it is, on one line, without any markup."""
    flat = " ".join(clean(text[:_TEXT_LIMIT]).split())
    return _SPECIAL.sub(r"\\\1", flat)


def heading(found: Mapping[str, Any]) -> str:
    """`Daily report of shop in prod, 2026-03-29`."""
    period = found["period"]
    return f"{period['kind'].capitalize()} report of {found['app']} in {found['env']}, {period['title']}"


def _lines(report: Report) -> Iterator[str]:
    found = report.found
    period = found["period"]
    yield f"# {escaped(heading(found))}"
    yield ""
    yield f"From {period['from']} to {period['to']} ({escaped(period['time_zone'])}, {period['hours']:g} hours)."
    for note in found["notes"]:
        yield ""
        yield f"> {escaped(note)}"
    for table in tables_of(report):
        yield ""
        yield f"## {escaped(table.title)}"
        yield ""
        yield from _table(table)
    if "trends" in found:
        yield ""
        yield escaped(found["trends"]["rule"])


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield "Nothing."
        return
    if table.name == "advice":
        for severity, text, _rule in table.texts():
            yield f"- **{severity}**: {_sentence(text)}"
        return
    yield _row(escaped(name) for name in table.columns)
    yield _row("---" if place == 0 else "---:" for place in range(table.width))
    for row in table.texts():
        yield _row(escaped(text) for text in row)


def _sentence(text: str) -> str:
    return " ".join(_SPECIAL.sub(r"\\\1", clean(text)).split())


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"
