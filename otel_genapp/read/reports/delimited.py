"""A report as CSV: its tables one below the other, in four columns."""

from __future__ import annotations

from otel_genapp.read.cells import CSVLines
from otel_genapp.read.reports.report import Report
from otel_genapp.read.reports.tables import tables_of

COLUMNS = ("table", "row", "column", "value")


def report_csv(report: Report) -> bytes:
    """Each value in a line of its own: the table, what its row is of, its column, and the value.

    The period and its time zone are the table `period`. RFC 4180, UTF-8; no text is a formula.
    """
    lines = CSVLines()
    lines.add(COLUMNS)
    for name in ("app", "env", "made_at"):
        lines.add(("period", name, "value", report.found[name]))
    for name, value in report.found["period"].items():
        lines.add(("period", name, "value", value))
    for table in tables_of(report):
        for number, row in enumerate(table.cells()):
            label = str(number + 1) if table.name == "advice" else row[0]
            for column, value in list(zip(table.columns, row, strict=True))[table.name != "advice" :]:
                lines.add((table.name, label, column, value))
    return lines.take()
