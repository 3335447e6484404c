"""How commands write: data to stdout, notes to stderr, as text for people or JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

PIPED_COLUMNS = 500
"""Width of tables that no terminal shows: nothing is cut short."""

Cell = str | tuple[str, str]
"""Text, or text and the style a terminal shows it in."""


def print_table(columns: Mapping[str, str], rows: Iterable[Sequence[Cell]]) -> None:
    """A table on stdout; `columns` are headings and how they are set (`left`, `right`, `wrap`).

    With rich it fits the terminal, and has colours there unless `NO_COLOR` is set; without it is plain.
    """
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _print_plainly(columns, rows)
        return
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    for heading, setting in columns.items():
        table.add_column(
            heading,
            justify="right" if setting == "right" else "left",
            no_wrap=setting != "wrap",
            overflow="fold" if setting == "wrap" else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(*((cell,) if isinstance(cell, str) else cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PIPED_COLUMNS)
    console.print(table)


def _print_plainly(columns: Mapping[str, str], rows: Iterable[Sequence[Cell]]) -> None:
    lines = [list(columns), *([cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows)]
    widths = [
        max(len(part) for text in column for part in text.split("\n")) for column in zip(*lines, strict=True)
    ]
    for line in lines:
        for parts in zip_longest(*(text.split("\n") for text in line), fillvalue=""):
            cells = (
                text.rjust(width) if setting == "right" else text.ljust(width)
                for text, width, setting in zip(parts, widths, columns.values(), strict=True)
            )
            print_line(" ".join(cells).rstrip())


def print_line(text: str = "") -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """One JSON document on one line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # an id of lone surrogates, or a terminal that knows little
        text = json.dumps(value, allow_nan=False)
    print_line(text)


def note(text: str) -> None:
    """A line for people, beside the data."""
    sys.stderr.write(f"otel-genapp: {text}\n")
    sys.stderr.flush()


def plain(value: object) -> str:
    """Text from outside as it may be printed on a terminal: no control characters, no line ends."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(value))


def money(usd: float | None) -> str:
    """US dollars; `unpriced` for what nobody knows."""
    if usd is None:
        return "unpriced"
    return f"${usd:,.2f}" if usd >= 100 else f"${usd:.4f}" if usd >= 0.01 or not usd else f"${usd:.6f}"


def number(value: int | None) -> str:
    """A number with its thousands apart; `?` for one nobody reported."""
    return "?" if value is None else f"{value:,}"


def duration(milliseconds: float | None) -> str:
    """Milliseconds or seconds, short."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def local_time(moment: str | None, *, with_day: bool = True) -> str:
    """A time of the JSON as the clock on the wall shows it."""
    if moment is None:
        return "-"
    local = datetime.fromisoformat(moment).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S" if with_day else "%H:%M:%S")


def tokens_of(sums: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens in and out of sums, those of failed calls included."""
    return (
        sums["total_prompt_tokens"] + sums["failed_prompt_tokens"],
        sums["total_completion_tokens"] + sums["failed_completion_tokens"],
    )
