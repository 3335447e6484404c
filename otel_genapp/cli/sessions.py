"""`otel-genapp sessions` and `otel-genapp session ID`: LLM usage, per session."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from otel_genapp.cli.choosing import add_source_options, opened_source
from otel_genapp.cli.source import Call, Session
from otel_genapp.cli.writing import (
    Cell,
    duration,
    local_time,
    money,
    note,
    number,
    plain,
    print_json,
    print_line,
    print_table,
    tokens_of,
)
from otel_genapp.errors import ConfigError, GenappError
from otel_genapp.semconv import SUCCESS

_LIMIT = 20
_MAX_LIMIT = 1000
_CALLS_SHOWN = 10
CALLS_READ = 10_000
"""Calls of one session that are read for its sums by model."""


def add_commands(commands: Any) -> None:
    """Add `sessions` and `session` to the parser's commands."""
    listing = _command(
        commands, "sessions", summary="list sessions with their LLM usage, the latest first", run=run_list
    )
    listing.add_argument(
        "--limit", type=_limit, default=_LIMIT, help=f"how many, {_MAX_LIMIT} at most (default: {_LIMIT})"
    )
    listing.add_argument("--cursor", help="go on where an earlier list ended")
    one = _command(
        commands, "session", summary="show one session: its sums, models and newest calls", run=run_one
    )
    one.add_argument("id", metavar="ID", help="the session; no_session is the calls without one")


def run_list(given: argparse.Namespace) -> int:
    """Print a page of sessions.

    Raises:
        GenappError: the source cannot answer.
    """
    with opened_source(given) as source:
        try:
            found = source.sessions(limit=given.limit, cursor=given.cursor)
        except ValueError as error:
            if isinstance(error, GenappError) or given.cursor is None:
                raise
            raise ConfigError(f"--cursor: {error}") from None
        for said in source.notes():
            note(said)
    if given.json:
        rows = [_without_calls(session) for session in found.sessions]
        print_json({"source": source.shown, "sessions": rows, "count": found.count, "next": found.next})
        return 0
    if found.sessions:
        _print_sessions(found.sessions)
    if found.next is not None:
        note(f"{found.count:,} sessions in all; more with --cursor {plain(found.next)}")
    elif not found.count:
        note(f"no sessions in {source.shown}")
    return 0


def run_one(given: argparse.Namespace) -> int:
    """Print one session; 1 if it is unknown.

    Raises:
        GenappError: the source cannot answer.
    """
    with opened_source(given) as source:
        session = source.session(given.id)
        calls = source.calls(given.id, limit=CALLS_READ) if session is not None else ()
    if session is None:
        note(f"no session {plain(given.id)} in {source.shown}")
        return 1
    models = sums_by_model(calls)
    if given.json:
        print_json({"source": source.shown, **session, "by_model": models, "by_model_calls": len(calls)})
        return 0
    _print_session(session, models, read=len(calls))
    return 0


