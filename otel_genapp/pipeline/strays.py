"""Parents for calls that lost their context.

Callback-driven instrumentations (LangChain's, most of all) open a span for a model call and do not
make it the current one, so the SDK's span below it starts somewhere else in the tree, or in a
trace of its own. What tells that they belong together is where they run: the call is made by the
thread, and in an event loop by the task, that opened the span.
"""

from __future__ import annotations

from otel_genapp.pipeline.nodes import Node, ancestors
from otel_genapp.place import Place, place

_KEPT_HERE = 64


class Strays:
    """The open spans of LLM instrumentations, by the place they were started in."""

    def __init__(self) -> None:
        self._open: dict[Place, list[Node]] = {}

    def add(self, node: Node) -> None:
        """An instrumentation's span begins here."""
        node.place = here = place()
        nodes = self._open.setdefault(here, [])
        nodes.append(node)
        del nodes[:-_KEPT_HERE]

    def remove(self, node: Node) -> None:
        """It has ended, perhaps somewhere else."""
        if node.place is None:
            return
        nodes = self._open.get(node.place)
        if nodes is not None:
            if node in nodes:
                nodes.remove(node)
            if not nodes:
                self._open.pop(node.place, None)

    def parent_for(self, scope: str, parent: Node | None) -> Node | None:
        """The innermost span open here that a call starting now, under `parent` by its context, is for."""
        if not self._open:
            return None
        for node in reversed(self._open.get(place(), ())):
            if node is parent:
                return None
            is_free = node.span_class is None or (node.span_class == "llm" and not node.has_call)
            if not is_free or node.scope == scope or node.ended_s is not None:
                continue
            if parent is None or parent in ancestors(node):
                return node
        return None

    def reset(self) -> None:
        """Forget everything; for the child of a fork."""
        self._open = {}
