"""A report as a workbook: a sheet for each table, and charts of the steps, the models and the days."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from typing import Any

from otel_genapp.errors import MissingDependencyError
from otel_genapp.read.cells import XLSX_EXTRA, write_row
from otel_genapp.read.export import read_file
from otel_genapp.read.reports.markdown import heading
from otel_genapp.read.reports.report import Report
from otel_genapp.read.reports.tables import Table, tables_of

_FORMATS = {
    "rate": "0.0%",
    "usd": "$#,##0.00####",
    "ms": "#,##0",
    "s": "#,##0.0",
    "percent": '+0.0"%";-0.0"%"',
}
_CHARTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("steps", "column", "Messages and conversations", ("messages", "conversations")),
    ("steps", "line", "Response time in ms", ("response_p50_ms", "response_p95_ms")),
    ("steps", "column", "Tokens", ("tokens_used",)),
    ("models", "bar", "Cost by model in US dollars", ("cost",)),
    ("days", "column", "Messages beside the usual", ("messages", "usual messages")),
)
"""(sheet, type, title, columns) of the charts."""


def report_xlsx(report: Report) -> Iterator[bytes]:
    """The workbook in parts.

    Raises:
        MissingDependencyError: xlsxwriter is not installed.
    """
    try:
        Workbook = import_module("xlsxwriter").Workbook  # noqa: N806 - a class; it has no types
    except ImportError as error:
        raise MissingDependencyError("xlsxwriter", XLSX_EXTRA) from error
    file = BytesIO()
    with tempfile.TemporaryDirectory(prefix="genapp-report") as folder:
        plain = {"strings_to_formulas": False, "strings_to_numbers": False, "strings_to_urls": False}
        book = Workbook(file, {**plain, "tmpdir": folder})
        _write(book, report)
        book.close()
    file.seek(0)
    yield from read_file(file)


def _write(book: Any, report: Report) -> None:
    period = report.found["period"]
    book.set_properties({"title": heading(report.found), "comments": f"Time zone: {period['time_zone']}"})
    tables = {table.name: table for table in tables_of(report)}
    sheets = {name: book.add_worksheet(name) for name in tables}
    bold = book.add_format({"bold": True})
    formats = {unit: book.add_format({"num_format": form}) for unit, form in _FORMATS.items()}
    for name, table in tables.items():
        _table(sheets[name], table, bold=bold, formats=formats)
    about = book.add_worksheet("about")
    for number, item in enumerate((*period.items(), ("made_at", report.found["made_at"]))):
        write_row(about, number, row=item)
    place = 1
    charts = book.add_worksheet("charts")
    for name, kind, title, columns in _CHARTS:
        table_of = tables.get(name)
        if table_of is None or not table_of.rows:
            continue
        charts.insert_chart(place, 1, _chart(book, kind, table=table_of, columns=columns, title=title))
        place += 18


def _table(sheet: Any, table: Table, *, bold: Any, formats: dict[str, Any]) -> None:
    sheet.freeze_panes(1, 1)
    sheet.set_column(0, 0, 34)
    sheet.set_column(1, max(table.width - 1, 1), 90 if table.name == "advice" else 16)
    for column, name in enumerate(table.columns):
        sheet.write_string(0, column, name, bold)
    for number, row in enumerate(table.rows, start=1):
        own = str(row[-1]) if len(row) > table.width else ""
        write_row(sheet, number, row=row[: table.width])
        for column, value in enumerate(row[: table.width]):
            unit = (table.units[column] if table.units else "") or (own if column else "")
            if unit in formats and isinstance(value, int | float) and not isinstance(value, bool):
                sheet.write_number(number, column, value, formats[unit])


def _chart(book: Any, kind: str, *, table: Table, columns: tuple[str, ...], title: str) -> Any:
    chart = book.add_chart({"type": kind})
    last = len(table.rows)
    for name in columns:
        column = table.columns.index(name)
        chart.add_series({
            "name": [table.name, 0, column],
            "categories": [table.name, 1, 0, last, 0],
            "values": [table.name, 1, column, last, column],
        })  # fmt: skip
    chart.set_title({"name": title})
    chart.set_size({"width": 860, "height": 340})
    chart.set_legend({"position": "bottom"})
    return chart