def sums_by_model(calls: Iterable[Call]) -> list[dict[str, Any]]:
    """The sums of calls for each provider and model, those with most calls first.

    Tokens are of all calls, failed ones too; `cost_usd` is None where one of them has no price.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    nano_usd: dict[tuple[str, str], int] = {}
    for call in calls:
        key = (call["provider"], call["model"])
        sums = found.setdefault(
            key,
            {
                "provider": key[0],
                "model": key[1],
                "requests": 0,
                "failed_requests": 0,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "unpriced_requests": 0,
                "cost_usd": None,
            },
        )
        sums["requests"] += 1
        sums["failed_requests"] += call["status"] != SUCCESS
        sums["prompt_tokens"] += call["prompt_tokens"] or 0
        sums["completion_tokens"] += call["completion_tokens"] or 0
        has_tokens = bool(call["prompt_tokens"] or call["completion_tokens"])
        sums["unpriced_requests"] += call["cost_usd"] is None and (call["status"] != "fail" or has_tokens)
        nano_usd[key] = nano_usd.get(key, 0) + round((call["cost_usd"] or 0) * 1e9)
    for key, sums in found.items():
        if not sums["unpriced_requests"]:
            sums["cost_usd"] = nano_usd[key] / 1e9
    return sorted(found.values(), key=lambda sums: (-sums["requests"], sums["model"], sums["provider"]))


def _command(
    commands: Any, name: str, *, summary: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. Reads the application's state directory, and leaves it as "
        "it is; a store or a running service instead with --store or --url.",
    )
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)
    return parser


def _limit(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= _MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_MAX_LIMIT}")
    return int(text)


def _without_calls(session: Session) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name not in {"requests", "requests_truncated"}}


def _print_sessions(sessions: Sequence[Session]) -> None:
    rows = []
    for session in sessions:
        tokens_in, tokens_out = tokens_of(session)
        rows.append(
            (
                (plain(session["session_id"]), "cyan"),
                number(session["total_requests"]),
                _failures(session["failed_requests"]),
                number(tokens_in),
                number(tokens_out),
                money(session["cost_usd"]),
                local_time(session["last_request_at"]),
            )
        )
    columns = ("calls", "failed", "in", "out", "cost", "last activity")
    print_table({"session": "left", **dict.fromkeys(columns, "right")}, rows)


def _failures(failed: int) -> Cell:
    return number(failed), "bold red" if failed else "dim"


def _print_session(session: Session, models: Sequence[Mapping[str, Any]], *, read: int) -> None:
    tokens_in, tokens_out = tokens_of(session)
    cost = money(session["cost_usd"])
    if session["cost_usd"] is None:
        cost += f" ({money(session['priced_cost_usd'])} for the part with a price)"
    facts = {
        "session": plain(session["session_id"]),
        "calls": f"{number(session['total_requests'])}, {number(session['failed_requests'])} failed "
        f"({number(session['cancelled_requests'])} of them cancelled)",
        "tokens": f"{number(tokens_in)} in ({number(session['cached_tokens'])} cached), {number(tokens_out)} out "
        f"({number(session['reasoning_tokens'])} reasoning)",
        "cost": cost,
        "duration": f"average {duration(session['average_duration_ms'])}, p50 {duration(session['p50_duration_ms'])}, "
        f"p95 {duration(session['p95_duration_ms'])}",
        "tools": f"{number(session['tool_calls'])} calls in {number(session['requests_with_tools'])} requests",
        "users": ", ".join(map(plain, session["users"])) or "-",
        "activity": f"{local_time(session['first_request_at'])} to {local_time(session['last_request_at'])}",
    }
    if session["unknown_usage_requests"]:
        facts["unknown"] = f"{number(session['unknown_usage_requests'])} calls whose tokens nobody reported"
    for name, value in facts.items():
        print_line(f"{name:9} {value}")
    print_line()
    numbers = dict.fromkeys(("calls", "failed", "in", "out", "cost"), "right")
    print_table(
        {"model": "left", "provider": "left", **numbers},
        (
            (
                plain(sums["model"]),
                plain(sums["provider"]),
                number(sums["requests"]),
                _failures(sums["failed_requests"]),
                number(sums["prompt_tokens"]),
                number(sums["completion_tokens"]),
                money(sums["cost_usd"]),
            )
            for sums in models
        ),
    )
    later = tokens_in + tokens_out - sum(sums["prompt_tokens"] + sums["completion_tokens"] for sums in models)
    if read < session["total_requests"]:
        note(f"the lines by model cover the newest {read:,} calls of {session['total_requests']:,}")
    elif later:
        note(
            f"{later:,} tokens became known after their calls: they are in the sums, not in the lines by model"
        )
    print_line()
    _print_calls(session["requests"][:_CALLS_SHOWN])


def _print_calls(calls: Sequence[Call]) -> None:
    numbers = dict.fromkeys(("in", "out", "cost", "duration"), "right")
    print_table(
        {"started": "left", "status": "left", "model": "left", **numbers, "correlation id": "left"},
        (
            (
                local_time(call["at"]),
                SUCCESS if call["status"] == SUCCESS else (plain(call["status"]), "bold red"),
                plain(call["model"]),
                number(call["prompt_tokens"]),
                number(call["completion_tokens"]),
                money(call["cost_usd"]),
                duration(call["duration_ms"]),
                plain(call["correlation_id"] or "-"),
            )
            for call in calls
        ),
    )
