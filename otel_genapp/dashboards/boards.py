"""What a board is, before it is Grafana's JSON: rows of panels, each with its question and its answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from otel_genapp.dashboards.queries import Query

Kind = Literal["lines", "stacked", "number", "table", "bars", "text"]

# Units in Grafana's names.
PER_SECOND, SECONDS, BYTES, RATIO, USD, COUNT, TOKENS, TOKENS_PER_SECOND, FLAG = (
    "reqps", "s", "bytes", "percentunit", "currencyUSD", "short", "locale", "cps", "bool_on_off",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and its queries.

    Args:
        description: what it means and what to do about it.
        seen_after_demo: data must be there once the demo has had its customers.
        limits: values from which it turns orange and red.
        low_is_bad: it is below the limits that it does.
    """

    title: str
    description: str
    queries: tuple[Query, ...] = ()
    kind: Kind = "lines"
    unit: str = COUNT
    width: int = 8
    height: int = 8
    decimals: int | None = None
    limits: tuple[float, float] | None = None
    low_is_bad: bool = False
    seen_after_demo: bool = False
    links: tuple[tuple[str, str], ...] = ()
    """(title, URL) of a value's links."""
    text: str = ""
    """Markdown, of a panel of that kind."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a board: the values of a label, or a text where there is no query."""

    name: str
    label: str
    query: str = ""
    description: str = ""
    value: str = ""
    single: bool = False
    """Exactly one value is chosen, not several or all."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard for one audience, which names its file."""

    audience: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    """Beside data source, env and app, which every board has."""
    links: tuple[tuple[str, str], ...] = ()
    period: str = "now-1h"

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, from top to bottom."""
        for row in self.rows:
            yield from row.panels
