"""The table of faults: what each one planted did to each part, at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Row = tuple[str, str, int, int, int, str]
Found = Callable[..., None]
_ROWS = pytest.StashKey[list[Row]]()
_HEAD = ("fault", "component", "lost", "duplicated", "phantom", "added")


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(_ROWS, [])


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Found:
    """`found(fault, component, lost=…, duplicated=…, phantom=…, added=…)` is a row; `added` time where it was measured."""

    def row(
        fault: str, component: str, *, lost: int = 0, duplicated: int = 0, phantom: int = 0, added: str = "-"
    ) -> None:
        rows = request.config.stash.setdefault(_ROWS, [])
        rows.append((fault, component, lost, duplicated, phantom, added))

    return row


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    table = [_HEAD, *(tuple(map(str, row)) for row in sorted(rows))]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
    terminalreporter.section("faults")
    for row in table:
        cells = [f"{cell:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(row)]
        terminalreporter.line("  ".join(cells))
