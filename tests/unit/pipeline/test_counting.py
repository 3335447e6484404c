"""The residual rule: each token once and each nest one request, however spans nest and end."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pytest

from otel_genapp.pipeline.counting import Contribution, Node, Tree
from otel_genapp.pipeline.dialects import Facts, SpanClass
from otel_genapp.records import Usage

NOTHING = Facts(provider=None, model=None, operation=None, usage=Usage())
FIELDS = ("input", "output", "cache_read", "cache_write", "reasoning")


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


def test_framework_over_sdk_over_http() -> None:
    """LangChain over OpenAI over HTTP, all reporting the same usage, is one request counted once."""
    nest, usage = Nest(), Usage(input=113, output=11)
    nest.start("langchain")
    nest.start("openai", "langchain")
    nest.start("http", "openai")
    for name in ("http", "openai", "langchain"):
        nest.end(name, usage)
    assert nest.summary == ([usage], [])


def test_agent_sum_of_two_chats() -> None:
    """An agent span that repeats the sum of its two calls adds nothing."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    for name, usage in (("first", Usage(input=50, output=4)), ("second", Usage(input=63, output=7))):
        nest.start(name, "agent")
        nest.end(name, usage)
    nest.end("agent", Usage(input=113, output=11))
    assert nest.summary == ([Usage(input=50, output=4), Usage(input=63, output=7)], [])


def test_agent_tool_llm_all_equal() -> None:
    """Agent, tool and call with the same numbers count once."""
    nest, usage = Nest(), Usage(input=10, output=2)
    nest.start("agent", span_class="agent")
    nest.start("tool", "agent", span_class=None)
    nest.start("llm", "tool")
    for name in ("llm", "tool", "agent"):
        nest.end(name, usage)
    assert nest.summary == ([usage], [])


def test_agent_alone_is_counted() -> None:
    """Tokens only an agent span knows count, without a request."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    nest.end("agent", Usage(input=200, output=30))
    assert nest.summary == ([], [("", 1, Usage(input=200, output=30))])


def test_late_children_amend() -> None:
    """Children that end after their call add only what it had not reported, in numbered amendments."""
    nest = Nest()
    nest.start("outer")
    for name in ("equal", "more", "most"):
        nest.start(name, "outer")
    nest.end("outer", Usage(input=10, output=5))
    nest.end("equal", Usage(input=4, output=5))
    nest.end("more", Usage(input=9, output=1))
    nest.end("most", Usage(input=2))
    assert nest.summary == (
        [Usage(input=10, output=5)],
        [
            ("id of outer", 1, Usage(input=3, output=1)),
            ("id of outer", 2, Usage(input=2)),
        ],
    )


def test_agent_ends_before_its_call() -> None:
    """A call that outlives the agent which already summed it up is a request without new tokens."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    nest.start("stream", "agent")
    nest.end("agent", Usage(input=10, output=5))
    nest.end("stream", Usage(input=10, output=6))
    assert nest.summary == ([Usage(input=0, output=1)], [("", 1, Usage(input=10, output=5))])


def test_sub_agent_outside_the_total() -> None:
    """A sub-agent its parent did not include counts beside the parent's own calls."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    nest.start("call", "agent")
    nest.end("call", Usage(input=10, output=1))
    nest.start("sub-agent", "agent", span_class="agent")
    nest.end("sub-agent", Usage(input=100, output=9))
    nest.end("agent", Usage(input=10, output=1))
    assert nest.summary == ([Usage(input=10, output=1)], [("", 1, Usage(input=100, output=9))])


def test_parent_fills_a_gap() -> None:
    """What a stream without usage left out comes from the agent's sum."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    nest.start("told", "agent")
    nest.end("told", Usage(input=30, output=3))
    nest.start("silent", "agent")
    nest.end("silent")
    nest.end("agent", Usage(input=70, output=8))
    assert nest.summary == (
        [Usage(input=30, output=3), Usage()],
        [("", 1, Usage(input=40, output=5))],
    )


