"""What the demo shows: sessions as a table, a line of totals, what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Session = Mapping[str, Any]

_WIDE = 100
_CHROME_LINES = 19
"""Lines of the screen that are neither sessions nor a trace."""
_SESSIONS_BEFORE_TRACE = 6
_TRACE_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What there is to show: the newest of `count` sessions, and below them what is there."""

    totals: Session
    sessions: Sequence[Session]
    count: int
    trace: RenderableType | None = None
    hints: RenderableType | None = None


def rows_that_fit(height: int) -> int:
    """How many sessions a terminal of `height` lines has room for."""
    return max(3, height - _CHROME_LINES - (_TRACE_LINES if trace_fits(height) else 0))


def trace_fits(height: int) -> bool:
    """Whether there is room for a trace beside the sessions."""
    return height >= _CHROME_LINES + _SESSIONS_BEFORE_TRACE + _TRACE_LINES


def totals_line(totals: Session, *, sessions: int) -> Text:
    """One line on all calls: how many, failed, tokens, calls whose tokens nobody told, sessions."""
    failed = totals["failed_requests"]
    prompt = totals["total_prompt_tokens"] + totals["failed_prompt_tokens"]
    completion = totals["total_completion_tokens"] + totals["failed_completion_tokens"]
    cached = round(100 * totals["cached_tokens"] / prompt) if prompt else 0
    unknown = totals["unknown_usage_requests"]
    return Text.assemble(
        (f"{totals['total_requests']:,} LLM calls", "bold"),
        " · ",
        (f"{failed:,} failed", "bold red" if failed else "dim"),
        f" · {prompt:,} tokens in ({cached} % cached) · {completion:,} out",
        f" · {unknown:,} without usage" if unknown else "",
        f" · {sessions:,} sessions",
    )


def session_table(sessions: Sequence[Session], *, width: int, now: datetime) -> Table:
    """A row for each session; a screen of 100 columns or more shows models and reasoning too."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    wide = width >= _WIDE
    # What a chat is called is long; elsewhere it can be read in full.
    table.add_column("session", no_wrap=True, style="cyan", min_width=8, max_width=None if wide else 16)
    for heading in ("calls", "fail", "in", "out", "cached"):
        table.add_column(heading, justify="right", no_wrap=True)
    if wide:
        table.add_column("reasoning", justify="right", no_wrap=True)
    for heading in ("avg", "p95", "tools"):
        table.add_column(heading, justify="right", no_wrap=True)
    if wide:
        table.add_column("models", no_wrap=True, style="dim")
    table.add_column("seen", justify="right", no_wrap=True)
    # By their beginning: rows that change places with every call could not be read.
    for session in sorted(sessions, key=lambda session: session["first_request_at"] or "", reverse=True):
        table.add_row(*_cells(session, wide=wide, now=now))
    return table


def hints(url: str, *, token: str, session: str) -> Group:
    """The command lines to try while the demo runs, none wider than 80 columns."""
    # Not wrapped: a line broken by us could not be copied.
    lines = (
        Text("Try in another terminal", style="bold"),
        Text(f"  {url}/genapp/ in a browser, with the token {token}"),
        Text(f"  A='x-internal-auth: {token}'"),
        Text(f"  curl {url}/prometheus"),
        Text(f'  curl -H "$A" {url}/events/metrics'),
        Text(f'  curl -H "$A" {url}/events/metrics/session/{session}'),
        Text(f"  curl {url}/chat -H 'content-type: application/json' \\"),
        Text('    -d \'{"session": "me", "message": "Do you have red shoes?"}\''),
        Text("Stop with Ctrl-C", style="bold"),
    )
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"
    return Group(*lines)


def screen(scene: Scene, *, width: int, now: datetime) -> Group:
    """The live view of `scene`."""
    parts: list[RenderableType] = [
        Text("otel-genapp demo: a chat bot, its catalogue, its LLM and their customers", style="bold cyan"),
        totals_line(scene.totals, sessions=scene.count),
        "",
        session_table(scene.sessions, width=width, now=now),
    ]
    if scene.count > len(scene.sessions):
        hidden = scene.count - len(scene.sessions)
        parts.append(Text(f"and {hidden:,} earlier session{'s' * (hidden != 1)}", style="dim"))
    for part in (scene.trace, scene.hints):
        if part is not None:
            parts += ["", part]
    return Group(*parts)


def _cells(session: Session, *, wide: bool, now: datetime) -> list[RenderableType]:
    failed = session["failed_requests"]
    cells: list[RenderableType] = [
        str(session["session_id"]),
        f"{session['total_requests']:,}",
        Text(f"{failed:,}", style="bold red" if failed else "dim"),
        _tokens(session["total_prompt_tokens"] + session["failed_prompt_tokens"]),
        _tokens(session["total_completion_tokens"] + session["failed_completion_tokens"]),
        _tokens(session["cached_tokens"]),
    ]
    if wide:
        cells.append(_tokens(session["reasoning_tokens"]))
    cells += [
        _duration(session["average_duration_ms"] if session["successful_requests"] else None),
        _duration(session["p95_duration_ms"]),
        f"{session['requests_with_tools']:,}",
    ]
    if wide:
        cells.append(", ".join(session["models"]))
    cells.append(_ago(session["last_request_at"], now))
    return cells


def _tokens(number: int) -> str:
    return f"{number:,}" if number < 100_000 else f"{number / 1000:,.0f}k"


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _ago(moment: str | None, now: datetime) -> str:
    if moment is None:
        return "-"
    seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    if seconds < 2:
        return "now"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} m" if seconds < 6000 else f"{seconds / 3600:.0f} h"
