"""Spans on their way into the store: nobody waits, what is lost is counted, and the truth is told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_genapp.pipeline.sampler import Recording, RecordingSampler
from otel_genapp.pipeline.traces import TraceKeeping, keeping
from otel_genapp.records import KeptSpan
from tests.conftest import OwnError
from tests.fakes import eventually


class Kept:
    """A store that can be told to fail, to wait, and to have room for so many."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []
        self.batches: list[int] = []
        self.fails = False
        self.room = 10**9
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.contexts: list[object] = []
        self.tidied = 0

    def write(self, spans: Sequence[KeptSpan]) -> int:
        self.entered.set()
        self.open.wait(10)
        if self.fails:
            raise OSError("planted")
        self.contexts.append(otel_context.get_value("planted"))
        taken = list(spans)[: self.room]
        self.spans += taken
        self.batches.append(len(spans))
        return len(taken)

    def tidy(self) -> None:
        self.tidied += 1


class Rig:
    """A provider whose spans are kept, and what was counted of them."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.store = Kept()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.keeping = TraceKeeping(self.store.write, self.store.tidy, count=self._count)
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(self.keeping)
        self.tracer = provider.get_tracer("test")

    def spans(self, *names: str) -> None:
        for name in names:
            self.tracer.start_span(name).end()

    def names(self) -> list[str]:
        return [span.name for span in self.store.spans]

    def _count(self, what: str, outcome: str, *, number: int) -> None:
        self.counts[what, outcome] += number


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.store.open.set()
    rig.keeping.close()


def adds_up(rig: Rig) -> bool:
    """Created = stored + dropped."""
    rest = sum(number for (_, outcome), number in rig.counts.items() if outcome != "created")
    return rig.counts["trace_span", "created"] == rest


def test_spans_arrive_by_themselves(rig: Rig) -> None:
    """Within a moment, in batches, with nobody asking."""
    rig.spans("a", "b", "c")
    assert eventually(lambda: rig.names() == ["a", "b", "c"])
    assert len(rig.store.batches) < 3
    assert eventually(lambda: rig.counts == {("trace_span", "created"): 3, ("trace_span", "stored"): 3})


def test_a_drain_brings_what_ended_before_it(rig: Rig) -> None:
    """At once, in batches that are short, and True only then."""
    assert rig.keeping.drain(0)
    rig.spans(*map(str, range(450)))
    assert rig.keeping.drain(10)
    assert rig.names() == [str(number) for number in range(450)]
    assert max(rig.store.batches) <= keeping.BATCH_SPANS
    assert rig.keeping.waiting == 0


def test_only_sampled_spans_are_kept() -> None:
    """What is recorded for its numbers alone is not."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from otel_genapp.pipeline.counting import Tree
    from tests.builders import llm_attributes

    rig = Rig(RecordingSampler(ALWAYS_OFF, Recording(Tree())))
    span = rig.tracer.start_span("chat", attributes=llm_attributes())
    assert span.is_recording()
    span.end()
    assert rig.keeping.drain(1)
    assert (rig.names(), dict(rig.counts)) == ([], {})


def test_a_full_queue_drops_the_oldest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host goes on at once; what was lost is counted, and a flush says so once."""
    monkeypatch.setattr(keeping, "QUEUE_SPANS", 10)
    rig.store.open.clear()
    rig.spans("first")
    rig.keeping.begin_flush()
    assert rig.store.entered.wait(10)
    rig.spans(*map(str, range(25)))
    answer = rig.keeping.begin_flush()
    rig.store.open.set()
    assert answer(10) is False
    assert rig.names() == ["first", *map(str, range(15, 25))]
    assert rig.counts["trace_span", "queue_full"] == 15
    assert adds_up(rig)
    rig.spans("later")
    assert rig.keeping.begin_flush()(10) is True


def test_a_queue_of_large_spans_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes too."""
    monkeypatch.setattr(keeping, "QUEUE_BYTES", 100_000)
    rig.store.open.clear()
    rig.spans("first")
    rig.keeping.begin_flush()
    assert rig.store.entered.wait(10)
    for number in range(20):
        rig.tracer.start_span(str(number), attributes={"text": "x" * 20_000}).end()
    assert rig.keeping._bytes_waiting <= 100_000
    rig.store.open.set()
    assert rig.keeping.drain(10)
    assert rig.names()[1:] == ["16", "17", "18", "19"]
    assert adds_up(rig)