def test_cache_only_on_the_outer_span() -> None:
    """Kinds of tokens only the outer span tells are added to what the inner one told."""
    nest = Nest()
    nest.start("outer")
    nest.start("inner", "outer")
    nest.end("inner", Usage(input=100, output=20))
    nest.end("outer", Usage(input=100, cache_read=64, reasoning=7))
    assert nest.summary == ([Usage(input=100, output=20, cache_read=64, reasoning=7)], [])


def test_nothing_reported_stays_unknown() -> None:
    """Kinds of tokens nobody reported stay None, a reported 0 is 0."""
    nest = Nest()
    nest.start("outer")
    nest.start("inner", "outer")
    nest.end("inner", Usage(output=0))
    nest.end("outer")
    assert nest.summary == ([Usage(output=0)], [])


def test_siblings_do_not_share() -> None:
    """Calls side by side, and calls without a parent here, count in full."""
    nest, usage = Nest(), Usage(input=5, output=5)
    nest.start("agent", span_class="agent")
    for name in ("a", "b"):
        nest.start(name, "agent")
    nest.start("elsewhere")
    for name in ("a", "b", "elsewhere"):
        nest.end(name, usage)
    assert nest.summary == ([usage] * 3, [])


def test_inner_facts_are_kept_for_the_outer() -> None:
    """The request of a nest remembers what its inner call said."""
    nest = Nest()
    nest.start("outer")
    nest.start("inner", "outer")
    nest.end("inner", Usage(input=3))
    found = nest.end("outer")
    assert found.call is not None
    assert found.call.inner == dataclasses.replace(NOTHING, usage=Usage(input=3), model="inner")


def test_outer_span_names_its_kind_late() -> None:
    """Where an outer span turns out to be the LLM call after its inner one was counted, it amends that."""
    nest = Nest()
    nest.start("outer", span_class=None)
    nest.start("inner", "outer")
    nest.end("inner", Usage(input=10, output=2))
    nest.end("outer", Usage(input=12, output=2), span_class="llm")
    assert nest.summary == ([Usage(input=10, output=2)], [("id of inner", 1, Usage(input=2))])


def test_late_named_outer_span_ends_first() -> None:
    """A call in flight when its parent turns out to be the LLM call amends that, with all it held."""
    nest = Nest()
    nest.start("outer", span_class=None)
    nest.start("inner", "outer")
    nest.start("innermost", "inner")
    nest.end("innermost", Usage(input=10, output=2))
    nest.end("outer", Usage(input=4), span_class="llm")
    nest.end("inner", Usage(input=12))
    assert nest.summary == (
        [Usage(input=0)],
        [("late id of outer", 1, Usage(input=12, output=2))],
    )


def test_a_call_stays_a_call() -> None:
    """A span that started as an LLM call and renames itself keeps its request and its tokens."""
    nest = Nest()
    nest.start("call")
    nest.end("call", Usage(input=3, output=1), span_class="agent")
    assert nest.summary == ([Usage(input=3, output=1)], [])


@dataclass
class Planned:
    """A span of a random tree: what it is, what it reports, what is below it."""

    name: str
    span_class: SpanClass | None
    usage: Usage
    below: list[Planned] = field(default_factory=list)


def plant(seed: random.Random, size: int) -> list[tuple[Planned, str]]:
    """A random tree as (span, its parent's name), parents first."""
    spans: list[tuple[Planned, str]] = []
    for number in range(size):
        parent = seed.choice(spans)[0] if spans else None
        span_class: SpanClass | None = seed.choice(("llm", "llm", "agent", None))
        reported = {name: seed.choice((None, 0, seed.randrange(1, 50))) for name in FIELDS}
        usage = Usage(**reported) if span_class is not None else Usage()
        span = Planned(str(number), span_class, usage)
        if parent is not None:
            parent.below.append(span)
        spans.append((span, parent.name if parent is not None else ""))
    return spans


def true_tokens(span: Planned, kind: str) -> int:
    """What a tree used: a span's report or its children's sum, whichever is more."""
    return max(getattr(span.usage, kind) or 0, sum(true_tokens(child, kind) for child in span.below))


def true_requests(span: Planned) -> int:
    """LLM spans with no LLM span above them."""
    return 1 if span.span_class == "llm" else sum(true_requests(child) for child in span.below)


