"""Spans and what a collector says to them: the poisoned one alone is lost, and waits are obeyed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_genapp.pipeline.export.silence import silence
from tests.faults.exporting import App, exporting, ids_in, over_http, wait_until
from tests.faults.flaky_collector import Collector, collecting

LONG = "many words " * 3000


def poisoned_by(kind: str, app: App) -> None:
    """End a span that is the cause of trouble."""
    if kind == "a time before 1970":
        app.provider.get_tracer("app").start_span("work", start_time=-5).end()
    elif kind == "a lone surrogate":
        app.work(1, "bad \ud800 name", **{"bad \ud800 key": "bad \ud800 value"})
    elif kind == "an attribute past int64":
        app.work(1, tokens=2**70)
    elif kind == "65 MiB":
        app.work(1, text="x" * (65 * 2**20))
    elif kind == "10 MiB that cannot be cut":
        app.work(1, texts=[LONG] * 320)
    elif kind == "4 MB":
        app.work(1, texts=[LONG] * 120)
    else:
        app.work(1, "poison")


@pytest.mark.parametrize(
    ("kind", "mode", "lost"),
    [
        ("a name", "poison 400 poison", {"rejected": 1}),
        ("a name", "poison 413 poison", {"too_large": 1}),
        ("4 MB", "413 1000000", {"too_large": 1}),
        ("4 MB", "ok", {}),
        ("10 MiB that cannot be cut", "ok", {"too_large": 1}),
        ("65 MiB", "ok", {}),
        ("a time before 1970", "ok", {"encoding_failed": 1}),
        ("a lone surrogate", "ok", {}),
        ("an attribute past int64", "ok", {}),
    ],
)
def test_a_poisoned_span_is_lost_alone(kind: str, mode: str, lost: dict[str, int]) -> None:
    """Of a thousand spans 999 arrive, and the one is counted by its reason; or all, where it can be cleaned."""
    with collecting(mode) as collector, exporting(collector, delay_s=60) as app:
        made = app.work(500)
        poisoned_by(kind, app)
        made += app.work(499)
        assert app.flush() is (not lost)
        assert set(made) <= set(ids_in(collector))
        assert len(ids_in(collector)) == 1000 - sum(lost.values())
        assert {reason: number for reason, number in app.dropped.items() if number} == lost
        assert (app.export.pending, app.imbalance) == (0, 0)


def test_a_poisoned_span_that_waited_on_disk(tmp_path: Any) -> None:
    """It is found among those sent again, too."""
    with collecting("503") as collector, exporting(collector, folder=tmp_path / "state") as app:
        made = app.work(300)
        app.work(1, "poison")
        made += app.work(300)
        assert wait_until(lambda: app.export.spooled == 601)
        collector.be("poison 400 poison")
        assert not app.flush()
        assert set(ids_in(collector)) == set(made)
        assert (app.dropped, app.export.spooled, app.imbalance) == ({"rejected": 1}, 0, 0)


def test_a_partial_success_is_counted() -> None:
    """Spans of a taken request that the collector says it rejected are lost, and flush says so."""
    with collecting("partial 3") as collector, exporting(collector, delay_s=60) as app:
        app.work(100)
        assert not app.flush()
        assert len(ids_in(collector)) == app.counted("exported") == 97
        assert (app.dropped, app.imbalance) == ({"rejected": 3}, 0)


def test_a_collector_that_refuses_everything() -> None:
    """It is not asked about each span for ever."""
    with collecting("400") as collector, exporting(collector, delay_s=60, queue_size=10_000) as app:
        for _ in range(20):
            app.work(256)
        assert not app.flush(30)
        assert app.dropped == {"rejected": 20 * 256}
        assert len(collector.requests) < 1000
        collector.be("ok")
        made = app.work(10)
        assert app.flush()
        assert ids_in(collector) == made


def pauses(collector: Collector) -> list[float]:
    """The seconds between requests."""
    return [later.at_s - earlier.at_s for earlier, later in pairwise(collector.requests)]


@pytest.mark.parametrize(
    ("told", "least_s", "most_s"),
    [
        ("429 1", 1.0, 1.6),
        ("503 1", 1.0, 1.6),
        ("429 0", 0.1, 0.6),
        ("429 Thu, 01 Jan 1970 00:00:00 GMT", 0.1, 0.6),
        ("429 soon", 0.5, 1.6),
        ("429 -7", 0.5, 1.6),
        ("503", 0.5, 1.6),
    ],
)
def test_the_collector_says_when(told: str, least_s: float, most_s: float) -> None:
    """`Retry-After` is obeyed, even while somebody waits; junk in it leaves our own pause."""
    with collecting(told) as collector, exporting(collector) as app:
        app.work(10)
        assert wait_until(lambda: len(collector.requests) >= 2)
        assert least_s <= pauses(collector)[0] <= most_s


@pytest.mark.parametrize("told", ["429 1000000000", "429 Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_without_end_ends(told: str) -> None:
    """The collector is asked again after a minute at the latest."""
    with collecting(told) as collector, exporting(collector) as app:
        app.work(10)
        assert wait_until(lambda: app.export._dispatch.delivery.is_away)
        delivery = app.export._dispatch.delivery
        assert 50 < delivery._due_s - time.monotonic() <= 60
        began = time.monotonic()
        assert not app.flush(0.8)  # an impatient flush changes nothing
        assert time.monotonic() - began < 1.0
        assert len(collector.requests) == 1


def test_pauses_grow() -> None:
    """Each failure makes the next pause longer, up to 30 seconds, and success forgets them."""
    with collecting("503") as collector, exporting(collector) as app:
        delivery = app.export._dispatch.delivery
        from otel_genapp.pipeline.export.answers import Answer, Verdict

        longest = 0.0
        for _ in range(200):
            delivery._fail(Answer(Verdict.LATER, "no"))
            pause_s = delivery._due_s - time.monotonic()
            assert 0.4 <= pause_s <= 30
            longest = max(longest, pause_s)
        assert longest > 10
        collector.be("ok")
        app.work(10)
        assert app.flush(3)  # somebody who waits does not wait for 30 seconds
        assert delivery._failures == 0


def test_an_answer_without_end_is_not_waited_for() -> None:
    """A byte every now and then keeps a request open, but no other one from being sent."""
    with collecting("drip") as collector, exporting(collector, timeout_s=0.5) as app:
        made = app.work(10)
        assert not app.flush(2.0)
        before = set(collector.requests)
        collector.be("ok")
        assert app.flush(5.0)
        assert set(ids_in(collector)) == set(made)
        assert not before
        assert app.imbalance == 0


@contextmanager
def root_logging(handler: logging.Handler) -> Iterator[None]:
    """The handler hears everything, urllib3's connections too."""
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


