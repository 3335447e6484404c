"""The tree of open and ended spans: bounded, shared by threads, and never locked up."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, OrderedDict

from otel_genapp.pipeline.nodes import Contribution, Node
from otel_genapp.records import Usage
from tests.span_nest import NOTHING, Nest


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


def test_spans_that_never_end_are_told_of() -> None:
    """A span that has to go although it never ended is told of, an ended one is not."""
    nest = Nest(node_limit=2)
    gone: list[int] = []
    nest.tree.on_abandon = gone.append
    nest.start("ended")
    nest.end("ended")
    for name in ("first", "second", "third"):
        nest.start(name)
    assert gone == [nest.nodes["first"].span_id]


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
