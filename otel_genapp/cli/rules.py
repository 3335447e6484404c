"""`otel-genapp rules build|check`: the rule files of Prometheus, written or compared."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from otel_genapp.alerting.rule_files import differences, rule_files, write
from otel_genapp.errors import ConfigError

FOLDER = "collector/prometheus/rules"


def add_command(commands: Any) -> None:
    """Add `rules` to the parser's commands."""
    parser = commands.add_parser(
        "rules", help="write alert rules", description="Writes or checks the alert rules of Prometheus."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser(
        "build", help="write the rule files", description="Writes the rule files; prints the names of all."
    )
    build.set_defaults(run=run_build)
    check = actions.add_parser(
        "check",
        help="compare the rule files",
        description="Compares the rule files with what build would write. Exit code 1, and a diff, when they differ.",
    )
    check.set_defaults(run=run_check)
    for action in (build, check):
        action.add_argument("folder", nargs="?", default=FOLDER, metavar="DIR", help=f"default: {FOLDER}")
        action.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run_build(given: argparse.Namespace) -> int:
    """Write; 0.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = Path(given.folder)
    try:
        changed = write(folder)
    except OSError as error:
        raise ConfigError(f"cannot write rules to {folder}: {error.strerror or error}") from error
    files = [str(folder / name) for name in rule_files()]
    if given.json:
        sys.stdout.write(json.dumps({"files": files, "changed": changed}) + "\n")
    else:
        sys.stdout.writelines(f"{file}\n" for file in files)
    sys.stderr.write(f"otel-genapp: {len(changed)} of {len(files)} rule files changed\n")
    return 0


def run_check(given: argparse.Namespace) -> int:
    """Compare; 0 if the files are what build would write, 1 if not.

    Raises:
        ConfigError: a file cannot be read.
    """
    folder = Path(given.folder)
    try:
        found = differences(folder)
    except OSError as error:
        raise ConfigError(f"cannot read the rules in {folder}: {error.strerror or error}") from error
    if given.json:
        sys.stdout.write(json.dumps({"drifted": sorted(found), "diff": found}) + "\n")
    else:
        sys.stdout.writelines(found.values())
    if found:
        sys.stderr.write(
            f"otel-genapp: {', '.join(sorted(found))}: not what the table says; run: otel-genapp rules build {folder}\n"
        )
    return 1 if found else 0
