"""`otel-genapp tail`: LLM calls as they end, a line each."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from otel_genapp.cli.looking import call_text, plain
from otel_genapp.cli.sources import Source, add_options, open_source
from otel_genapp.semconv import NO_SESSION

EVERY_S = 1.0
SESSIONS = 50
"""So many that were active last are looked into each time."""
_REMEMBERED = 10_000
_Call = Mapping[str, Any]


def add_command(commands: Any) -> None:
    """Add `tail` to the parser's commands."""
    parser = commands.add_parser(
        "tail", help="follow LLM calls",
        description=f"Shows LLM calls as they end, of the {SESSIONS} sessions that were active last. Ctrl-C ends it.",
    )  # fmt: skip
    parser.add_argument("--session", help="of this session only")
    parser.add_argument("--no-follow", action="store_true", help="the last calls, and no more")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    source, tail = open_source(given), Tail(given.session)
    try:
        while True:
            for session_id, call in tail.new(source):
                said = (
                    json.dumps({"session_id": session_id, **call}) if given.json else _line(session_id, call)
                )
                sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
            if given.no_follow:
                return 0
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return 0


class Tail:
    """What has been shown, so that nothing is shown twice."""

    def __init__(self, session_id: str | None = None) -> None:
        self._session_id = session_id
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._totals: dict[str, int] = {}

    def new(self, source: Source) -> list[tuple[str, _Call]]:
        """Calls that have ended since it was asked before, the earliest first."""
        found = [
            (session["session_id"], call)
            for session in self._changed(source)
            for call in session["requests"]
            if call["call_id"] not in self._seen
        ]
        for _, call in found:
            self._seen[call["call_id"]] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return sorted(found, key=lambda item: str(item[1]["at"]))

    def _changed(self, source: Source) -> Iterator[Mapping[str, Any]]:
        """The sessions with more calls than before, whole."""
        if self._session_id is not None:
            wanted = [self._session_id]
        else:
            listed = source.sessions(by="recent", limit=SESSIONS)
            wanted = [
                one["session_id"]
                for one in listed
                if self._totals.get(one["session_id"]) != one["total_requests"]
            ]
            wanted.append(NO_SESSION)  # in no list
        for session_id in wanted:
            found = source.session(session_id)
            if found is not None:
                self._totals[session_id] = found["total_requests"]
                yield found


def _line(session_id: str, call: _Call) -> str:
    shown = (
        str(call["at"])[:19].replace("T", " "), call["status"], call_text(call), f"{call['duration_ms']:.0f} ms",
        session_id, call["correlation_id"] or call["trace_id"],
    )  # fmt: skip
    return "  ".join(plain(str(part)) for part in shown)
