"""Values as cells of tables that spreadsheets open: no text becomes a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

Cell = str | int | float | bool | None

XLSX_EXTRA = "xlsx"
XLSX_TEXT_LIMIT = 32_767
XLSX_ROWS = 1_048_576
_EXACT_UP_TO = 2**53

# A spreadsheet takes a text that begins so for a formula, the wide forms too; tab, CR and LF hide what follows.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")
# Control characters, halves of pairs and what is no character at all.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_UNKNOWN = "\ufffd"


def clean(text: str) -> str:
    """A text without what no table can hold."""
    return _UNFIT.sub(_UNKNOWN, text)


def harmless(text: str) -> str:
    """A text that no spreadsheet computes: an apostrophe stands before what could begin a formula.

    A text that is a number, such as -5 or +79001234567, stays as it is.
    """
    cleaned = clean(text)
    if _FORMULA.match(cleaned) and not _NUMBER.fullmatch(cleaned):
        return f"'{cleaned}"
    return cleaned


def csv_cell(value: Cell) -> str | int | float:
    """A value as a cell of a CSV file; empty for what nobody knows."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return harmless(value) if isinstance(value, str) else value


class CSVLines:
    """Rows as bytes of a CSV file (RFC 4180, UTF-8), gathered until they are taken."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._writer = csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """Take a line of the csv module's."""
        self._lines.append(line)

    def add(self, row: Iterable[Cell]) -> None:
        """Add a row."""
        self._writer.writerow([csv_cell(value) for value in row])

    def take(self) -> bytes:
        """What was added since this was asked last."""
        found = "".join(self._lines).encode("utf-8")
        self._lines.clear()
        return found


def write_cell(sheet: Any, place: tuple[int, int], *, value: Cell) -> None:
    """Write a value into a sheet of xlsxwriter: texts as texts whatever they look like, numbers as numbers."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, bool):
        sheet.write_boolean(*place, value)
    elif isinstance(value, str):
        sheet.write_string(*place, cut(harmless(value)))
    elif abs(value) > _EXACT_UP_TO and isinstance(value, int):  # a cell would round it
        sheet.write_string(*place, cut(str(value) if abs(value) < 10**400 else _UNKNOWN))
    else:
        sheet.write_number(*place, value)


def write_row(sheet: Any, number: int, *, row: Sequence[Cell]) -> None:
    """Write a row of a sheet of xlsxwriter."""
    for column, value in enumerate(row):
        write_cell(sheet, (number, column), value=value)


def cut(text: str) -> str:
    """A text no longer than a cell can be, counted as spreadsheets do."""
    if len(text.encode("utf-16-le")) <= 2 * XLSX_TEXT_LIMIT:
        return text
    encoded = text.encode("utf-16-le")[: 2 * (XLSX_TEXT_LIMIT - 1)]
    return encoded.decode("utf-16-le", "ignore") + "\u2026"
