"""Texts, sums and ranges as the tables keep them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_genapp.ledger.rollup import Rollup
from otel_genapp.ledger.sql.cells import parts_of
from otel_genapp.ledger.sql.schema import SPANS
from otel_genapp.ledger.sql.sums import from_row, sum_columns, to_row
from otel_genapp.ledger.sql.texts import LIMIT, said, stored
from otel_genapp.records import Usage
from tests.builders import amendment, call

any_text = st.text(st.characters(exclude_categories=()), max_size=LIMIT)
odd_text = st.text(st.sampled_from("\0\x01\ud800\udfff0a#\u2026"), max_size=12)


@given(st.one_of(any_text, odd_text))
def test_a_text_comes_back(text: str) -> None:
    """Any text up to the limit is kept so that it can be encoded, and read back as it was."""
    kept = stored(text)
    assert "\0" not in kept
    assert len(kept.encode("utf-8")) <= 5 * LIMIT
    assert said(kept) == text


@given(st.text("a\x01#", min_size=LIMIT - 2, max_size=LIMIT + 4), st.text("a\x01#", max_size=4))
def test_long_texts_stay_apart(text: str, more: str) -> None:
    """Past the limit a text is told by its hash; it is not the spelling of another one."""
    one, other = stored(text), stored(text + more)
    assert (one == other) == (not more)
    assert len(one.encode("utf-8")) <= 5 * LIMIT


def test_sums_come_back() -> None:
    """Every sum has a column and is read from it."""
    sums = Rollup()
    usage = Usage(input=2, output=3, cache_read=5, cache_write=7, reasoning=11)
    for record in (
        call("1", usage=usage, cost_nano_usd=13, tool_calls=2, duration_ms=17.25),
        call("2", usage=Usage(input=19), status="fail", duration_ms=23.5),
        call("3", usage=Usage(), status="cancelled"),
        amendment("4"),
    ):
        sums.add(record)
    row = to_row(sums)
    assert len(row) == len(sum_columns())
    assert from_row((1, "key", *row)) == sums
    assert 0 not in {sums.failed_tokens.input, sums.cancelled, sums.unpriced, sums.unpriced_amendments}


minutes = st.integers(0, 4000)


@given(st.one_of(st.none(), minutes), st.one_of(st.none(), minutes))
def test_a_range_is_made_of_its_minutes(first: int | None, end: int | None) -> None:
    """The parts cover each minute of the range once and none besides, with few parts, each of whole spans."""
    found = list(parts_of(first, end))
    covered: list[int] = []
    for span, start, stop in found:
        assert start is None or start % span == 0
        assert stop is None or stop % span == 0
        covered += range(-SPANS[0] if start is None else start, 5 * SPANS[0] if stop is None else stop)
    assert sorted(covered) == list(
        range(-SPANS[0] if first is None else first, 5 * SPANS[0] if end is None else end)
    )
    assert len(found) <= 5
