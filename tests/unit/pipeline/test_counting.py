"""The residual rule: each token once and each nest one request, however spans nest and end."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from otel_genapp.pipeline.dialects import SpanClass
from otel_genapp.records import Usage
from tests.span_nest import NOTHING, Nest

FIELDS = ("input", "output", "cache_read", "cache_write", "reasoning")


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


def test_several_nested_calls_are_joined() -> None:
    """Of several calls inside one, costs and tools add up, and of the rest the later word counts."""
    nest = Nest()
    nest.start("outer")
    said: tuple[dict[str, Any], ...] = (
        {
            "response_model": "a",
            "response_id": "r1",
            "tool_names": ("x",),
            "tool_calls": 1,
            "cost_nano_usd": 5,
        },
        {"response_model": "b", "tool_names": ("y", "z"), "tool_calls": 2, "cost_nano_usd": 7},
        {"finish_reasons": ("stop",)},
    )
    for number, facts in enumerate(said):
        nest.start(str(number), "outer")
        nest.tree.end(
            nest.nodes[str(number)],
            span_class="llm",
            facts=dataclasses.replace(NOTHING, **facts),
            new_id="",
        )
    found = nest.end("outer")
    assert found.call is not None
    assert found.call.inner == dataclasses.replace(
        NOTHING,
        response_model="b",
        response_id="r1",
        tool_names=("x", "y", "z"),
        tool_calls=3,
        cost_nano_usd=12,
        finish_reasons=("stop",),
    )


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
