"""Log records on their way out: bounded, counted once whatever happens, and lost alone."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otel_genapp.bootstrap import log_batches
from otel_genapp.bootstrap.log_batches import QUEUE_BYTES, LogBatches
from otel_genapp.bootstrap.log_export import LogExport
from otel_genapp.config import OtelEnvironment
from otel_genapp.pipeline.export.account import EXPORTED
from otel_genapp.pipeline.export.packing import PARCEL_BYTES

RESOURCE = Resource({})
SOON = OtelEnvironment(log_delay_s=0.01)
NEVER = OtelEnvironment(log_delay_s=3600)


class Collector(LogRecordExporter):
    """Takes what can be encoded, and what `refuses` lets pass; `gate` holds it up."""

    def __init__(self, refuses: Callable[[Sequence[Any]], bool] = lambda _: False) -> None:
        self.refuses = refuses
        self.taken: list[Any] = []
        self.asked = 0
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.asked += 1
        self.entered.set()
        self.gate.wait(10)
        try:
            encode_logs(batch).SerializeToString()
        except ValueError:
            return LogRecordExportResult.FAILURE
        if self.refuses(batch):
            return LogRecordExportResult.FAILURE
        self.taken += [one.log_record.body for one in batch]
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to let go of."""

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True


class Counts:
    """What was counted."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def __call__(self, what: str, outcome: str, *, number: int) -> None:
        assert what == "log"
        self.found[outcome] += number


def a_record(body: str) -> ReadableLogRecord:
    return ReadableLogRecord(log_record=LogRecord(body=body), resource=RESOURCE)


def batches_to(collector: Collector, otel: OtelEnvironment = SOON) -> tuple[LogBatches, Counts]:
    counts = Counts()
    return LogBatches(lambda: collector, counts, otel=otel), counts


@pytest.fixture
def to_root() -> Iterator[Callable[[LogRecordExporter], tuple[LogExport, Counts]]]:
    """A running export of the root logger's records; ended afterwards."""
    running: list[LogExport] = []

    def start(exporter: LogRecordExporter) -> tuple[LogExport, Counts]:
        counts = Counts()
        running.append(LogExport(lambda: exporter, counts, resource=RESOURCE, otel=SOON))
        return running[-1], counts

    yield start
    for one in running:
        one.close()


@pytest.mark.parametrize("places", [[0], [99], [50], [3, 4, 97], list(range(0, 100, 2)), list(range(100))])
def test_what_cannot_be_encoded_is_lost_alone(places: list[int]) -> None:
    """Its neighbours arrive, wherever it stands, and it is counted."""
    collector = Collector()
    batches, counts = batches_to(collector, NEVER)
    for place in range(100):
        batches.take(a_record("\ud800" if place in places else str(place)), 100)
    batches.hurry()
    assert batches.account.settled_within(100, 10)
    batches.close()
    assert collector.taken == [str(place) for place in range(100) if place not in places]
    good = {EXPORTED: 100 - len(places)} if len(places) < 100 else {}
    assert counts.found == {"created": 100, **good, "encoding_failed": len(places)}


def test_what_a_collector_does_not_take_is_asked_once() -> None:
    """A batch that can be encoded is not sent again in parts."""
    collector = Collector(lambda _: True)
    batches, counts = batches_to(collector, NEVER)
    for place in range(10):
        batches.take(a_record(str(place)), 100)
    batches.hurry()
    assert batches.account.settled_within(10, 10)
    batches.close()
    assert (collector.asked, counts.found) == (1, {"created": 10, "export_failed": 10})
    assert batches.problem


def test_the_queue_is_bounded_in_bytes() -> None:
    """What there is no room for is counted as what is too much, and memory stays bounded."""
    collector = Collector()
    collector.gate.clear()
    batches, counts = batches_to(collector)
    batches.take(a_record("first"), 100)
    batches.hurry()
    assert collector.entered.wait(10)
    many = QUEUE_BYTES // 1_000_000
    for _ in range(many + 5):
        batches.take(a_record("large"), 1_000_000)
    collector.gate.set()
    assert batches.account.settled_within(many + 6, 10)
    batches.close()
    assert counts.found == {"created": many + 6, EXPORTED: many + 1, "queue_full": 5}


def test_batches_are_small_enough_for_any_receiver() -> None:
    """No request is longer than a collector takes over gRPC."""
    sizes: list[int] = []

    def weigh(batch: Sequence[Any]) -> bool:
        sizes.append(encode_logs(batch).ByteSize())
        return False

    collector = Collector(weigh)
    batches, _ = batches_to(collector, NEVER)
    for _ in range(300):
        batches.take(a_record("ж" * 10_000), 20_000)
    batches.hurry()
    assert batches.account.settled_within(300, 20)
    batches.close()
    assert (len(collector.taken), max(sizes) < PARCEL_BYTES, len(sizes) > 1) == (300, True, True)


