"""What the demo shows, as text on screens of different widths."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from rich.console import Console, RenderableType

from otel_genapp.cli.demo.traces import TraceKeeper, trace_tree
from otel_genapp.cli.demo.view import (
    Scene,
    hints,
    rows_that_fit,
    screen,
    session_table,
    totals_line,
    trace_fits,
)

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


def sums(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "session_id": "ada-1",
        "total_requests": 12,
        "successful_requests": 12,
        "failed_requests": 0,
        "total_prompt_tokens": 1500,
        "failed_prompt_tokens": 0,
        "total_completion_tokens": 300,
        "failed_completion_tokens": 0,
        "cached_tokens": 750,
        "reasoning_tokens": 20,
        "average_duration_ms": 170.4,
        "p95_duration_ms": 1827.2,
        "requests_with_tools": 5,
        "unknown_usage_requests": 0,
        "models": ["gpt-5", "gpt-5-mini"],
        "first_request_at": (NOW - timedelta(minutes=1)).isoformat(),
        "last_request_at": (NOW - timedelta(seconds=1)).isoformat(),
    }
    return {**plain, **changes}


FAILED = sums(
    session_id="alan-12",
    total_requests=1,
    successful_requests=0,
    failed_requests=1,
    total_prompt_tokens=0,
    failed_prompt_tokens=123_456,
    total_completion_tokens=0,
    cached_tokens=0,
    reasoning_tokens=0,
    average_duration_ms=0,
    p95_duration_ms=None,
    requests_with_tools=0,
    models=["gpt-5-mini"],
    first_request_at=NOW.isoformat(),
    last_request_at=None,
)


def shown(what: RenderableType, *, width: int, terminal: bool = False) -> str:
    """The text of `what` on a screen so wide, without blanks at the ends of lines."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
    )
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_sessions_on_a_narrow_screen() -> None:
    """Eighty columns hold a session's numbers, the newest session first."""
    assert shown(session_table([sums(), FAILED], width=80, now=NOW), width=80) == (
        "session   calls  fail     in  out  cached     avg    p95  tools  seen\n"
        "─────────────────────────────────────────────────────────────────────\n"
        "alan-12       1     1   123k    0       0       -      -      0     -\n"
        "ada-1        12     0  1,500  300     750  170 ms  1.8 s      5   now"
    )


def test_sessions_on_a_wide_screen() -> None:
    """A hundred columns and more show reasoning and models too."""
    seen = (NOW - timedelta(seconds=42)).isoformat()
    long_ago = sums(session_id="grace-1", last_request_at=(NOW - timedelta(minutes=7)).isoformat())
    assert shown(session_table([sums(last_request_at=seen), long_ago], width=120, now=NOW), width=120) == (
        "session   calls  fail     in  out  cached  reasoning     avg    p95  tools  models             seen\n"
        "───────────────────────────────────────────────────────────────────────────────────────────────────\n"
        "ada-1        12     0  1,500  300     750         20  170 ms  1.8 s      5  gpt-5, gpt-5-mini  42 s\n"
        "grace-1      12     0  1,500  300     750         20  170 ms  1.8 s      5  gpt-5, gpt-5-mini   7 m"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_screen(width: int) -> None:
    """The largest numbers and the longest commands keep within the screen's width."""
    big = sums(
        session_id="barbara-100",
        total_requests=99_999,
        failed_requests=9_999,
        total_prompt_tokens=99_999,
        total_completion_tokens=99_999,
        cached_tokens=99_999,
        reasoning_tokens=99_999,
        average_duration_ms=999,
        p95_duration_ms=99_900,
        requests_with_tools=9_999,
        last_request_at=(NOW - timedelta(hours=1)).isoformat(),
    )
    tries = hints("http://127.0.0.1:65535", token="x" * 16, session="barbara-100")
    scene = Scene(totals=big, sessions=[big], count=1000, hints=tries)
    lines = shown(screen(scene, width=width, now=NOW), width=width).splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    assert lines[-1] == "Stop with Ctrl-C"


def test_totals_are_one_line() -> None:
    """The totals name failures, the cache's share and calls without usage, and no division fails."""
    assert str(totals_line(sums(failed_requests=2, unknown_usage_requests=3), sessions=1234)) == (
        "12 LLM calls · 2 failed · 1,500 tokens in (50 % cached) · 300 out · 3 without usage · 1,234 sessions"
    )
    nothing = sums(total_requests=0, total_prompt_tokens=0, total_completion_tokens=0, cached_tokens=0)
    assert str(totals_line(nothing, sessions=0)) == (
        "0 LLM calls · 0 failed · 0 tokens in (0 % cached) · 0 out · 0 sessions"
    )


def test_screen_says_what_it_leaves_out() -> None:
    """Sessions without a row are counted below the table."""
    scene = Scene(totals=sums(), sessions=[sums()], count=8)
    assert shown(screen(scene, width=80, now=NOW), width=80).splitlines()[-1] == "and 7 earlier sessions"


@pytest.mark.parametrize(
    ("height", "rows", "trace"),
    [(10, 3, False), (24, 5, False), (36, 17, False), (37, 6, True), (60, 29, True)],
)
def test_rows_follow_the_height(height: int, rows: int, trace: bool) -> None:
    """A low screen shows few sessions and no trace."""
    assert (rows_that_fit(height), trace_fits(height)) == (rows, trace)


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, and with NO_COLOR, there is no colour."""
    table = session_table([FAILED], width=80, now=NOW)
    coloured = shown(table, width=80, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(table, width=80, terminal=True)
    assert ("\x1b[36m" in coloured, "\x1b[36m" in plain, "\x1b[31m" in plain) == (True, False, False)
    assert "\x1b" not in shown(table, width=80)


def test_trace_is_a_tree() -> None:
    """Spans stand under their parents in the order they began, failures and tokens marked."""
    keeper = TraceKeeper()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(keeper)
    tracer = provider.get_tracer("test")
    begun = 10**18
    root = tracer.start_span("POST /chat", kind=SpanKind.SERVER, start_time=begun)
    inside = set_span_in_context(root)
    tokens = {"gen_ai.usage.input_tokens": 15, "gen_ai.usage.output_tokens": 3}
    call = tracer.start_span("chat m", inside, SpanKind.CLIENT, tokens, start_time=begun + 1_000_000)
    get = tracer.start_span(
        "GET", inside, attributes={"url.full": "http://x/a"}, start_time=begun + 4_000_000
    )
    get.set_status(StatusCode.ERROR)
    get.end(begun + 4_500_000)
    call.end(begun + 3_000_000)
    assert keeper.newest == ()
    root.end(begun + 10_000_000)
    trace_id = f"{root.get_span_context().trace_id:032x}"
    assert shown(trace_tree(keeper.newest), width=80) == (
        f"Trace {trace_id}\n"
        "└── POST /chat  server  10.0 ms\n"
        "    ├── chat m  client  2.0 ms  15 tokens in, 3 out\n"
        "    └── GET  x/a  internal  0.5 ms"
    )


def test_only_telling_traces_follow_the_first() -> None:
    """Once there is a trace, only one with a model and a tool in it takes its place."""
    keeper = TraceKeeper()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(keeper)
    tracer = provider.get_tracer("test")
    for name, children in (("first", 1), ("short", 2), ("telling", 5), ("long", 20)):
        root = tracer.start_span(name)
        for _ in range(children):
            tracer.start_span("child", set_span_in_context(root)).end()
        root.end()
    tracer.start_span("orphan", set_span_in_context(root)).end()
    assert [span.name for span in keeper.newest] == [*["child"] * 5, "telling"]
