"""What the tree of LLM and agent spans is made of: spans, the logical calls they belong to, contributions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_genapp.pipeline.dialects import Facts, SpanClass
from otel_genapp.records import Usage

FIELDS = ("input", "output", "cache_read", "cache_write", "reasoning")
NO_TOKENS = (0, 0, 0, 0, 0)
NOTHING_HELD = (None,) * len(FIELDS)


@dataclass(slots=True)
class Call:
    """One logical LLM call: the outermost LLM span of a nest and what the spans below it said."""

    call_id: str
    scope: str = ""
    """The instrumentation that made its outermost span."""
    written: bool = False
    next_seq: int = 1
    held: tuple[int | None, ...] = NOTHING_HELD
    """Tokens of nested spans that ended before the outermost one."""
    inner: Facts | None = None
    """What the nested spans say together, to fill what the outermost one does not."""
    told: tuple[int, ...] = NO_TOKENS
    """Tokens counted for it, once it is written."""
    span_of_s: tuple[float, float] = (0.0, 0.0)
    """When it began and ended."""
    twin_scopes: tuple[str, ...] = ()
    """Instrumentations whose spans of the same answer have joined it."""


class Node:
    """One recorded span in a tree that holds LLM or agent spans."""

    __slots__ = (
        "began_s", "below", "call", "counted_below", "credit", "ended_s", "filled", "has_call", "ids", "parent", "place", "scope",
        "span", "span_class", "span_id", "start_attributes", "started_s", "started_wall_ns", "told",
    )  # fmt: skip

    def __init__(
        self, span_id: int, parent: Node | None, *, span_class: SpanClass | None, scope: str = ""
    ) -> None:
        self.span_id = span_id
        self.scope = scope
        self.place: tuple[int, int] | None = None
        self.has_call = False
        self.span: Any = None
        """The span itself, while it is open and may be given what calls inside it said."""
        self.filled: dict[str, Any] = {}
        """What it was given."""
        self.told: Facts | None = None
        """What its maker says of it, who knows better than its attributes."""
        self.ids: tuple[str | None, str | None, str | None] = (None, None, None)
        """Session, user and correlation id, for what is said of the span after its end."""
        self.parent = parent
        self.span_class = span_class
        self.call: Call | None = None
        self.counted_below: Call | None = None
        # New ones where they change: most spans stand alone.
        self.below: tuple[int, ...] = NO_TOKENS
        self.credit: tuple[int, ...] = NO_TOKENS
        self.started_s = self.began_s = time.perf_counter()
        self.started_wall_ns = time.time_ns()
        self.ended_s: float | None = None
        self.start_attributes: Mapping[str, object] = {}


class Contribution(NamedTuple):
    """What a finished span adds: `usage` to the totals, and whether it is a request by itself."""

    usage: Usage
    is_request: bool
    call: Call | None
    seq: int

    @property
    def has_tokens(self) -> bool:
        """Whether any token is added."""
        return any(tokens_of(self.usage))


def tokens_of(usage: Usage) -> tuple[int | None, ...]:
    """The tokens in the order of `FIELDS`."""
    return (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)


def ancestors(node: Node) -> list[Node]:
    """The spans above, nearest first."""
    chain = []
    above = node.parent
    while above is not None:
        chain.append(above)
        above = above.parent
    return chain


def llm_above(node: Node) -> Node | None:
    """The nearest LLM span above."""
    above = node.parent
    while above is not None:
        if above.span_class == "llm":
            return above
        above = above.parent
    return None