def test_a_store_that_comes_back(
    rig: Rig, expected_own_errors: list[OwnError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended meanwhile waits, `problem` says so, a flush is False, and then all of it is there in order."""
    monkeypatch.setattr(keeping, "_RETRY_S", 0.05)
    rig.store.fails = True
    rig.spans("a", "b")
    assert rig.keeping.begin_flush()(0.5) is False
    assert rig.keeping.problem
    assert rig.keeping.waiting == 2
    rig.spans("c")
    rig.store.fails = False
    assert eventually(lambda: rig.names() == ["a", "b", "c"])
    assert eventually(lambda: not rig.keeping.problem)
    assert rig.keeping.drain(1)
    assert adds_up(rig)
    assert {own.site for own in expected_own_errors} == {"ledger"}


def test_a_store_that_stays_away(
    rig: Rig, expected_own_errors: list[OwnError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest spans wait, older ones go; so does a batch that was refused time and again."""
    monkeypatch.setattr(keeping, "QUEUE_SPANS", 10)
    monkeypatch.setattr(keeping, "_RETRY_S", 0.01)
    monkeypatch.setattr(keeping, "_TRIES", 4)
    rig.store.fails = True
    rig.spans("poison")
    assert rig.keeping.drain(10)
    assert rig.counts["trace_span", "store_unavailable"] == 1
    monkeypatch.setattr(keeping, "_RETRY_S", 10)
    rig.spans("more")
    assert eventually(lambda: bool(rig.keeping.problem))
    rig.spans(*map(str, range(30)))
    assert rig.counts["trace_span", "store_unavailable"] == 21
    rig.store.fails = False
    assert rig.keeping.drain(10)
    assert rig.names() == ["more", *map(str, range(20, 30))]
    assert adds_up(rig)


def test_spans_past_a_traces_room_are_lost(rig: Rig) -> None:
    """The store says how many it took."""
    rig.store.room = 3
    rig.spans(*"abcde")
    assert rig.keeping.begin_flush()(10) is False
    assert rig.counts["trace_span", "trace_full"] == 2
    assert adds_up(rig)


def test_a_span_that_cannot_be_read_is_lost_alone(rig: Rig, expected_own_errors: list[OwnError]) -> None:
    """The others of its batch are kept."""
    broken = rig.tracer.start_span("broken")
    broken._name = object()  # type: ignore[attr-defined]
    rig.spans("a")
    broken.end()
    rig.spans("b")
    assert rig.keeping.drain(10)
    assert (rig.names(), rig.counts["trace_span", "redaction_failed"]) == (["a", "b"], 1)
    assert adds_up(rig)


def test_closing_counts_what_is_left(rig: Rig) -> None:
    """Nobody waits for a store that hangs; what was not written is told."""
    rig.store.open.clear()
    rig.spans("a", "b", "c")
    rig.keeping.begin_last_flush()
    assert rig.store.entered.wait(10)
    rig.keeping.close()
    assert rig.counts == {("trace_span", "created"): 3, ("trace_span", "shutdown"): 3}
    rig.spans("late")
    assert rig.keeping.drain(0)


def test_the_writer_runs_in_no_context(rig: Rig) -> None:
    """Whatever the thread that ended the first span was doing."""
    token = otel_context.attach(otel_context.set_value("planted", "here"))
    rig.spans("a")
    otel_context.detach(token)
    assert rig.keeping.drain(10)
    assert rig.store.contexts == [None]


def test_what_the_writer_does_is_not_kept(rig: Rig) -> None:
    """An instrumented database must not make a span of each batch of spans, without end."""
    write = rig.store.write

    def traced(spans: Sequence[KeptSpan]) -> int:
        with rig.tracer.start_as_current_span("INSERT"):
            return write(spans)

    rig.keeping._write = traced
    rig.spans("a")
    assert rig.keeping.drain(10)
    rig.spans("b")
    assert rig.keeping.drain(10)
    assert rig.names() == ["a", "b"]


def test_room_is_made_now_and_then(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some time, and after many spans."""
    rig.spans("a")
    assert rig.keeping.drain(10)
    assert rig.store.tidied == 0
    monkeypatch.setattr(keeping, "TIDY_EVERY_SPANS", 50)
    rig.spans(*map(str, range(60)))
    assert eventually(lambda: rig.store.tidied == 1)


def forked(rig: Rig, act: Callable[[], object]) -> object:
    from tests.forked import in_child

    return in_child(act)


def test_a_child_keeps_its_own(rig: Rig) -> None:
    """What the parent has queued is the parent's, whoever held which lock at the fork."""
    rig.store.open.clear()
    rig.spans("parent")
    rig.keeping.begin_flush()
    assert rig.store.entered.wait(10)
    rig.keeping._lock.acquire()

    def child() -> tuple[list[str], int]:
        rig.store.open = threading.Event()
        rig.store.open.set()
        rig.keeping.reset()
        rig.counts.clear()
        rig.spans("child")
        assert rig.keeping.drain(10)
        return rig.names(), rig.counts["trace_span", "stored"]

    try:
        assert forked(rig, child) == (["child"], 1)
    finally:
        rig.keeping._lock.release()
    rig.store.open.set()
    assert rig.keeping.drain(10)
    assert rig.names() == ["parent"]
