"""Where bars are: a session's calls on a line of time, a trace as a waterfall."""

from __future__ import annotations

from dataclasses import replace

from otel_genapp.read.traces import Trace
from otel_genapp.records import KeptSpan
from otel_genapp.serve.pages.rendering import duration, moment, money, number, share
from otel_genapp.serve.pages.timeline import WIDTH, timeline_of
from otel_genapp.serve.pages.waterfall import waterfall_of
from tests.builders import START_NS, call, kept_span

DASH = "\u2013"


def span(
    span_id: str, parent_id: str | None = None, *, start_ms: int = 0, duration_ms: float = 10
) -> KeptSpan:
    return replace(
        kept_span(span_id),
        span_id=span_id,
        parent_id=parent_id,
        started_at_ns=START_NS + start_ms * 10**6,
        duration_ms=duration_ms,
    )


def test_children_follow_their_parents() -> None:
    """In the order of their starts below whom they belong to; who has no known parent stands at the top."""
    spans = (
        span("root", "unknown", duration_ms=100),
        span("b", "root", start_ms=1),
        span("a", "root", start_ms=50),
        span("c", "b", start_ms=60),
    )
    fall = waterfall_of(Trace("t", None, spans, ()))
    assert [(row.span and row.span.span_id, row.depth) for row in fall.rows] == [
        ("root", 0),
        ("b", 1),
        ("c", 2),
        ("a", 1),
    ]
    assert [(row.x, row.width) for row in fall.rows] == [(0, 1000), (10, 100), (600, 100), (500, 100)]
    assert fall.duration_ms == 100


def test_a_circle_of_parents_ends() -> None:
    """Broken ids lose no span and hang nothing."""
    fall = waterfall_of(Trace("t", None, (span("a", "b"), span("b", "a"), span("c", "c")), ()))
    assert sorted(row.span.span_id for row in fall.rows if row.span) == ["a", "b", "c"]


def test_calls_without_spans_are_rows() -> None:
    """Of a trace that was not sampled the LLM calls are there."""
    one = call("1", span_id="x", duration_ms=20.0)
    fall = waterfall_of(Trace("t", None, (), (one,)))
    assert [(row.call, row.name, row.width) for row in fall.rows] == [(one, "chat gpt-5", 1000)]


def test_calls_at_the_same_time_stand_below_each_other() -> None:
    """Bars keep within the drawing, however short or long."""
    calls = [
        call(str(place), started_at_ns=START_NS + start_ms * 10**6, duration_ms=took_ms)
        for place, (start_ms, took_ms) in enumerate([(0, 1000.0), (100, 100.0), (2000, 0.0)])
    ]
    timeline = timeline_of(calls)
    assert timeline is not None
    assert [bar.y for bar in timeline.bars] == [0, 22, 0]
    assert all(0 <= bar.x <= WIDTH for bar in timeline.bars)
    assert timeline_of([]) is None


def test_numbers_as_people_read_them() -> None:
    """Few digits, a unit, and a dash for what nobody knows."""
    assert [number(1234567), number(None)] == ["1,234,567", DASH]
    assert [money(dollars) for dollars in (0.0, 12.5, 0.0123456, 0.00012345, 3e-8, None)] == [
        "$0.00", "$12.50", "$0.0123", "$0.000123", "$0.00000003", DASH,
    ]  # fmt: skip
    assert [duration(ms) for ms in (0.28, 42.4, 2410, 200_000, None)] == [
        "0.28 ms", "42 ms", "2.41 s", "3 min 20 s", DASH,
    ]  # fmt: skip
    assert [moment(said) for said in ("2026-11-26T18:00:01.5+00:00", 10**30, None)] == [
        "2026-11-26 18:00:01", DASH, DASH,
    ]  # fmt: skip
    assert [share(1, 3), share(0, 3), share(1, 0)] == ["33.3 %", "0 %", DASH]
