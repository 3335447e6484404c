"""Counting once: the residual rule over the tree of LLM and agent spans.

Instrumentations nest: an agent span repeats the sum of its calls, a framework's span the usage of
the SDK's span below it. For each kind of token a span contributes what it reports beyond what its
descendants contributed, less the credit of ancestors that ended before it (a stream may outlive
the span that started it). However they nest and in whatever order they end, each token counts
once. Only the outermost LLM span of a nest is a request.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import fields

from otel_genapp.pipeline.dialects import Facts, SpanClass
from otel_genapp.pipeline.nodes import (
    FIELDS,
    NO_TOKENS,
    NOTHING_HELD,
    Call,
    Contribution,
    Node,
    ancestors,
    llm_above,
    tokens_of,
)
from otel_genapp.records import Usage

NODE_LIMIT = 50_000
GRACE_S = 120.0
ANSWERS_KEPT = 10_000
"""Calls whose answer's id is remembered, to know a second span of the same answer."""
RECENT_KEPT = 64
"""Calls of one session and model among which the second span of an answer without an id is looked for."""


class Tree:
    """The open and the recently ended spans of LLM and agent work in this process. Bounded."""

    def __init__(self, *, node_limit: int = NODE_LIMIT, grace_s: float = GRACE_S) -> None:
        self._nodes: OrderedDict[int, Node] = OrderedDict()
        self._answers: OrderedDict[str, Call] = OrderedDict()
        self._recent: OrderedDict[tuple[str | None, str | None], deque[Call]] = OrderedDict()
        self._ended: deque[tuple[float, int]] = deque()
        self._node_limit = node_limit
        self._grace_s = grace_s
        # Re-entrant: a garbage collection in here may close a generator that ends a span.
        self._lock = threading.RLock()

        self.on_abandon: Callable[[int], None] = lambda _: None
        """Told of a span that has to go although it never ended."""

    def __contains__(self, span_id: int) -> bool:
        return span_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def start(
        self,
        span_id: int,
        *,
        parent_id: int,
        span_class: SpanClass | None,
        new_id: str,
        scope: str = "",
        lost: Node | None = None,
    ) -> Node:
        """Add a span. `new_id` names the logical call if this span is the outermost of one.

        `lost` stands in for a parent that is not known here, see `Strays`.
        """
        with self._lock:
            parent = self._nodes.get(parent_id) or lost
            node = Node(span_id, parent, span_class=span_class, scope=scope)
            if span_class == "llm":
                for above in ancestors(node):
                    above.has_call = True
            self._nodes[span_id] = node
            self._settle_class(node, new_id)
            self._make_room()
        return node

    def get(self, span_id: int) -> Node | None:
        """The node of a span, ended or not."""
        return self._nodes.get(span_id)

    def is_outermost(self, node: Node) -> bool:
        """Whether no LLM span is above this LLM span."""
        return node.span_class == "llm" and llm_above(node) is None

    def end(self, node: Node, *, span_class: SpanClass | None, facts: Facts, new_id: str) -> Contribution:
        """What the finished span contributes; its class may have become clear only now."""
        with self._lock:
            node.ended_s = time.perf_counter()
            self._ended.append((node.ended_s, node.span_id))
            # What started as an LLM call stays one: the calls nested in it are held for it.
            node.span_class = "llm" if node.call is not None else span_class
            self._settle_class(node, new_id)
            reported = tokens_of(facts.usage)
            added = self.__settle_tokens(node, reported)
            if node.call is None:  # an agent's own residual
                usage = Usage(**dict(zip(FIELDS, (v or None for v in added), strict=True)))
                return Contribution(usage, is_request=False, call=None, seq=1)
            call, added = self._join_counted(node, node.call, added=added)
            if self.is_outermost(node) and not call.written:
                twin = self._twin(node, facts)
                if twin is not None:
                    return self._write_twin(node, twin, added=added)
                for above in ancestors(node):
                    above.counted_below = call
                self._remember(call, node, facts=facts)
                if call.held is NOTHING_HELD and node.parent is None and node.below is NO_TOKENS:
                    call.written, call.told = True, added
                    return Contribution(facts.usage, is_request=True, call=call, seq=0)
                return self._write(call, added, reported=reported)
            return self._hold_or_amend(call, added, reported=reported, facts=facts)

    def holder_of(self, span_id: int) -> Node | None:
        """The open LLM span at or above this span, if it is known."""
        node = self._nodes.get(span_id)
        while node is not None:
            if node.span_class == "llm" and node.ended_s is None:
                return node
            node = node.parent
        return None

    def nest(self, node: Node, *, facts: Facts) -> Contribution:
        """Count a call below `node` that has no span of its own; as if one had ended there now."""
        with self._lock:
            inner = Node(0, node, span_class="llm", scope=node.scope)
            inner.ended_s = time.perf_counter()
            self._settle_class(inner, "")
            reported = tokens_of(facts.usage)
            added = self.__settle_tokens(inner, reported)
            if inner.call is None:
                return Contribution(Usage(), is_request=False, call=None, seq=0)
            return self._hold_or_amend(inner.call, added, reported=reported, facts=facts)

    def reset(self) -> None:
        """Forget everything, with a new lock; for the child of a fork."""
        self._lock = threading.RLock()
        self._nodes = OrderedDict()
        self._answers = OrderedDict()
        self._recent = OrderedDict()
        self._ended = deque()

    def take_seq(self, call: Call) -> int:
        """The number of an amendment of a written call."""
        with self._lock:
            call.next_seq += 1
            return call.next_seq - 1

    def _twin(self, node: Node, facts: Facts) -> Call | None:
        """The call counted already from another instrumentation's span of the same answer.

        That happens where the inner span has lost its context. The answer's id does not tell alone
        (a proxy may give the same to everybody): the two must have been open at the same time.
        Without an id it is a call inside this span's time, for the same session and model, with the
        same tokens as far as this span knows them.
        """
        if facts.response_id is not None:
            known = self._answers.get(facts.response_id)
            if known is not None and _may_be_twins(known, node) and node.began_s <= known.span_of_s[1]:
                return known
        elif node.counted_below is None and not node.has_call:
            for known in self._recent.get((facts.session_id, facts.model), ()):
                began_s, ended_s = known.span_of_s
                inside = node.began_s <= began_s and ended_s <= (node.ended_s or ended_s)
                if inside and _may_be_twins(known, node) and _same_tokens(known, facts):
                    return known
        return None

    def _write_twin(self, node: Node, twin: Call, *, added: tuple[int, ...]) -> Contribution:
        """What the second span of a counted call says beyond the first."""
        twin.twin_scopes = (*twin.twin_scopes, node.scope)
        node.call = twin
        more = tuple(max(new - told, 0) for new, told in zip(added, twin.told, strict=True))
        twin.told = tuple(told + new for told, new in zip(twin.told, more, strict=True))
        return self._amend(twin, more)

    def _remember(self, call: Call, node: Node, *, facts: Facts) -> None:
        call.scope = node.scope
        call.span_of_s = (node.began_s, node.ended_s or node.started_s)
        if facts.response_id is not None:
            self._answers[facts.response_id] = call
            self._answers.move_to_end(facts.response_id)
            if len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        key = (facts.session_id, facts.model)
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque(maxlen=RECENT_KEPT)
        else:
            self._recent.move_to_end(key)
        recent.append(call)
        if len(self._recent) > ANSWERS_KEPT:
            self._recent.popitem(last=False)

    @staticmethod
    def _amend(call: Call, added: tuple[int, ...]) -> Contribution:
        seq = call.next_seq
        if any(added):
            call.next_seq += 1
        usage = Usage(**dict(zip(FIELDS, (v or None for v in added), strict=True)))
        return Contribution(usage, is_request=False, call=call, seq=seq)

    @staticmethod
    def _join_counted(node: Node, own: Call, *, added: tuple[int, ...]) -> tuple[Call, tuple[int, ...]]:
        """The call `node` belongs to: one counted already where a span above or `node` was named late."""
        above = llm_above(node)
        counted = node.counted_below if above is None else above.call
        if counted is None or counted is own:
            return own, added
        node.call = counted
        return counted, tuple(new + (held or 0) for new, held in zip(added, own.held, strict=True))

    def _write(self, call: Call, added: tuple[int, ...], *, reported: tuple[int | None, ...]) -> Contribution:
        call.written = True
        totals: dict[str, int | None] = {}
        for name, own, new, held in zip(FIELDS, reported, added, call.held, strict=True):
            totals[name] = None if own is None and held is None else new + (held or 0)
        call.told = tuple(totals[name] or 0 for name in FIELDS)
        return Contribution(Usage(**totals), is_request=True, call=call, seq=0)

    def _hold_or_amend(
        self, call: Call, added: tuple[int, ...], *, reported: tuple[int | None, ...], facts: Facts
    ) -> Contribution:
        if call.written:  # a late child
            return self._amend(call, added)
        call.held = tuple(
            before if own is None else (before or 0) + new
            for before, own, new in zip(call.held, reported, added, strict=True)
        )
        call.inner = facts if call.inner is None else _joined(call.inner, facts)
        return Contribution(Usage(), is_request=False, call=call, seq=0)

    def _settle_class(self, node: Node, new_id: str) -> None:
        if node.span_class != "llm" or node.call is not None:
            return
        above = llm_above(node)
        node.call = above.call if above is not None else Call(new_id)

    def __settle_tokens(self, node: Node, reported: tuple[int | None, ...]) -> tuple[int, ...]:
        if node.parent is None:
            if node.below is NO_TOKENS and node.credit is NO_TOKENS:
                node.credit = whole = tuple([told or 0 for told in reported])
                return whole
            whole = tuple(
                max((told or 0) - below, 0) for told, below in zip(reported, node.below, strict=True)
            )
            node.credit = tuple(credit + more for credit, more in zip(node.credit, whole, strict=True))
            return whole
        chain = ancestors(node)
        credit = [list(each.credit) for each in (node, *chain)]
        below = [list(each.below) for each in (node, *chain)]
        added = []
        for position, own in enumerate(reported):
            value = max((own or 0) - node.below[position], 0)
            for depth in range(1, len(credit)):
                taken = min(credit[depth][position], value)
                if taken:
                    credit[depth][position] -= taken
                    value -= taken
                    credit[0][position] += taken
                    for between in below[1:depth]:
                        between[position] += taken
            credit[0][position] += value
            for above in below[1:]:
                above[position] += value
            added.append(value)
        for each, own_credit, own_below in zip((node, *chain), credit, below, strict=True):
            each.credit, each.below = tuple(own_credit), tuple(own_below)
        return tuple(added)

    def _make_room(self) -> None:
        """Drop ended spans past their grace; while there are too many, ended ones first."""
        expired_s = time.perf_counter() - self._grace_s
        while self._ended and (len(self._nodes) > self._node_limit or self._ended[0][0] <= expired_s):
            self._nodes.pop(self._ended.popleft()[1], None)
        while len(self._nodes) > self._node_limit:
            span_id, node = self._nodes.popitem(last=False)
            if node.ended_s is None:
                self.on_abandon(span_id)


