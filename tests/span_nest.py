"""Spans by name in a tree of the pipeline, and what they add up to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from otel_genapp.pipeline.counting import Tree
from otel_genapp.pipeline.dialects import Facts, SpanClass
from otel_genapp.pipeline.nodes import Contribution, Node
from otel_genapp.records import Usage

NOTHING = Facts(provider=None, model=None, operation=None, usage=Usage())


class Nest:
    """Spans by name in a tree, and what they added up to."""

    def __init__(self, **limits: Any) -> None:
        self.tree = Tree(**limits)
        self.nodes: dict[str, Node] = {}
        self.requests: list[Usage] = []
        self.amended: list[tuple[str, int, Usage]] = []
        self.totals: Counter[str] = Counter()

    def start(self, name: str, parent: str = "", span_class: SpanClass | None = "llm") -> None:
        above = self.nodes[parent].span_id if parent else 0
        self.nodes[name] = self.tree.start(
            len(self.nodes) + 1, parent_id=above, span_class=span_class, new_id=f"id of {name}"
        )

    def end(self, name: str, usage: Usage = Usage(), span_class: SpanClass | None = None) -> Contribution:
        node = self.nodes[name]
        found = self.tree.end(
            node,
            span_class=span_class or node.span_class,
            facts=dataclasses.replace(NOTHING, usage=usage, model=name),
            new_id=f"late id of {name}",
        )
        if found.is_request:
            self.requests.append(found.usage)
        elif found.has_tokens:
            self.amended.append((found.call.call_id if found.call else "", found.seq, found.usage))
        self.totals.update({kind: count or 0 for kind, count in found.usage.by_type()})
        return found

    @property
    def summary(self) -> tuple[list[Usage], list[tuple[str, int, Usage]]]:
        """(usage of the requests, amendments) so far."""
        return self.requests, self.amended
