"""`flush` and `shutdown` against collectors that fail: in time, true, and with every span accounted for."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import Telemetry, init_telemetry, llm_call
from tests.faults.flaky_collector import Collector, collecting
from tests.fresh import in_fresh_process

CALLS = 50
FLUSH_S, SHUTDOWN_S, LATE_S = 2.0, 5.0, 0.25
FAST_TO_FAIL = ("400", "503", "ack_lost", "refuse", "hang")
SURE_TO_FAIL = ("503", "429 1", "429 60", "400", "hang", "black_hole", "refuse", "ack_lost")


@dataclass(frozen=True)
class Account:
    """What became of the spans, by `/prometheus` and `status()`."""

    created: int
    exported: int
    dropped: int
    pending: int

    @property
    def balanced(self) -> bool:
        return self.created == self.exported + self.dropped + self.pending

    @classmethod
    def of(cls, telemetry: Telemetry) -> Account:
        body, _ = telemetry.exposition()
        samples = [
            sample
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if "span" in {sample.labels.get("kind"), sample.labels.get("what")}
        ]
        states = {sample.labels["state"]: sample.value for sample in samples if "state" in sample.labels}
        dropped = sum(sample.value for sample in samples if "reason" in sample.labels)
        pending = telemetry.status()["otlp"]["spans_pending"]
        return cls(int(states["created"]), int(states["exported"]), int(dropped), pending)


@contextmanager
def shop(collector: Collector, **environment: str) -> Iterator[Telemetry]:
    """A telemetry that exports to the collector."""
    os.environ.update({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, **environment})
    telemetry = init_telemetry("shop", "prod", internal_auth="test")
    yield telemetry
    telemetry.shutdown(0)  # the process is not to wait at its end for a collector that is gone


def call_llm(number: int = 1) -> set[str]:
    """The span ids of `number` LLM calls."""
    made = set()
    for _ in range(number):
        with llm_call("gpt-5", "openai") as call:
            call.usage(input=1, output=1)
            span = getattr(call, "_span").span  # noqa: B009 - mypy need not know
        made.add(f"{span.get_span_context().span_id:016x}")
    return made


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(("otel-genapp", "Otel")):
            thread.join(10)


def arrived(collector: Collector) -> set[str]:
    return {span.span_id for span in collector.spans}


def timed(work: Any, *arguments: float) -> tuple[Any, float]:
    began = time.monotonic()
    return work(*arguments), time.monotonic() - began


def flush_and_shut_down(mode: str) -> dict[str, Any]:
    with collecting(mode) as collector, shop(collector) as telemetry:
        call_llm(CALLS)
        flushed, flush_s = timed(telemetry.flush, FLUSH_S)
        after_flush = Account.of(telemetry)
        call_llm(CALLS)
        stopped, stop_s = timed(telemetry.shutdown, SHUTDOWN_S)
        return {
            "flush": (flushed, flush_s <= FLUSH_S + LATE_S),
            "shutdown": (stopped, stop_s <= SHUTDOWN_S + LATE_S),
            "balanced": (after_flush.balanced, Account.of(telemetry).balanced),
            "created": (after_flush.created, Account.of(telemetry).created),
            "pending at the end": Account.of(telemetry).pending,
            "exported": Account.of(telemetry).exported,
        }


@pytest.fixture(scope="module")
def failures() -> dict[str, dict[str, Any]]:
    """Each way to fail, all at the same time: they mostly wait."""
    with ThreadPoolExecutor(len(SURE_TO_FAIL)) as pool:
        return dict(
            zip(
                SURE_TO_FAIL,
                pool.map(lambda mode: in_fresh_process(flush_and_shut_down, mode), SURE_TO_FAIL),
                strict=True,
            )
        )


@pytest.mark.slow
@pytest.mark.parametrize("mode", SURE_TO_FAIL)
def test_a_failing_collector(mode: str, failures: dict[str, dict[str, Any]]) -> None:
    """Both say no, in time, and every span is exported, pending or counted as dropped."""
    assert failures[mode] == {
        "flush": (False, True),
        "shutdown": (False, True),
        "balanced": (True, True),
        "created": (CALLS, 2 * CALLS),
        "pending at the end": 0 if mode == "400" else 2 * CALLS,  # on disk, for the next process
        "exported": 0,
    }


def test_a_healthy_collector() -> None:
    """Both say yes when everything is in the ledger, although nobody used the global metrics."""
    assert in_fresh_process(flush_twice) == {
        "first": (True, CALLS),
        "second": (True, 2 * CALLS),
        "shutdown": (True, 3 * CALLS),
        "after it": True,
        "account": Account(created=3 * CALLS, exported=3 * CALLS, dropped=0, pending=0),
        "requests": 3.0 * CALLS,
        "created": 3.0 * CALLS,
        "complaints": [],
    }


def flush_twice() -> dict[str, Any]:
    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("opentelemetry").addHandler(handler)
    with collecting() as collector, shop(collector) as telemetry:
        call_llm(CALLS)
        first = telemetry.flush(FLUSH_S), len(arrived(collector))
        call_llm(CALLS)
        second = telemetry.flush(FLUSH_S), len(arrived(collector))
        call_llm(CALLS)
        last = telemetry.shutdown(), len(arrived(collector))
        wait_for_threads()  # what they log on their way out counts too
        return {
            "first": first,
            "second": second,
            "shutdown": last,
            "after it": telemetry.flush(FLUSH_S) and telemetry.shutdown(),
            "account": Account.of(telemetry),
            "requests": collector.total("genapp_llm_requests"),
            "created": collector.total("genapp_telemetry_records", kind="span", state="created"),
            "complaints": complaints,
        }


def heal() -> dict[str, Any]:
    with collecting("503") as collector, shop(collector) as telemetry:
        made = call_llm(CALLS)
        early = telemetry.flush(0.5)
        collector.be("ok")
        late = telemetry.flush(10)
        return {"early": early, "late": late, "missing": made - arrived(collector)}


def test_a_collector_that_recovers() -> None:
    """What could not be delivered at first is kept, and the next flush is true once it has arrived."""
    assert in_fresh_process(heal) == {"early": False, "late": True, "missing": set()}


def lose_in_the_background() -> list[bool]:
    with collecting("400") as collector, shop(collector, OTEL_BSP_SCHEDULE_DELAY="10") as telemetry:
        call_llm(CALLS)
        deadline = time.monotonic() + 10
        while Account.of(telemetry).pending and time.monotonic() < deadline:
            time.sleep(0.01)
        collector.be("ok")
        return [telemetry.flush(FLUSH_S) for _ in range(2)]


def test_what_was_lost_since_the_last_flush_is_told_once() -> None:
    """A flush with nothing left to send says no when spans were lost before it, the next one yes."""
    assert in_fresh_process(lose_in_the_background) == [False, True]


def flush_while_it_flickers(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)  # noqa: S311 - a schedule of faults
    lies, answers, stop = 0, [], threading.Event()
    with collecting() as collector, shop(collector, OTEL_EXPORTER_OTLP_TIMEOUT="0.3") as telemetry:

        def go_on() -> None:
            while not stop.is_set():
                call_llm()
                stop.wait(0.005)

        others = [threading.Thread(target=go_on) for _ in range(2)]
        for thread in others:
            thread.start()
        for mode in [rng.choice(("ok", *FAST_TO_FAIL)) for _ in range(20)] + ["ok"] * 5:
            collector.be(mode)
            made = call_llm(rng.randrange(20))
            if rng.random() < 0.3:  # a part of it leaves while nobody asks
                made |= call_llm(512)
            answer = telemetry.flush(rng.choice([0.05, 1.0]))
            answers.append(answer)
            lies += answer and not made <= arrived(collector)
        stop.set()
        for thread in others:
            thread.join()
        collector.be("ok")
        telemetry.shutdown()
        account = Account.of(telemetry)
        return {
            "lies": lies,
            "answers": set(answers),
            "balanced": account.balanced,
            "pending": account.pending,
            "exported and not there": max(account.exported - len(arrived(collector)), 0),
        }


@pytest.mark.parametrize(
    "seed", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.soak)]
)
def test_no_answer_is_a_lie(seed: int) -> None:
    """Whatever fails when, while other threads work on: a yes means that the ledger has it."""
    assert in_fresh_process(flush_while_it_flickers, seed) == {
        "lies": 0,
        "answers": {True, False},
        "balanced": True,
        "pending": 0,
        "exported and not there": 0,
    }


def overflow() -> dict[str, Any]:
    with collecting("black_hole") as collector, shop(collector, OTEL_BSP_MAX_QUEUE_SIZE="100") as telemetry:
        call_llm(1000)
        account = Account.of(telemetry)
        return {
            "created": account.created,
            "balanced": account.balanced,
            "kept or dropped": account.pending + account.dropped,
        }


def test_a_full_queue_refuses_and_counts() -> None:
    """What the queue does not take, and the disk has not got yet, is counted as dropped."""
    assert in_fresh_process(overflow) == {
        "created": 1000,
        "balanced": True,
        "kept or dropped": 1000,
    }


def give_up() -> dict[str, Any]:
    with collecting("hang") as collector, shop(collector, OTEL_EXPORTER_OTLP_TIMEOUT="1") as telemetry:
        call_llm(CALLS)
        telemetry.shutdown(0.2)
        at_once = Account.of(telemetry)
        wait_for_threads()
        return {"at once": at_once, "later": Account.of(telemetry)}


def test_what_did_not_arrive_in_time_is_kept() -> None:
    """Spans that were on their way when time was up are on disk, and counted no second time later."""
    kept = Account(created=CALLS, exported=0, dropped=0, pending=CALLS)
    assert in_fresh_process(give_up) == {"at once": kept, "later": kept}


def shut_down_under_way() -> dict[str, Any]:
    stop = threading.Event()
    with collecting() as collector, shop(collector) as telemetry:

        def go_on() -> None:
            while not stop.is_set():
                call_llm()

        threads = [threading.Thread(target=go_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        with ThreadPoolExecutor(3) as pool:
            answers = set(pool.map(lambda _: telemetry.shutdown(), range(3)))
        stop.set()
        for thread in threads:
            thread.join()
        account = Account.of(telemetry)
        return {
            "answers": len(answers),
            "balanced": account.balanced,
            "pending": account.pending,
            "ledger": len(collector.spans) - account.exported,
        }


def test_shutdown_while_threads_work() -> None:
    """Several may call it at once, all get the one answer, and no span falls between the chairs."""
    assert in_fresh_process(shut_down_under_way) == {
        "answers": 1,
        "balanced": True,
        "pending": 0,
        "ledger": 0,
    }
