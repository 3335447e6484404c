"""What every store of spans promises."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from otel_genapp.ledger import spans as kept
from otel_genapp.ledger.spans import SpanStore, TracePage, TraceSummary
from otel_genapp.ledger.spans_memory import MemorySpans
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.sql import spans as sql_spans
from otel_genapp.ledger.store import Store
from otel_genapp.records import KeptEvent, KeptSpan
from tests.builders import MINUTE_NS, START_NS, kept_span
from tests.conformance.stores import KEEPING_SPANS, STORES, Factory
from tests.servers import Servers

ROOM = 1 << 40


@pytest.fixture(params=KEEPING_SPANS)
def open_store(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Factory]:
    with STORES[request.param](servers) as factory:
        yield factory


@pytest.fixture
def store(open_store: Factory) -> Store:
    return open_store()


@pytest.fixture
def spans(store: Store) -> SpanStore:
    """An empty store of spans of each kind."""
    return store.spans if isinstance(store, SQLStore) else MemorySpans()


def trace_id(number: int) -> str:
    return f"{number:032x}"


def trace(number: int, **said: object) -> KeptSpan:
    """A trace of one span, a minute after the one before."""
    return kept_span(
        f"{number:016x}", trace_id(number), **{"started_at_ns": START_NS + number * MINUTE_NS, **said}
    )


def ids_of(spans: SpanStore) -> list[int]:
    """The traces there are, newest first."""
    return [int(found.trace_id, 16) for found in spans.recent(limit=1000, cursor=None).traces]


def test_a_span_comes_back_as_it_was(spans: SpanStore) -> None:
    """Every field, odd texts and numbers included."""
    odd = "nul\0 lone\ud800 \U0001f600 \x01"
    whole = KeptSpan(
        trace_id="t", span_id="s", parent_id="p", correlation_id=odd, name=odd * 200, kind="client", scope="shop",
        service=odd, started_at_ns=START_NS, duration_ms=0.125, status="error", status_message=odd,
        error_type="ValueError", attributes={odd: [1, 2.5, True, odd], "n": 2**62},
        events=(KeptEvent(name="exception", at_ns=START_NS + 1, attributes={"exception.message": odd}),), links=2, cut=3,
    )  # fmt: skip
    assert spans.add([whole]) == 1
    [found] = spans.by_correlation_id(odd)
    assert found.spans == (whole,)
    assert spans.by_trace_id("t") == found
    assert (spans.by_correlation_id("other"), spans.by_trace_id("other")) == ((), None)


def test_an_empty_store(spans: SpanStore) -> None:
    """Before the first span nothing is there, and nothing is an error."""
    assert spans.recent(limit=10, cursor=None) == TracePage((), None)
    assert spans.recent(limit=10, cursor=None, only_errors=True) == TracePage((), None)
    assert spans.add([]) == 0
    assert spans.tidy(before_ns=START_NS, keep_bytes=0) == 0


def test_a_trace_is_told_by_its_root(spans: SpanStore) -> None:
    """Its spans come in any order and batch, and twice; the summary is the same."""
    root = kept_span("1", name="GET /", kind="server", service="front", duration_ms=3000.0)
    server = kept_span("2", parent_id="1", name="GET /inner", kind="server", service="back",
                       started_at_ns=START_NS + 10**9, duration_ms=1000.0)  # fmt: skip
    late = kept_span("3", parent_id="2", correlation_id="other", started_at_ns=START_NS + 2 * 10**9,
                     duration_ms=4000.0)  # fmt: skip
    order = [late, server, root, late, server, root]
    for at in range(3):
        assert spans.add(order[at : at + 3]) == 3
    told = TraceSummary(
        trace_id="1" * 32, correlation_id="1" * 32, name="GET /", service="front", started_at_ns=START_NS,
        duration_ms=6000.0, failed=False, slow=False, spans=3, dropped=0,
    )  # fmt: skip
    assert spans.recent(limit=10, cursor=None) == TracePage((told,), None)
    for found in (spans.by_trace_id("1" * 32), *spans.by_correlation_id("other")):
        assert found is not None
        assert (found.summary, sorted(found.spans, key=lambda one: one.span_id)) == (
            told,
            [root, server, late],
        )


def test_without_its_root_a_trace_is_told_by_what_is_nearest(spans: SpanStore) -> None:
    """The server span of this service, else its earliest span."""
    spans.add([kept_span("1", parent_id="0", name="inner")])
    spans.add([kept_span("2", parent_id="0", name="early", started_at_ns=START_NS - 1)])
    assert [found.name for found in spans.recent(limit=1, cursor=None).traces] == ["early"]
    spans.add([kept_span("3", parent_id="0", name="GET /", kind="server")])
    assert [found.name for found in spans.recent(limit=1, cursor=None).traces] == ["GET /"]


def test_one_correlation_id_may_have_several_traces(spans: SpanStore) -> None:
    """The newest ones are shown, the newest first, and others not at all."""
    spans.add([trace(number, correlation_id="cid" if number % 2 else "other") for number in range(60)])
    found = spans.by_correlation_id("cid")
    assert [int(one.summary.trace_id, 16) for one in found] == list(range(59, 19, -2))
    assert {len(one.spans) for one in found} == {1}


def test_an_answer_is_bounded(spans: SpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that the answer has no room for is there without its spans; one alone is whole."""
    monkeypatch.setattr("otel_genapp.ledger.spans_memory.SPANS_SHOWN", 5)
    monkeypatch.setattr(sql_spans, "SPANS_SHOWN", 5)
    for number in range(3):
        spans.add([kept_span(str(at), trace_id(number), correlation_id="cid") for at in range(2 + number)])
    found = spans.by_correlation_id("cid")
    assert [(one.summary.spans, len(one.spans)) for one in found] == [(4, 4), (3, 0), (2, 0)]


