"""The newest trace of the demo, as a tree."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode
from rich.text import Text
from rich.tree import Tree

from otel_genapp import semconv

_TRACES_KEPT = 100
_TELLING_SPANS = range(5, 11)
"""With so many spans a trace shows the model, a tool and the service behind it, and fits the screen."""


class TraceKeeper(SpanProcessor):
    """Keeps the newest complete trace; any OpenTelemetry backend would get the same spans."""

    def __init__(self) -> None:
        self.newest: tuple[ReadableSpan, ...] = ()
        self._open: OrderedDict[int, list[ReadableSpan]] = OrderedDict()
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Only finished spans are shown."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None:
            return
        with self._lock:
            spans = self._open.setdefault(span.context.trace_id, [])
            spans.append(span)
            if span.parent is None:
                del self._open[span.context.trace_id]
                if len(spans) in _TELLING_SPANS or not self.newest:
                    self.newest = tuple(spans)
            while len(self._open) > _TRACES_KEPT:
                self._open.popitem(last=False)


def trace_tree(spans: Sequence[ReadableSpan]) -> Tree:
    """The spans under their parents, in the order they began; an orphan stands at the top."""
    known = {span.context.span_id for span in spans if span.context is not None}
    children: dict[int, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent is not None else 0
        children.setdefault(parent if parent in known else 0, []).append(span)
    trace_id = next((f"{span.context.trace_id:032x}" for span in spans if span.context is not None), "")
    tree = Tree(Text.assemble(("Trace ", "bold"), (trace_id, "dim")), guide_style="dim")
    _grow(tree, children.get(0, ()), children=children)
    return tree


def _grow(tree: Tree, spans: Iterable[ReadableSpan], *, children: dict[int, list[ReadableSpan]]) -> None:
    for span in spans:
        branch = tree.add(_line(span))
        if span.context is not None:
            _grow(branch, children.get(span.context.span_id, ()), children=children)


def _line(span: ReadableSpan) -> Text:
    duration_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    attributes = span.attributes or {}
    failed = span.status.status_code is StatusCode.ERROR
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(span.name, "bold red" if failed else "cyan")
    url = str(attributes.get(semconv.URL_FULL_KEYS[0], ""))
    if url:
        line.append("  " + url.partition("://")[2])
    line.append(f"  {span.kind.name.lower()}  {duration_ms:.1f} ms", "dim")
    if semconv.INPUT_TOKENS in attributes:
        tokens = attributes[semconv.INPUT_TOKENS], attributes.get(semconv.OUTPUT_TOKENS, "?")
        line.append(f"  {tokens[0]} tokens in, {tokens[1]} out")
    return line