def _may_be_twins(call: Call, node: Node) -> bool:
    began_s = call.span_of_s[0]
    is_new = node.scope != call.scope and node.scope not in call.twin_scopes
    return is_new and began_s <= (node.ended_s or began_s)


def _same_tokens(call: Call, facts: Facts) -> bool:
    """Whether the span says the tokens counted for the call, or none."""
    usage = facts.usage
    return (usage.input, usage.output) in {(None, None), call.told[:2]} or (
        usage.output is None and usage.input == call.told[0]
    )


def _joined(earlier: Facts, later: Facts) -> Facts:
    """Two nested calls of one: costs and tools add up, of the rest the later word counts."""
    costs = [facts.cost_nano_usd for facts in (earlier, later) if facts.cost_nano_usd is not None]
    said = {field.name: getattr(later, field.name) or getattr(earlier, field.name) for field in fields(Facts)}
    said["cost_nano_usd"] = sum(costs) if costs else None
    said["attempts"] = earlier.attempts + later.attempts
    parts = Counter(dict(earlier.priced_parts))
    parts.update(dict(later.priced_parts))
    said["priced_parts"] = tuple(parts.items())
    said["tool_calls"] = earlier.tool_calls + later.tool_calls
    said["tool_names"] = earlier.tool_names + later.tool_names
    return Facts(**said)
