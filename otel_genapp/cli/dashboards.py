"""`otel-genapp dashboards build` and `check`: Grafana's boards, written and compared."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_genapp.dashboards import rendered
from otel_genapp.errors import ConfigError

_DIRECTORY = "collector/grafana/dashboards"


@dataclass(frozen=True, slots=True)
class _Difference:
    """A file that is not what would be built."""

    name: str
    problem: str
    lines: tuple[str, ...]


def add_command(commands: Any) -> None:
    """Add `dashboards` to the parser's commands."""
    parser = commands.add_parser(
        "dashboards",
        help="write Grafana's dashboards",
        description="Writes Grafana's dashboards or compares them.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, run, help_text in (
        ("build", _build, "write the dashboards, one JSON file for each audience"),
        ("check", _check, "show where the files differ from what would be written; exit code 1 if they do"),
    ):
        action = actions.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        action.add_argument(
            "directory",
            nargs="?",
            default=_DIRECTORY,
            metavar="DIR",
            help=f"where they are (default: {_DIRECTORY})",
        )
        action.add_argument("--json", action="store_true", help="JSON instead of text")
        action.set_defaults(run=run)


def _build(given: argparse.Namespace) -> int:
    directory = Path(given.directory)
    files = rendered()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write to {given.directory}: {error.strerror}; name another directory"
        ) from None
    written = [str(directory / name) for name in files]
    if given.json:
        sys.stdout.write(json.dumps({"written": written}) + "\n")
    else:
        sys.stdout.writelines(f"{path}\n" for path in written)
    return 0


def _check(given: argparse.Namespace) -> int:
    found = list(_differences(Path(given.directory)))
    if given.json:
        told = [{"file": each.name, "problem": each.problem, "diff": "".join(each.lines)} for each in found]
        sys.stdout.write(json.dumps({"differences": told}, ensure_ascii=False) + "\n")
    else:
        for each in found:
            sys.stdout.write(f"{each.name}: {each.problem}\n")
            sys.stdout.writelines(each.lines)
    if found:
        sys.stderr.write(
            "otel-genapp: the dashboards differ; `otel-genapp dashboards build` writes them anew\n"
        )
    return 1 if found else 0


def _differences(directory: Path) -> Iterator[_Difference]:
    files = rendered()
    for name, text in files.items():
        path = directory / name
        if not path.is_file():
            yield _Difference(name, "missing", ())
            continue
        there = path.read_text(encoding="utf-8", errors="replace")
        if there != text:
            lines = difflib.unified_diff(
                there.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "built"
            )
            yield _Difference(name, "differs", tuple(lines))
    for path in sorted(directory.glob("*.json")):
        if path.name not in files:
            yield _Difference(path.name, "not built from code", ())
