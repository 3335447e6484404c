"""Messages and what is known of them as CSV, JSON and XLSX, in constant memory however many there are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from otel_genapp.errors import MissingDependencyError
from otel_genapp.ledger.conversations import ConversationRow
from otel_genapp.ledger.store import Store
from otel_genapp.read.cells import XLSX_EXTRA, XLSX_ROWS, Cell, CSVLines, clean, write_row
from otel_genapp.read.reports.period import UTC_NAME, Period, Span, iso

FORMATS = ("json", "csv", "xlsx")
TYPES: Mapping[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILE = "export.xlsx"
_READ_BYTES = 256 * 1024

COLUMNS: Mapping[str, Callable[[ConversationRow], Cell]] = {
    "id": lambda row: row.id,
    "timestamp": lambda row: moment_text(row.at_ns),
    "user_id": lambda row: row.user_id,
    "platform": lambda row: row.platform,
    "intent": lambda row: row.intent,
    "confidence": lambda row: row.confidence,
    "response_time_ms": lambda row: row.response_time_ms,
    "tokens_used": lambda row: row.tokens_used,
    "cost_usd": lambda row: None if row.cost_nano_usd is None else row.cost_nano_usd / 1e9,
    "satisfaction_score": lambda row: row.satisfaction_score,
    "resolved": lambda row: row.resolved,
    "session_id": lambda row: row.session_id,
    "correlation_id": lambda row: row.correlation_id,
    "llm_calls": lambda row: row.llm_calls,
    "nps": lambda row: row.nps,
    "quality": lambda row: row.quality,
    "critical": lambda row: row.critical,
    "intent_correct": lambda row: row.intent_correct,
    "escalated": lambda row: row.escalated,
    "converted": lambda row: row.converted,
    "abandoned": lambda row: row.abandoned,
    "conversation_began": lambda row: moment_text(row.began_at_ns),
    "conversation_ended": lambda row: None if row.ended_at_ns is None else moment_text(row.ended_at_ns),
}
"""Column -> its value, in the order they are written."""


@dataclass(frozen=True, slots=True)
class Export:
    """Rows on their way out: `chunks` are the bytes, some of them empty while a file is being made."""

    chunks: Iterator[bytes]
    content_type: str
    file_name: str


class Exports:
    """Exports of a store's messages. Methods may be called on any thread."""

    def __init__(self, store: Store, *, catch_up: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._catch_up = catch_up

    def count(self, period: Period) -> int:
        """How many rows there are."""
        self._catch_up()
        span = period.span
        return self._store.conversations.count(from_ns=span.from_ns, to_ns=span.to_ns)

    def write(self, period: Period, form: str, *, told: Callable[[int], None] = lambda _rows: None) -> Export:
        """The messages of a time in one of `FORMATS`; `told` hears how many rows are written.

        Raises:
            ValueError: there is no such format.
            MissingDependencyError: XLSX is asked for and xlsxwriter is not installed.
        """
        if form not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {form[:40]!r}")
        pages = self._pages(period.span, told)
        if form == "xlsx":
            chunks = _xlsx(pages, period, workbook_in=open_workbook())
        else:
            chunks = _csv(pages) if form == "csv" else _json(pages)
        last = period.end - timedelta(days=1)
        return Export(chunks, TYPES[form], f"conversations_{period.start}_{last}.{form}")

    def _pages(self, span: Span, told: Callable[[int], None]) -> Iterator[list[ConversationRow]]:
        self._catch_up()
        after, number = None, 0
        while page := self._store.conversations.rows(from_ns=span.from_ns, to_ns=span.to_ns, after=after):
            yield list(page)
            after, number = page[-1].place, number + len(page)
            told(number)


def moment_text(moment_ns: int) -> str:
    """A moment as ISO 8601 with milliseconds, in UTC, with its offset."""
    return (_EPOCH + timedelta(milliseconds=moment_ns // 10**6)).isoformat(timespec="milliseconds")


def cells_of(row: ConversationRow) -> list[Cell]:
    """A row in the order of `COLUMNS`."""
    return [value(row) for value in COLUMNS.values()]


def open_workbook() -> Callable[[str], Any]:
    """What makes a workbook in a folder.

    Raises:
        MissingDependencyError: xlsxwriter is not installed.
    """
    try:
        Workbook = import_module("xlsxwriter").Workbook  # noqa: N806 - a class; it has no types
    except ImportError as error:
        raise MissingDependencyError("xlsxwriter", XLSX_EXTRA) from error
    return lambda folder: Workbook(
        f"{folder}/{_FILE}",
        {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
            "tmpdir": folder,
            "use_zip64": True,
        },
    )


def _csv(pages: Iterator[list[ConversationRow]]) -> Iterator[bytes]:
    lines = CSVLines()
    lines.add(COLUMNS)
    for page in pages:
        for row in page:
            lines.add(cells_of(row))
        yield lines.take()
    yield lines.take()


def _json(pages: Iterator[list[ConversationRow]]) -> Iterator[bytes]:
    before = "["
    for page in pages:
        texts = [json.dumps(dict(zip(COLUMNS, map(_jsonable, cells_of(row)), strict=True))) for row in page]
        yield (before + "\n" + ",\n".join(texts)).encode("ascii")
        before = ","
    yield b"\n]\n" if before == "," else b"[]\n"


def _jsonable(value: Cell) -> Cell:
    if isinstance(value, str):
        return clean(value)
    return None if isinstance(value, float) and value - value != 0 else value  # inf and nan are no JSON


def _xlsx(
    pages: Iterator[list[ConversationRow]], period: Period, *, workbook_in: Callable[[str], Any]
) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="genapp-export") as folder:
        book = workbook_in(folder)
        book.set_properties({"title": "Conversations", "comments": "All times are UTC."})
        yield from _sheets(book, pages)
        _about(book, period)
        book.close()
        with Path(folder, _FILE).open("rb") as file:
            yield from read_file(file)


def _sheets(book: Any, pages: Iterator[list[ConversationRow]]) -> Iterator[bytes]:
    """Write the rows, into another sheet where one is full; yields nothing, so that one can stop in between."""
    sheet, number, sheets = None, XLSX_ROWS, 0
    for page in pages:
        for row in page:
            if number >= XLSX_ROWS:
                sheets += 1
                sheet, number = _sheet(book, sheets), 1
            write_row(sheet, number, row=cells_of(row))
            number += 1
        yield b""
    if sheet is None:
        _sheet(book, 1)


def _sheet(book: Any, number: int) -> Any:
    sheet = book.add_worksheet("conversations" if number == 1 else f"conversations {number}")
    sheet.freeze_panes(1, 0)
    write_row(sheet, 0, row=list(COLUMNS))
    return sheet


def _about(book: Any, period: Period) -> None:
    sheet = book.add_worksheet("about")
    span = period.span
    for number, row in enumerate((
        ("time zone of all times", UTC_NAME),
        ("from", iso(span.from_ns)),
        ("to (not included)", iso(span.to_ns)),
        ("days are those of", period.zone_name),
        ("money", "US dollars"),
    )):  # fmt: skip
        write_row(sheet, number, row=row)


def read_file(file: IO[bytes]) -> Iterator[bytes]:
    """A file in parts."""
    while part := file.read(_READ_BYTES):
        yield part
