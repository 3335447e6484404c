"""`otel-genapp tail`: LLM calls as they happen, a line each."""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from otel_genapp.cli.choosing import add_source_options, opened_source
from otel_genapp.cli.source import Call, Source
from otel_genapp.cli.writing import duration, local_time, money, note, number, plain, print_json, print_line
from otel_genapp.errors import GenappError

_NEWEST = 10
_POLL_S, _SERVICE_POLL_S = 0.5, 2.0
_LONGEST_PAUSE_S = 15.0
_REMEMBERED = 20_000


def add_command(commands: Any) -> None:
    """Add `tail` to the parser's commands."""
    parser = commands.add_parser(
        "tail",
        help="show LLM calls as they happen",
        description="Shows LLM calls as they happen, one line each: time of the start, status, model, tokens in and out, "
        "cost, duration, session, correlation id. Ends with Ctrl-C.",
    )
    add_source_options(parser)
    parser.add_argument("--session", help="calls of this session only")
    parser.add_argument(
        "--lines", type=_count, default=_NEWEST, help=f"earlier calls to begin with (default: {_NEWEST})"
    )
    parser.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with new calls (the default), or end after the earlier ones",
    )
    parser.add_argument("--json", action="store_true", help="print each call as a line of JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print calls until interrupted, which is a good end.

    Raises:
        GenappError: the source cannot answer at the beginning.
    """
    try:
        with opened_source(given) as source:
            for call in _followed(given, source):
                if given.json:
                    print_json(call)
                else:
                    print_line(line_of(call))
    except KeyboardInterrupt:
        return 0
    return 0


def line_of(call: Call) -> str:
    """A call as a line; what nobody reported is `?`."""
    status = plain(call["status"] if not call["error_type"] else f"{call['status']}({call['error_type']})")
    tokens = f"{number(call['prompt_tokens'])} in {number(call['completion_tokens'])} out"
    return "  ".join(
        (
            local_time(call["at"]),
            status,
            plain(call["model"]),
            tokens,
            money(call["cost_usd"]),
            duration(call["duration_ms"]),
            plain(call["session_id"]),
            plain(call["correlation_id"] or "-"),
        )
    )


def _followed(given: argparse.Namespace, source: Source) -> Iterator[Call]:
    fresh = _Fresh()
    found = source.newest(limit=given.lines, session_id=given.session)
    yield from fresh.of(found.calls)
    if not given.follow:
        return
    note(f"following {source.shown}; Ctrl-C ends")
    if source.limits:
        note(source.limits)
    poll_s = _SERVICE_POLL_S if given.url else _POLL_S
    pause_s = poll_s
    while True:
        time.sleep(pause_s)
        try:
            found = source.since(found.place, session_id=given.session)
        except GenappError as error:
            if pause_s == poll_s:
                note(f"{error}; trying again")
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            continue
        pause_s = poll_s
        yield from fresh.of(found.calls)
        if found.missed:
            note(f"{found.missed:,} more calls that {source.shown} does not tell one by one")


class _Fresh:
    """Lets each call through once."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def of(self, calls: Iterable[Call]) -> Iterator[Call]:
        """Those that were not there before."""
        for call in calls:
            if call["call_id"] in self._seen:
                continue
            self._seen[call["call_id"]] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            yield call


def _count(text: str) -> int:
    if not text.isdigit() or int(text) > 1000:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 1000")
    return int(text)
