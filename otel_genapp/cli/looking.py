"""`otel-genapp sessions`, `session` and `trace`: what the pages show, in the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_genapp.cli.sources import Source, add_options, open_source
from otel_genapp.ledger.store import RANKINGS

_UNKNOWN = "-"
_BAR = 32
_HEADS = ("calls", "failed", "in", "out", "cost")


def add_commands(commands: Any) -> None:
    """Add them to the parser's commands."""
    listing = commands.add_parser(
        "sessions", help="list sessions", description="Lists sessions with their sums."
    )
    listing.add_argument(
        "--by", choices=list(RANKINGS), default="recent", help="the order (default: last activity)"
    )
    listing.add_argument("--limit", type=_limit, default=20, help="how many (default: 20)")
    one = commands.add_parser(
        "session", help="show a session", description="Shows a session and its newest calls."
    )
    one.add_argument("id", help="the session's id")
    trace = commands.add_parser(
        "trace",
        help="show what happened",
        description="Shows spans and LLM calls of a correlation or trace id.",
    )
    trace.add_argument("id", help="a correlation id, as in x-correlation-id, or a trace id")
    for parser, run in ((listing, _list), (one, _show), (trace, _trace)):
        add_options(parser)
        parser.add_argument("--json", action="store_true", help="JSON instead of text")
        parser.set_defaults(run=lambda given, run=run: run(open_source(given), given))


def _list(source: Source, given: argparse.Namespace) -> int:
    found = source.sessions(by=given.by, limit=given.limit)
    if given.json:
        return _say_json({"sessions": found})
    rows = [(one["session_id"], *_sums(one), _moment(one["last_request_at"])) for one in found]
    return _say(_table(("session", *_HEADS, "last activity (UTC)"), rows))


def _show(source: Source, given: argparse.Namespace) -> int:
    found = source.session(given.id)
    if found is None:
        return _nothing(f"no session has the id {given.id!r}; `otel-genapp sessions` lists them")
    if given.json:
        return _say_json(found)
    calls = [
        (
            _moment(one["at"]), one["model"], one["status"], _number(one["prompt_tokens"]),
            _number(one["completion_tokens"]), _money(one["cost_usd"]), f"{one['duration_ms']:.0f} ms",
            one["correlation_id"] or one["trace_id"],
        )
        for one in found["requests"]
    ]  # fmt: skip
    return _say([
        *_table(("session", *_HEADS), [(found["session_id"], *_sums(found))]),
        "",
        *_table(("time (UTC)", "model", "status", "in", "out", "cost", "took", "correlation id"), calls),
        *(["older calls are not shown"] if found["requests_truncated"] else []),
    ])  # fmt: skip


def _trace(source: Source, given: argparse.Namespace) -> int:
    found = source.trace(given.id)
    if found is None:
        return _nothing(f"nothing is known of {given.id!r}: it was not recorded, or has aged out")
    if given.json:
        return _say_json(found)
    for note in found.get("notes", ()):
        sys.stderr.write(f"note: {note}\n")
    lines: list[str] = []
    for one in found["traces"]:
        lines += _fall(one)
    return _say(lines)


def _fall(trace: Mapping[str, Any]) -> list[str]:
    """A trace as lines: every span under its parent, with a bar of when it was."""
    spans = trace["spans"]
    calls = {call["span_id"]: call for call in trace["llm_calls"]}
    length_ms = max((span["offset_ms"] + span["duration_ms"] for span in spans), default=0.0) or 1.0
    depths: dict[str, int] = {}
    rows = []
    for span in spans:
        depth = depths.get(span["parent_id"] or "", -1) + 1 if span["parent_known"] else 0
        depths[span["span_id"]] = depth
        start = min(int(span["offset_ms"] / length_ms * _BAR), _BAR - 1)
        width = max(round(span["duration_ms"] / length_ms * _BAR), 1)
        bar = (" " * start + "=" * width)[:_BAR].ljust(_BAR)
        error = (
            f"  ! {span['status_message'] or span['error_type'] or 'error'}"
            if span["status"] == "error"
            else ""
        )
        call = calls.pop(span["span_id"], None)
        said = f"  {call_text(call)}" if call is not None else ""
        rows.append(
            (
                "  " * min(depth, 12) + span["name"],
                f"|{bar}|",
                f"{span['duration_ms']:.1f} ms",
                f"{said}{error}",
            )
        )
    lines = [f"trace {trace['trace_id']}" + (f"  {trace['url']}" if "url" in trace else "")]
    lines += _table(("", "", "", ""), rows)[1:]
    lines += [
        f"  LLM call {call['model']}  {call['duration_ms']:.1f} ms  {call_text(call)}"
        for call in calls.values()
    ]
    return [*lines, ""]


def call_text(call: Mapping[str, Any]) -> str:
    """Model, tokens, cost, and what went wrong."""
    tokens = f"{_number(call['prompt_tokens'])} in, {_number(call['completion_tokens'])} out"
    status = "" if call["status"] == "success" else f", {call['status']} {call['error_type'] or ''}".rstrip()
    return f"{call['model']}: {tokens}, {_money(call['cost_usd'])}{status}"


def _sums(found: Mapping[str, Any]) -> tuple[str, ...]:
    unpriced = "+?" if found["unpriced_requests"] else ""
    return (
        _number(found["total_requests"]), _number(found["failed_requests"]),
        _number(found["total_prompt_tokens"] + found["failed_prompt_tokens"]),
        _number(found["total_completion_tokens"] + found["failed_completion_tokens"]),
        _money(found["priced_cost_usd"]) + unpriced,
    )  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns wide enough for what is in them; control characters of foreign texts do not reach the terminal."""
    table = [tuple(head), *(tuple(plain(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def plain(text: str) -> str:
    """Without control characters, which belong to the terminal, and not too long."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:200])


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _money(value: float | None) -> str:
    return _UNKNOWN if value is None else f"${value:,.6f}".rstrip("0").rstrip(".")


def _moment(text: str | None) -> str:
    return (text or _UNKNOWN)[:19].replace("T", " ")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, got {text!r}")
    return int(text)


def _say(lines: Iterable[str]) -> int:
    sys.stdout.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace").decode("utf-8"))
    sys.stdout.flush()
    return 0


def _say_json(found: object) -> int:
    return _say([json.dumps(found, ensure_ascii=True)])


def _nothing(why: str) -> int:
    sys.stderr.write(f"otel-genapp: {plain(why)}\n")
    return 1
