"""How commands write numbers, times and tables."""

from __future__ import annotations

import sys

import pytest

from otel_genapp.cli import writing
from otel_genapp.cli.sessions import sums_by_model
from otel_genapp.cli.tail import line_of
from otel_genapp.read.sessions import call_dict
from otel_genapp.records import Usage
from tests.builders import call


@pytest.mark.parametrize(
    ("usd", "told"),
    [(None, "unpriced"), (0.0, "$0.0000"), (0.000075, "$0.000075"), (0.25, "$0.2500"), (1234.5, "$1,234.50")],
)
def test_money(usd: float | None, told: str) -> None:
    """What nobody knows is no number."""
    assert writing.money(usd) == told


def test_tables_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where rich is not installed, tables are plain text with the same cells."""
    monkeypatch.setitem(sys.modules, "rich", None)
    writing.print_table(
        {"name": "left", "calls": "right", "said": "wrap"},
        [("anna", "1,234", "well"), (("bert", "red"), "5", "bad\n→ mend it")],
    )
    assert capsys.readouterr().out.splitlines() == [
        "name calls said",
        "anna 1,234 well",
        "bert     5 bad",
        "           → mend it",
    ]


def test_text_from_outside_moves_no_cursor() -> None:
    """Control characters of an id do not reach the terminal."""
    assert writing.plain("an\x1b[2Jna\n") == "an\ufffd[2Jna\ufffd"


def test_a_call_is_a_line() -> None:
    """Unknown tokens and prices are told as such."""
    told = {
        "session_id": "s1",
        **call_dict(call("1", usage=Usage(), cost_nano_usd=None, status="fail", error_type="Timeout")),
    }
    assert line_of(told).split("  ")[1:5] == ["fail(Timeout)", told["model"], "? in ? out", "unpriced"]


def test_sums_by_model() -> None:
    """Calls are added up for each provider and model; one without a price leaves the cost open."""
    calls = [
        call("1", model="a", cost_nano_usd=5), call("2", model="a", cost_nano_usd=7, status="fail"),
        call("3", model="b", cost_nano_usd=None), call("4", model="b", cost_nano_usd=3), call("5", model="b", cost_nano_usd=3),
    ]  # fmt: skip
    found = sums_by_model(map(call_dict, calls))
    told = ("model", "requests", "failed_requests", "unpriced_requests", "cost_usd")
    assert [tuple(sums[name] for name in told) for sums in found] == [
        ("b", 3, 0, 1, None),
        ("a", 2, 1, 0, 12e-9),
    ]
