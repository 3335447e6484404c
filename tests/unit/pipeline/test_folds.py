"""Records wait for their fold: in order, bounded, and none is lost."""

from __future__ import annotations

import threading
import time

import pytest
from opentelemetry.context import Context

from otel_genapp.pipeline.folds import Folds, Position
from otel_genapp.records import LLMCall, Record
from tests.builders import call
from tests.conftest import OwnError
from tests.fakes import eventually

CONTEXT = Context()


def id_of(record: Record) -> str:
    """The id of a call's record."""
    assert isinstance(record, LLMCall)
    return record.call_id


class Ledger:
    """Remembers what was folded, and can be made to wait."""

    def __init__(self) -> None:
        self.folded: list[str] = []
        self.reached = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def fold(self, record: Record, context: Context, *, position: Position | None) -> None:
        assert context is CONTEXT
        self.reached.set()
        assert self.open.wait(10)
        self.folded.append(id_of(record))


def numbered(count: int) -> list[Record]:
    return [call(str(number)) for number in range(count)]


def test_the_thread_folds_in_order() -> None:
    """Without a reader the records are folded all the same, in the order they came."""
    ledger = Ledger()
    folds = Folds(ledger.fold)
    for record in numbered(500):
        folds.append(record, CONTEXT)
    assert eventually(lambda: len(ledger.folded) == 500)
    assert ledger.folded == [str(number) for number in range(500)]
    folds.close(1)


def test_a_reader_folds_what_is_queued() -> None:
    """`drain` returns with everything appended before it folded, without waiting for the thread."""
    ledger = Ledger()
    folds = Folds(ledger.fold)
    for record in numbered(100):
        folds.append(record, CONTEXT)
    assert folds.drain(5)
    assert (len(ledger.folded), len(folds)) == (100, 0)
    folds.close(1)


def test_a_drain_that_takes_too_long_says_so() -> None:
    """While a fold hangs, `drain` and `close` return False within their time."""
    ledger = Ledger()
    ledger.open.clear()
    folds = Folds(ledger.fold)
    folds.append(call(), CONTEXT)
    assert ledger.reached.wait(10)
    started_s = time.monotonic()
    assert (folds.drain(0.05), folds.close(0.05), folds.drain(-1)) == (False, False, False)
    assert time.monotonic() - started_s < 2
    ledger.open.set()
    assert eventually(lambda: ledger.folded == ["c1"])


def test_records_after_close_are_folded_at_once() -> None:
    """After `close` there is no thread, and a record is folded by whoever brings it."""
    ledger = Ledger()
    folds = Folds(ledger.fold)
    assert folds.close(1)
    for record in numbered(3):
        folds.append(record, CONTEXT)
        folds.help()
    assert ledger.folded == ["0", "1", "2"]


@pytest.mark.expected_own_errors
def test_a_raising_fold_does_not_end_the_thread(own_errors: list[OwnError]) -> None:
    """A record that cannot be folded is reported; the next ones are."""
    folded = []

    def fold(record: Record, context: Context, *, position: Position | None) -> None:
        if id_of(record) == "1":
            raise ValueError("not this one")
        folded.append(id_of(record))

    folds = Folds(fold)
    for record in numbered(3):
        folds.append(record, CONTEXT)
    assert eventually(lambda: folded == ["0", "2"])
    assert [own.site for own in own_errors] == ["pipeline"]
    folds.close(1)


def test_the_queue_is_bounded_and_readers_get_their_turn() -> None:
    """With 8 threads bringing more than one can fold, the queue keeps its limit and a drain its time."""
    limit, folded = 300, []

    def fold(record: Record, context: Context, *, position: Position | None) -> None:
        end_s = time.perf_counter() + 20e-6
        while time.perf_counter() < end_s:
            pass
        folded.append(id_of(record))

    folds = Folds(fold, queue_limit=limit)
    longest = [0] * 8

    def bring(worker: int) -> None:
        for record in numbered(1500):
            folds.append(record, CONTEXT)
            folds.help()
            longest[worker] = max(longest[worker], len(folds))

    threads = [threading.Thread(target=bring, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    assert folds.drain(5)
    for thread in threads:
        thread.join()
    assert folds.drain(5)
    assert len(folded) == 8 * 1500
    assert max(longest) <= limit + 100
    folds.close(1)


def test_a_record_made_inside_a_fold_does_not_lock_up() -> None:
    """A finalizer that runs while the queue is over its limit, in the folding thread, gets through."""
    folds: Folds
    folded: list[str] = []

    def fold(record: Record, context: Context, *, position: Position | None) -> None:
        folded.append(id_of(record))
        if id_of(record) == "0":
            folds.append(call("inner"), context)
            folds.help()

    folds = Folds(fold, queue_limit=0)

    def bring() -> None:
        folds.append(call("0"), CONTEXT)
        folds.help()

    bringing = threading.Thread(target=bring, daemon=True)
    bringing.start()
    bringing.join(5)
    assert not bringing.is_alive()
    assert folds.drain(5)
    assert folded == ["0", "inner"]
    folds.close(1)


def test_reset_in_a_child() -> None:
    """A forked child, left with the parent's queue, locks and no thread, starts empty and folds."""
    ledger = Ledger()
    folds = Folds(ledger.fold)
    folds._thread = threading.Thread()  # as the child sees it: not running
    folds.append(call("parent's"), CONTEXT)
    folds._next.acquire()
    folds._folding.acquire()
    folds.reset()
    assert len(folds) == 0
    folds.append(call("child's"), CONTEXT)
    assert eventually(lambda: ledger.folded == ["child's"])
    assert folds.close(5)
