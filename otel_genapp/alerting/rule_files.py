"""Rule files of Prometheus: their text, and how a folder differs from them.

The little YAML they need is written here, so that the package needs no YAML library: every text is
single-quoted or a literal block, nothing is left to be guessed by a reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from textwrap import indent

from otel_genapp.alerting.promql import Pace
from otel_genapp.alerting.rules import Alert, Group, Rule
from otel_genapp.alerting.table import rule_groups

MARK = "# Written by `otel-genapp rules build` from otel_genapp/alerting; changes here are lost.\n"


def rule_files(pace: Pace = Pace()) -> dict[str, str]:  # noqa: B008 - frozen
    """File name -> text, one file a group."""
    return {f"{group.name}.yml": _text(group) for group in rule_groups(pace)}


def write(folder: Path) -> list[str]:
    """Write the files into `folder`, take away those it had of former groups; returns the names changed.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, wanted, found in _compared(folder):
        if wanted == found:
            continue
        changed.append(name)
        if wanted:
            (folder / name).write_text(wanted, encoding="utf-8", newline="\n")
        else:
            (folder / name).unlink()
    return changed


def differences(folder: Path) -> dict[str, str]:
    """File name -> unified diff from what is in `folder` to what belongs there; empty when all is well.

    Raises:
        OSError: a file is there and cannot be read.
    """
    return {
        name: "".join(
            unified_diff(
                found.splitlines(keepends=True),
                wanted.splitlines(keepends=True),
                f"{folder / name}",
                f"{folder / name} (as built)",
            )
        )
        for name, wanted, found in _compared(folder)
        if wanted != found
    }


def _compared(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(name, text wanted, text found); files of others are not ours to compare."""
    wanted = rule_files()
    found = {path.name: _read(path) for path in sorted(folder.glob("*.yml"))}
    own = {name for name, text in found.items() if text.startswith(MARK)}
    for name in sorted({*wanted, *own}):
        yield name, wanted.get(name, ""), found.get(name, "")


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _text(group: Group) -> str:
    head = f"{MARK}groups:\n  - name: {_quoted(f'genapp-{group.name}')}\n"
    if group.interval:
        head += f"    interval: {group.interval}\n"
    return head + "    rules:\n" + "\n".join(_rule(rule) for rule in group.rules)


def _rule(rule: Rule) -> str:
    if not isinstance(rule, Alert):
        lines = f"- record: {rule.name}\n" + _block("expr", rule.expr) + _mapping("labels", rule.labels)
        return indent(lines, " " * 6)
    lines = f"- alert: {rule.name}\n" + _block("expr", rule.expr)
    if rule.wait:
        lines += f"  for: {rule.wait}\n"
    lines += _mapping("labels", (("severity", rule.severity), *rule.labels))
    lines += _mapping(
        "annotations",
        (("summary", rule.summary), ("description", rule.description), ("over", rule.over)),
    )
    return indent(lines, " " * 6)


def _block(key: str, text: str) -> str:
    return f"  {key}: |-\n{indent(text, ' ' * 4)}\n"


def _mapping(key: str, pairs: tuple[tuple[str, str], ...]) -> str:
    if not pairs:
        return ""
    return f"  {key}:\n" + "".join(f"    {name}: {_quoted(value)}\n" for name, value in pairs)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