@pytest.mark.parametrize("block", range(4))
def test_random_trees_in_random_order(block: int) -> None:
    """400 random trees, ended in random order, add up to what an independent recursion says."""
    seed = random.Random(block)  # noqa: S311 - repeatable on purpose
    wrong = []
    for number in range(100):
        spans = plant(seed, seed.randrange(1, 14))
        nest = Nest()
        for span, parent in spans:
            nest.start(span.name, parent, span.span_class)
        order = [span for span, _ in spans]
        seed.shuffle(order)
        for span in order:
            nest.end(span.name, span.usage)
        root = spans[0][0]
        expected = Counter({kind: true_tokens(root, kind) for kind in FIELDS})
        numbered = [(call_id, seq) for call_id, seq, _ in nest.amended if call_id]
        if (nest.totals, len(nest.requests)) != (expected, true_requests(root)):
            wrong.append((number, spans, order))
        assert len(set(numbered)) == len(numbered)
    assert wrong == []


def test_node_limit_drops_the_oldest() -> None:
    """Past its limit the tree forgets ended spans first, then the oldest, and goes on counting."""
    nest = Nest(node_limit=3)
    nest.start("open", span_class="agent")
    for number in range(10):
        nest.start(f"ended {number}", "open")
        nest.end(f"ended {number}", Usage(input=1))
    assert len(nest.tree) == 3
    assert nest.nodes["open"].span_id in nest.tree
    nest.end("open", Usage(input=10))
    assert (nest.totals["input"], len(nest.requests)) == (10, 10)
    for number in range(10):
        nest.start(f"never ended {number}")
    assert len(nest.tree) == 3


def test_ended_spans_leave_after_their_grace() -> None:
    """With no grace an ended span is gone at the next start, also behind one that stays open."""
    nest = Nest(grace_s=0.0)
    nest.start("open", span_class="agent")
    for number in range(5):
        nest.start(f"ended {number}", "open")
        nest.end(f"ended {number}", Usage(input=1))
    nest.start("last", "open")
    assert [name for name, node in nest.nodes.items() if node.span_id in nest.tree] == ["open", "last"]


def test_reset_forgets_everything() -> None:
    """After a reset no span is known and new ones count from scratch."""
    nest = Nest()
    nest.start("outer")
    nest.tree.reset()
    assert (len(nest.tree), nest.tree.get(nest.nodes["outer"].span_id)) == (0, None)
    nest.start("again", "outer")
    nest.end("again", Usage(input=2))
    assert nest.summary == ([Usage(input=2)], [])


def test_eight_threads_under_one_agent() -> None:
    """8 threads with 500 calls each under one agent lose no request and no token."""
    nest = Nest()
    nest.start("agent", span_class="agent")
    agent_id = nest.nodes["agent"].span_id
    results: list[Contribution] = []

    def work(worker: int) -> None:
        for number in range(500):
            span_id = 1000 + worker * 1000 + number
            node = nest.tree.start(span_id, parent_id=agent_id, span_class="llm", new_id=str(span_id))
            facts = dataclasses.replace(NOTHING, usage=Usage(input=3))
            results.append(nest.tree.end(node, span_class="llm", facts=facts, new_id=""))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = nest.end("agent", Usage(input=3 * 4000 + 7))
    assert Counter((found.usage, found.is_request) for found in results) == {(Usage(input=3), True): 4000}
    assert left.usage == Usage(input=7)


def test_a_finalizer_may_end_a_span_inside_the_tree() -> None:
    """A span ended by a garbage collection that runs while the tree is held does not lock it up."""
    nest = Nest()
    nest.start("abandoned")

    class Collecting(OrderedDict[int, Node]):
        def __setitem__(self, span_id: int, node: Node) -> None:
            super().__setitem__(span_id, node)
            nest.end("abandoned", Usage(input=1))

    nest.tree._nodes = Collecting(nest.tree._nodes)
    starting = threading.Thread(target=nest.start, args=("next",), daemon=True)
    starting.start()
    starting.join(5)
    assert not starting.is_alive()
    assert nest.requests[0] == Usage(input=1)
