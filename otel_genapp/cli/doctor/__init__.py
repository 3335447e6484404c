"""`otel-genapp doctor`: looks at a set-up and says what is wrong with it, and what to do.

A check is a function from an `Inspection` to findings, in the module of its topic, and a line in
`checks.CHECKS`.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from otel_genapp.cli.places import add_app_options
from otel_genapp.cli.service import add_service_options
from otel_genapp.cli.writing import Cell, plain, print_json, print_table
from otel_genapp.config import telemetry_environment

if TYPE_CHECKING:
    from otel_genapp.cli.doctor.checks import Reported

_TIMEOUT_S = 10.0
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_command(commands: Any) -> None:
    """Add `doctor` to the parser's commands."""
    parser = commands.add_parser(
        "doctor",
        help="check the set-up and say what to do",
        description="Checks versions, environment, collector, store, state directory, prices and redaction as the "
        "application would find them here, and a running service with --url. Exit code 1 with a problem.",
    )
    add_app_options(parser)
    parser.add_argument("--store", default="", help="check this store, by its URL (default: GENAPP_STORE)")
    add_service_options(parser, "look at a running service too, by its address (http://host:port)")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT_S, help=f"seconds it may take (default: {_TIMEOUT_S:g})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check, and print what was found; 1 if there is a problem.

    Raises:
        ConfigError: the options cannot work.
    """
    from otel_genapp.cli.doctor.checks import examine
    from otel_genapp.cli.doctor.finding import LEVELS, PROBLEM, inspection_of

    reports = examine(inspection_of(given, telemetry_environment()))
    counts = Counter(report.found.level for report in reports)
    if given.json:
        answer = {
            "ok": not counts[PROBLEM],
            "counts": {level: counts[level] for level in LEVELS},
            "findings": [report.as_dict() for report in reports],
        }
        print_json(answer)
    else:
        print_table({"check": "left", "": "left", "finding": "wrap"}, _rows(reports))
    return 1 if counts[PROBLEM] else 0


def _rows(reports: Sequence[Reported]) -> list[tuple[Cell, ...]]:
    return [
        (
            report.check,
            (report.found.level, _STYLES[report.found.level]),
            _told(report),
        )
        for report in reports
    ]


def _told(report: Reported) -> str:
    """The finding, and on a line of its own what to do."""
    finding, remedy = plain(report.found.finding), plain(report.found.remedy)
    return f"{finding}\n→ {remedy}" if remedy else finding


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 300:
        raise argparse.ArgumentTypeError("must be seconds from above 0 to 300")
    return seconds