def test_a_thread_that_does_not_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the records wait, the next one tries again, and the status says so."""
    collector = Collector()
    batches, counts = batches_to(collector)

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(log_batches, "start_in_no_context", fail)
        batches.take(a_record("1"), 100)
        batches.take(a_record("2"), 100)
    assert "thread" in batches.problem
    batches.take(a_record("3"), 100)
    batches.hurry()
    assert batches.account.settled_within(3, 10)
    batches.close()
    assert (collector.taken, batches.problem) == (["1", "2", "3"], "")
    assert counts.found == {"created": 3, EXPORTED: 3}


class WatchedLock:
    """A lock; before `thread` takes it for the so-and-so-many-th time something happens."""

    def __init__(self, happens: Callable[[], object], *, before: int) -> None:
        self.lock = threading.RLock()
        self.thread: threading.Thread | None = None
        self._happens, self._left = happens, before

    def __enter__(self) -> None:
        if threading.current_thread() is self.thread:
            self._left -= 1
            if self._left == 0:
                self._happens()
        self.lock.acquire()

    def __exit__(self, *_raised: object) -> None:
        self.lock.release()


@pytest.mark.parametrize("before", range(1, 6))
def test_an_end_counts_each_record_once(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is delivered while the export ends, at whatever moment, is not given up as well."""
    collector = Collector()
    collector.gate.clear()
    batches, counts = batches_to(collector, NEVER)

    def deliver() -> None:
        if lock.lock.acquire(timeout=0.2):
            batches.account.settle(5, EXPORTED)
            lock.lock.release()

    def deliver_elsewhere() -> None:
        other = threading.Thread(target=deliver)
        other.start()
        other.join(10)

    lock = WatchedLock(deliver_elsewhere, before=before)
    monkeypatch.setattr(batches.account, "lock", lock)
    for place in range(5):
        batches.take(a_record(str(place)), 100)
    batches.hurry()
    assert collector.entered.wait(10)
    closing = lock.thread = threading.Thread(target=batches.close)
    closing.start()
    closing.join(10)
    collector.gate.set()
    batches.take(a_record("late"), 100)
    assert (counts.found["created"], counts.found[EXPORTED] + counts.found["shutdown"]) == (5, 5)


def test_what_did_not_fit_is_counted_once() -> None:
    """However many threads count at once, and after the end."""
    collector = Collector()
    collector.gate.clear()
    batches, counts = batches_to(collector, OtelEnvironment(log_queue_size=5, log_delay_s=0.001))
    for place in range(50):
        batches.take(a_record(str(place)), 100)
    collector.gate.set()
    threads = [threading.Thread(target=batches.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert counts.found["created"] == 50 == sum(counts.found.values()) - 50


class Waiting:
    """Waits, while it is shown, for another thread that logs."""

    def __init__(self) -> None:
        self.waited_in_vain = False

    def __repr__(self) -> str:
        other = threading.Thread(target=logging.getLogger("other").warning, args=("meanwhile",), daemon=True)
        other.start()
        other.join(5)
        self.waited_in_vain = other.is_alive()
        return "<waiting>"


def test_nothing_is_shown_under_the_lock(
    to_root: Callable[[LogRecordExporter], tuple[LogExport, Counts]],
) -> None:
    """A repr that waits for another thread's record does not wait for ever."""
    collector, waiting = Collector(), Waiting()
    export, _ = to_root(collector)
    logging.getLogger("shop").warning("hello", extra={"it": waiting})
    assert not waiting.waited_in_vain
    assert export.begin_flush()(10)
    assert sorted(collector.taken) == ["hello", *["meanwhile"] * (len(collector.taken) - 1)]


class Talking(Collector):
    """Logs whenever it sends."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        for name in ("shop", "otel_genapp.messages", "urllib3.connectionpool"):
            logging.getLogger(name).warning("about to send %d", len(batch))
        return super().export(batch)


def test_what_the_export_logs_stays_here(
    to_root: Callable[[LogRecordExporter], tuple[LogExport, Counts]],
) -> None:
    """A record that is made by sending records is not sent, or there were no end of it."""
    collector = Talking()
    export, counts = to_root(collector)
    logging.getLogger("shop").warning("hello")
    for _ in range(3):
        assert export.begin_flush()(10)
    assert (collector.taken, counts.found) == (["hello"], {"created": 1, EXPORTED: 1})


class Chatty:
    """Logs itself while it is shown."""

    def __repr__(self) -> str:
        logging.getLogger("chatty").warning("shown", extra={"me": self})
        return "<a chatty one>"


def test_a_value_that_logs_itself_comes_to_an_end(
    to_root: Callable[[LogRecordExporter], tuple[LogExport, Counts]],
) -> None:
    """A repr that logs the same object again is not followed for ever, and each record is sent."""
    collector = Collector()
    export, counts = to_root(collector)
    logging.getLogger("shop").warning("hello", extra={"me": Chatty()})
    assert export.begin_flush()(10)
    assert collector.taken[-1] == "hello"
    assert len(collector.taken) == counts.found["created"] < 100


class Uncopied(logging.LogRecord):
    """Cannot be copied."""

    def __copy__(self) -> Any:
        raise LookupError("planted")


def test_a_record_that_cannot_be_made_is_sent_without_its_text(
    to_root: Callable[[LogRecordExporter], tuple[LogExport, Counts]], expected_own_errors: list[Any]
) -> None:
    """What is wrong with a record hides the record, and it still counts."""
    collector = Collector()
    export, counts = to_root(collector)
    logging.getLogger().handle(Uncopied("shop", logging.WARNING, "p.py", 1, "hello", None, None))
    assert export.begin_flush()(10)
    assert (collector.taken, counts.found) == (["[REDACTED]"], {"created": 1, EXPORTED: 1})
    assert [own.site for own in expected_own_errors] == ["export"]
