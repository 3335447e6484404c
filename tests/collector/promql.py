"""What PromQL names: series with the labels of their matchers, and the labels that group and join them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<range>\[[^\]]*\])
    | (?P<number>(?<![\w:$])(?:\d[\w.]*|\.\d+))
    | (?P<word>[$a-zA-Z_][\w:]*)
    | (?P<sign>[^\s])
    """,
    re.VERBOSE,
)
_GROUPING = frozenset({"by", "without"})
_JOINING = frozenset({"on", "ignoring", "group_left", "group_right"})
_OPENS_A_CALL = frozenset({"(", *_GROUPING})
_WORDS = frozenset({"and", "or", "unless", "offset", "bool", "inf", "nan", *_GROUPING, *_JOINING})


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector of series: the name, and the labels of its matchers."""

    name: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Needed:
    """Labels, each of which all of the series must have: they are grouped or joined by them."""

    labels: frozenset[str]
    series: frozenset[str]


@dataclass(frozen=True, slots=True)
class Named:
    """All that an expression names."""

    selectors: tuple[Selector, ...]
    needed: tuple[Needed, ...]
    functions: frozenset[str]

    @property
    def series(self) -> frozenset[str]:
        """The names of the series."""
        return frozenset(selector.name for selector in self.selectors)

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the matchers, of groups and of joins."""
        matched = [selector.labels for selector in self.selectors]
        return frozenset().union(*matched, *(needed.labels for needed in self.needed))


def named(expr: str) -> Named:
    """What the expression names.

    A grouping is taken for all that stands in the parentheses after it, a join for the whole expression.
    """
    tokens = [(match.lastgroup or "", match.group()) for match in _TOKEN.finditer(expr)]
    selectors = tuple(_selectors(tokens))
    all_series = frozenset(selector.name for selector in selectors)
    needed, functions = [], set()
    for place, (kind, text) in enumerate(tokens[:-1]):
        if kind != "word" or tokens[place + 1][1] not in _OPENS_A_CALL:
            continue
        if text not in _GROUPING | _JOINING:
            functions.add(text)
            continue
        end = _closing(tokens, place + 1)
        if labels := frozenset(label for group, label in tokens[place:end] if group == "word") - {text}:
            inner = tokens[end + 1 : _closing(tokens, end + 1)] if text in _GROUPING else []
            series = frozenset(selector.name for selector in _selectors(inner)) or all_series
            needed.append(Needed(labels, series))
    return Named(selectors, tuple(needed), frozenset(functions) - _WORDS)


def _selectors(tokens: list[tuple[str, str]]) -> Iterator[Selector]:
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        place += 1
        after = tokens[place][1] if place < len(tokens) else ""
        if kind != "word":
            continue
        if text in _GROUPING | _JOINING and after == "(":
            place = _closing(tokens, place) + 1
        elif after not in _OPENS_A_CALL and text not in _WORDS:
            end = _closing(tokens, place) if after == "{" else place
            yield Selector(text, frozenset(_matched(tokens[place:end])))
            place = end


def _matched(tokens: list[tuple[str, str]]) -> Iterator[str]:
    for (kind, text), (_kind, after) in pairwise(tokens):
        if kind == "word" and after in "=!":
            yield text


def _closing(tokens: list[tuple[str, str]], place: int) -> int:
    """Where the bracket that opens at `place` is closed."""
    depth = 0
    for at in range(place, len(tokens)):
        if tokens[at][1] in "({":
            depth += 1
        elif tokens[at][1] in ")}":
            depth -= 1
            if depth == 0:
                return at
    raise ValueError(f"nothing closes {tokens[place:]}")