class Tracing(logging.Handler):
    """Turns each log record into a span, on whatever thread it is made, and flushes."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self.app = app
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.name)
        self.app.work(1, "log record")
        self.app.flush(5.0)


@pytest.mark.parametrize("mode", ["ok", "503", "400", "refuse"])
def test_logs_that_become_spans_end(mode: str) -> None:
    """What our threads do makes no spans and no logs but a word on the outage, so nothing goes round."""
    with collecting(mode) as collector, exporting(collector) as app:
        tracing = Tracing(app)
        with root_logging(tracing):
            app.work(10)
            app.flush(1.5)
        assert set(tracing.heard) <= {"otel_genapp"}
        assert len(tracing.heard) <= 1
        assert app.counted("created") == 10
        assert len(collector.requests) <= 25


def test_spans_that_only_end_on_our_threads_count() -> None:
    """A collection of garbage there may end the application's spans; those made there are nobody's."""
    with collecting() as collector, exporting(collector, delay_s=60) as app:
        tracer = app.provider.get_tracer("app")
        left_open = tracer.start_span("left open")
        with silence():
            left_open.end()
            tracer.start_span("ours").end()
        assert app.flush()
        assert [span.name for span in collector.spans] == ["left open"]
        assert (app.counted("created"), app.imbalance) == (1, 0)


def test_the_exporters_settings_hold() -> None:
    """What waits is sent with the compression and the headers of the exporter."""
    with collecting("503") as collector:
        app = App(over_http(collector, compression=Compression.Gzip, headers={"x-token": "1"}), delay_s=60)
        made = [span for _ in range(300) for span in app.work(text=LONG[:1000])]
        assert not app.flush(0.3)
        collector.be("ok")
        assert app.flush()
        assert set(ids_in(collector)) == set(made)
        assert {(request.encoding, request.token) for request in collector.requests} == {("gzip", "1")}
        app.close()


class Watching(SpanExporter):
    """An exporter of no known make, which fails until told otherwise."""

    def __init__(self) -> None:
        self.fails = True
        self.instrumented: set[bool] = set()
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.instrumented.add(is_instrumentation_enabled())
        if self.fails:
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS


def test_any_exporter_will_do(tmp_path: Any) -> None:
    """The public `export` is called with the spans, those that waited on disk too, and is not instrumented."""
    watching = Watching()
    app = App(lambda: watching, folder=tmp_path / "state")
    made = app.work(100, tokens=1)
    assert wait_until(lambda: app.export.spooled == 100)
    watching.fails = False
    assert app.flush()
    contexts = [span.context for span in watching.spans]
    assert [f"{context.span_id:016x}" for context in contexts if context is not None] == made
    assert watching.instrumented == {False}
    assert (app.dropped, app.imbalance) == ({}, 0)
    app.close()


class Breaking(SpanExporter):
    """An exporter that raises."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise LookupError("broken")


@pytest.mark.usefixtures("expected_own_errors")
def test_an_exporter_that_raises() -> None:
    """It is an outage like any other, and ends with the process in time."""
    app = App(Breaking)
    app.work(10)
    assert not app.flush(0.5)
    assert app.imbalance == 0
    app.close()
    assert (app.dropped, app.imbalance) == ({"shutdown": 10}, 0)