def test_a_trace_without_end_is_cut(spans: SpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of spans further ones are dropped, and the trace says how many."""
    monkeypatch.setattr(kept, "SPANS_PER_TRACE", 10)
    numbers = count()
    kept_now = [spans.add([kept_span(str(next(numbers))) for _ in range(4)]) for _ in range(4)]
    assert kept_now == [4, 4, 2, 0]
    [summary] = spans.recent(limit=1, cursor=None).traces
    assert (summary.spans, summary.dropped) == (10, 6)


def test_pages_of_traces(spans: SpanStore) -> None:
    """Newest first, each once, whatever comes in between; errors alone if asked."""
    spans.add([trace(number, status="error" if number % 5 == 0 else "ok") for number in range(23)])

    def walk(*, only_errors: bool) -> list[int]:
        seen: list[int] = []
        cursor, extra = None, count(1000)
        while True:
            page = spans.recent(limit=4, cursor=cursor, only_errors=only_errors)
            seen += [int(found.trace_id, 16) for found in page.traces]
            spans.add([trace(next(extra) + len(seen) * 100, status="error")])
            if page.next is None:
                return seen
            cursor = page.next

    assert walk(only_errors=False) == list(range(22, -1, -1))
    assert [number for number in walk(only_errors=True) if number < 100] == [20, 15, 10, 5, 0]
    with pytest.raises(ValueError, match="cursor must be one that an earlier page gave"):
        spans.recent(limit=4, cursor="x")


def test_whole_traces_go_by_what_they_are_worth(spans: SpanStore) -> None:
    """Ordinary ones first, slow ones after them, failed ones last, of the same worth the oldest first."""
    kinds: dict[int, dict[str, object]] = {0: {}, 1: {"duration_ms": 10_001.0}, 2: {"error_type": "KeyError"}}
    for number in range(12):
        spans.add([trace(number, **kinds[(number + 1) % 3])])
    gone: list[int] = []
    for keep in range(12, -1, -1):
        left = ids_of(spans)
        size = sum(found.spans for found in spans.recent(limit=100, cursor=None).traces)
        assert size == len(left) == keep
        one_less = _bytes_of(spans, trace(0)) * (keep - 1) + 100
        removed = spans.tidy(before_ns=0, keep_bytes=max(one_less, 0))
        assert removed == min(keep, 1)
        gone += sorted(set(left) - set(ids_of(spans)))
    assert gone == [2, 5, 8, 11, 0, 3, 6, 9, 1, 4, 7, 10]


def _bytes_of(_spans: SpanStore, span: KeptSpan) -> int:
    from otel_genapp.ledger import span_codec

    return len(span_codec.encode(span)) + kept.SPAN_BYTES


def test_a_slow_span_inside_makes_no_slow_trace(spans: SpanStore) -> None:
    """Only what somebody waits for counts: a root, or the request of a service."""
    long = {"duration_ms": 20_000.0, "parent_id": "0"}
    spans.add([trace(1, **long), trace(2, kind="server", **long), trace(3, kind="consumer", **long)])
    assert [found.slow for found in spans.recent(limit=9, cursor=None).traces] == [True, True, False]


def test_old_traces_go(spans: SpanStore) -> None:
    """By the end of their last span, whatever they are worth; a trace that goes on stays whole."""
    spans.add([trace(number, status="error") for number in range(10)])
    spans.add([kept_span("f" * 16, trace_id(2), started_at_ns=START_NS + 99 * MINUTE_NS)])
    assert spans.tidy(before_ns=START_NS + 5 * MINUTE_NS, keep_bytes=ROOM) == 4
    assert sorted(ids_of(spans)) == [2, 5, 6, 7, 8, 9]
    found = spans.by_trace_id(trace_id(2))
    assert found is not None
    assert len(found.spans) == 2
    assert spans.by_correlation_id(trace_id(1)) == ()
    assert spans.tidy(before_ns=START_NS + 5 * MINUTE_NS, keep_bytes=ROOM) == 0


def test_a_session_s_traces_go_whole(spans: SpanStore) -> None:
    """Those with a span that names the session in one of the attributes, and no others, are removed."""
    odd = 'an"na%_\ud800\\'
    spans.add([
        trace(1, attributes={"session.id": odd}),
        kept_span("b" * 16, trace_id(1), parent_id=f"{1:016x}"),
        trace(2, attributes={"session.id": odd + "2", "note": f'"session.id":"{odd}"'}),
        trace(3, attributes={"chat": odd}),
        trace(4, attributes={"other": odd, "session.id": odd.upper()}),
        trace(5, attributes={"items": [1], "langfuse.session.id": odd}),
        trace(6),
    ])  # fmt: skip
    keys = ("session.id", "langfuse.session.id")
    assert spans.clear("nobody", keys=keys) == 0
    assert spans.clear(odd, keys=keys) == 2
    assert ids_of(spans) == [6, 4, 3, 2]
    assert spans.by_trace_id(trace_id(1)) is None
    assert spans.clear(odd, keys=keys) == 0
    assert spans.tidy(before_ns=0, keep_bytes=0) == 4  # what was freed is not counted twice
    assert ids_of(spans) == []


def test_a_session_with_many_traces(spans: SpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one transaction removes, and all of them go."""
    monkeypatch.setattr(sql_spans, "TRACES_AT_ONCE", 7)
    spans.add([trace(number, attributes={"session.id": f"s{number % 2}"}) for number in range(60)])
    assert spans.clear("s1", keys=("session.id",)) == 30
    assert ids_of(spans) == list(range(58, -1, -2))


def test_much_goes_in_parts(spans: SpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has to go at once, what is left is what should be."""
    monkeypatch.setattr(sql_spans, "TRACES_AT_ONCE", 7)
    monkeypatch.setattr(sql_spans, "SPANS_AT_ONCE", 5)
    for number in range(40):
        spans.add([kept_span(f"{at}", trace_id(number)) for at in range(1 + number % 9)])
    assert spans.tidy(before_ns=0, keep_bytes=0) == 40
    assert ids_of(spans) == []
    spans.add([trace(99)])
    assert ids_of(spans) == [99]


def test_threads_lose_no_span(spans: SpanStore) -> None:
    """Batches of the same traces from several threads at once are all there, each span once."""
    batches = [
        [kept_span(f"{worker:08x}{at:08x}", trace_id(at % 3)) for at in range(start, start + 10)]
        for worker in range(4)
        for start in range(0, 30, 5)
    ]
    random.Random(1).shuffle(batches)  # noqa: S311 - repeatable on purpose

    def work(worker: int) -> None:
        for batch in batches[worker::4]:
            spans.add(batch)
            spans.recent(limit=3, cursor=None)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summaries = spans.recent(limit=9, cursor=None).traces
    assert sum(found.spans for found in summaries) == 4 * 35
    for summary in summaries:
        found = spans.by_trace_id(summary.trace_id)
        assert found is not None
        assert len({span.span_id for span in found.spans}) == len(found.spans) == summary.spans
