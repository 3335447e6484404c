"""Exports and what spreadsheets make of them."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_genapp.ledger.conversations import PAGE, ConversationRow, Place
from otel_genapp.read import export
from otel_genapp.read.cells import csv_cell
from otel_genapp.read.export import COLUMNS, Exports
from otel_genapp.read.reports.period import range_of
from tests.processes import ROOT

openpyxl: Any = pytest.importorskip("openpyxl", reason="openpyxl is not installed")

DAY = range_of(date(2026, 3, 1), date(2026, 3, 31))
HOSTILE = (
    "=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1:A9)", "\t=1+1", "\r=1+1", "\n=1+1", "\uff1d1+1",
    '=HYPERLINK("http://example.invalid","x")', "a,b", 'say "hi"', "line\r\nfeed", "\u202eabc", "\x00nul", "\x1b[31m",
    "\ud800 half", "\udfff", "\ufffe", "9" * 400, "1e999", "-5", "+79001234567", "007", "", " =1+1", "'=1+1",
    "https://example.invalid/", "x" * 40_000, "\U0001f600" * 20_000, "_x0041_", "</t><f>1+1</f>", "{=1+1}", "-", "=",
)  # fmt: skip


class Rows:
    """A store whose conversations are a number of rows made by their number."""

    def __init__(self, number: int, make: Any) -> None:
        self._number, self._make = number, make
        self.conversations: Any = SimpleNamespace(rows=self.rows, count=lambda **_within: number)

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        del to_ns
        start = 0 if after is None else after[0] - from_ns + 1
        return tuple(self._make(from_ns + n, n) for n in range(start, min(start + limit, self._number)))


def hostile(at_ns: int, number: int) -> ConversationRow:
    """A row with five hostile texts and odd numbers."""
    chance = random.Random(number)  # noqa: S311 - made-up cells
    texts = [chance.choice(HOSTILE) + (str(number) if chance.random() < 0.3 else "") for _ in range(5)]
    return ConversationRow(
        id=texts[0], at_ns=at_ns, user_id=texts[1], platform=texts[2], intent=texts[3], session_id=texts[4],
        confidence=-0.5, response_time_ms=chance.choice((1e308, float("nan"), float("inf"), -1.5)),
        tokens_used=chance.choice((10**30, 10**500, -7, 12)), cost_nano_usd=-5, resolved=True,
    )  # fmt: skip


def written(form: str, rows: int = 4000, make: Any = hostile) -> bytes:
    """An export of rows."""
    store: Any = Rows(rows, make)
    return b"".join(Exports(store).write(DAY, form).chunks)


def test_hostile_cells_in_csv() -> None:
    """Of 20,000 hostile texts none begins a formula, all can be read, and numbers stay numbers."""
    found = list(csv.reader(io.StringIO(written("csv").decode("utf-8"), newline="")))
    assert found[0] == list(COLUMNS)
    assert {len(row) for row in found} == {len(COLUMNS)}
    texts = [dict(zip(COLUMNS, row, strict=True)) for row in found[1:]]
    assert len(texts) == 4000
    for row in texts:
        for name in ("id", "user_id", "platform", "intent", "session_id"):
            is_number = row[name] in {"-5", "+79001234567"} or row[name].lstrip("-+").isdigit()
            assert is_number or not row[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
        assert (float(row["confidence"]), float(row["cost_usd"]), row["resolved"]) == (-0.5, -5e-9, "true")


def test_hostile_cells_in_pandas() -> None:
    """Another reader sees the same rows, and columns of numbers as numbers."""
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(io.BytesIO(written("csv", 500)), encoding="utf-8", keep_default_na=False)
    assert len(frame) == 500
    assert frame.confidence.dtype.kind == "f"
    assert list(frame.cost_usd) == [-5e-9] * 500


def test_hostile_cells_in_xlsx() -> None:
    """Of 20,000 hostile texts none is a formula or an error, and numbers are numbers."""
    book = openpyxl.load_workbook(io.BytesIO(written("xlsx")), read_only=True)
    rows = list(book["conversations"].iter_rows())
    assert len(rows) == 4001
    assert {cell.data_type for row in rows for cell in row} <= {"s", "n", "b", "inlineStr"}
    place = list(COLUMNS).index
    for row in rows[1:]:
        assert (row[place("confidence")].value, row[place("confidence")].data_type) == (-0.5, "n")
        assert row[place("cost_usd")].value == -5e-9
        assert row[place("resolved")].value is True
        assert not str(row[place("user_id")].value or "").startswith(("=", "@"))
    about = {row[0].value: row[1].value for row in book["about"].iter_rows()}
    assert about["time zone of all times"] == "UTC"


def test_json_is_one_array() -> None:
    """Any rows are valid JSON with what is no number as null, none at all too; times have their offset."""
    found = json.loads(written("json", 2500), parse_constant=pytest.fail)
    assert len(found) == 2500
    assert list(found[0]) == list(COLUMNS)
    assert found[0]["timestamp"] == "2026-03-01T00:00:00.000+00:00"
    assert json.loads(written("json", 0)) == []


def test_xlsx_goes_on_in_another_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sheet is full the rows go on in the next, under the same head."""
    monkeypatch.setattr(export, "XLSX_ROWS", 1001)
    book = openpyxl.load_workbook(io.BytesIO(written("xlsx", 2500)))
    assert book.sheetnames == ["conversations", "conversations 2", "conversations 3", "about"]
    assert [book[name].max_row for name in book.sheetnames[:3]] == [1001, 1001, 501]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1", "'=1"),
        ("-5", "-5"),
        ("-5+1", "'-5+1"),
        (-6, -6),
        (None, ""),
        (float("nan"), ""),
        (True, "true"),
    ],
)
def test_cells(value: Any, cell: object) -> None:
    """A text that may be computed is led by an apostrophe; numbers, signed ones too, stay as they are."""
    assert csv_cell(value) == cell


EXTRA_BYTES = 50_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("form", "rows"),
    [
        *((form, 100_000) for form in ("csv", "json")),
        ("xlsx", 20_000),
        *(pytest.param(form, 1_000_000, marks=pytest.mark.soak) for form in ("csv", "json", "xlsx")),
    ],
)
def test_an_export_takes_constant_memory(form: str, rows: int) -> None:
    """However many rows there are, an export takes at most 50 MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.export_rows", form, str(rows)],
        cwd=ROOT, capture_output=True, text=True, timeout=1800, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["extra_bytes"] <= EXTRA_BYTES
