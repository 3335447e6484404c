"""Forked children: they never hang, count for all to see, and what is the parent's to send stays the parent's."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from otel_genapp import Telemetry, action_tracking, bind, init_telemetry, llm_call
from tests.faults.flaky_collector import Collector, collecting
from tests.fresh import in_fresh_process
from tests.locks import known_locks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")

CHILD_S = 20.0
"""A child that has not ended by then waits for a lock: alone it takes half a second, on a busy machine ten times as long."""
CALLS = 5

OVERRUN = ('genapp_telemetry_dropped_total{what="trace_span",reason="queue_full"',)


def call_llm(number: int = 1) -> None:
    for _ in range(number):
        with (
            bind(session_id=os.getpid()),
            action_tracking("work_handler"),
            llm_call("gpt-5", "openai") as call,
        ):
            call.usage(input=1, output=1)


def browse(collector: Collector) -> tuple[int, int]:
    """One request to an app of its own, and one to a server."""
    import httpx
    from flask import Flask

    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "hello")
    answer = httpx.post(f"{collector.endpoint}/v1/traces")
    return app.test_client().get("/").status_code, answer.status_code


def series(telemetry: Telemetry, *names: str) -> dict[str, float]:
    """name{labels but env and app} -> value of the series that are not 0."""
    body, _ = telemetry.exposition()
    found = {}
    for line in body.decode().splitlines():
        if line.startswith(names):
            text, value = line.rsplit(" ", 1)
            if float(value):
                found[text.split(",env=")[0].replace('"', "")] = float(value)
    return found


def day_of_a_child(telemetry: Telemetry, collector: Collector) -> dict[str, Any]:
    """The scripted work of a child, and what it sees then."""
    call_llm(CALLS)
    session = telemetry.sessions.get(os.getpid())
    counts = series(telemetry, "genapp_llm_requests_total", "genapp_action_count_total")
    return {
        "browsed": browse(collector),
        "flushed": telemetry.flush(CHILD_S),
        "session": session.as_dict()["total_requests"] if session is not None else None,
        "counted": {name for name, value in counts.items() if value >= CALLS},
    }


GOOD_DAY = {
    "browsed": (200, 200),
    "flushed": True,
    "session": CALLS,
    "counted": {
        "genapp_llm_requests_total{provider=openai,model=gpt-5,operation=chat,status=success",
        "genapp_action_count_total{name=work_handler,status=success",
    },
}


def in_child(act: Callable[[], Any]) -> Any:
    """What `act` returns in a forked child, or how the child failed."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks
        child = os.fork()
    if child == 0:
        try:
            answer = repr(act())
        except BaseException as error:  # noqa: BLE001 - the parent is told
            answer = repr({"raised": repr(error)})
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        watchdog = threading.Timer(CHILD_S, os.kill, (child, signal.SIGKILL))
        watchdog.start()
        said = pipe.read()
        watchdog.cancel()
    os.waitpid(child, 0)
    return eval(said, {}) if said else "hung"  # noqa: S307 - written a few lines above


@contextmanager
def shop(collector: Collector) -> Iterator[Telemetry]:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "60000"  # nothing leaves but by a flush
    with init_telemetry("shop", "prod", internal_auth="test") as telemetry:
        yield telemetry


def fork_while_threads_record() -> dict[str, Any]:
    stop = threading.Event()
    with collecting() as collector, shop(collector) as telemetry:

        def record() -> None:
            while not stop.is_set():
                call_llm()

        def scrape() -> None:
            while not stop.is_set():
                telemetry.exposition()
                telemetry.flush(1)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # many more moments at which a lock is held
        threads = [threading.Thread(target=work) for work in (record, record, record, scrape)]
        for thread in threads:
            thread.start()
        days = [in_child(lambda: day_of_a_child(telemetry, collector)) for _ in range(10)]
        calls_before = telemetry.totals()["total_requests"]
        time.sleep(0.05)
        calls_after = telemetry.totals()["total_requests"]
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
        return {
            "bad days": [day for day in days if day != GOOD_DAY],
            "the parent goes on": calls_after > calls_before,
            # What three threads record at once may be more than is written on two cores.
            "shutdown": telemetry.shutdown(CHILD_S) or bool(series(telemetry, *OVERRUN)),
        }


@pytest.mark.slow
def test_fork_while_threads_record_and_scrape() -> None:
    """Children of a busy parent do their work, each in a session of its own, and the parent goes on."""
    assert in_fresh_process(fork_while_threads_record, deadline_s=10 * CHILD_S) == {
        "bad days": [],
        "the parent goes on": True,
        "shutdown": True,
    }


@contextmanager
def held(locks: Iterable[Any]) -> Iterator[None]:
    """Another thread holds the locks."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        mine = [lock for lock in locks if lock.acquire(timeout=1)]
        holding.set()
        done.wait()
        for lock in mine:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def fork_with_locks_held(at_least: int) -> dict[str, Any]:
    with collecting() as collector, shop(collector) as telemetry:
        call_llm()
        browse(collector)
        telemetry.subscribe(lambda event: None)
        call_llm()
        telemetry.flush(5)
        telemetry.exposition()
        found = {name: [owned.lock for owned in locks] for name, locks in known_locks().items()}
        found["all of them"] = [lock for locks in found.values() for lock in locks]
        bad_days, forks = {}, 0
        for name, locks in itertools.islice(itertools.cycle(found.items()), max(at_least, len(found))):
            with held(locks):
                day = in_child(lambda: day_of_a_child(telemetry, collector))
            forks += 1
            if day != GOOD_DAY:
                bad_days[name] = day
        return {
            "bad days": bad_days,
            "forks": forks,
            "kinds": sorted(name.rpartition("otel_genapp.")[2] for name in found if "otel_genapp" in name),
            "locks": len(found["all of them"]),
        }


def check_forks(at_least: int) -> None:
    seen = in_fresh_process(fork_with_locks_held, at_least, deadline_s=60 + at_least)
    assert seen["bad days"] == {}
    assert {"pipeline.folds.Folds._folding", "ledger.sql.store.SQLStore._preparing"} <= {*seen["kinds"]}
    assert seen["locks"] > 100
    assert seen["forks"] >= at_least


@pytest.mark.slow
def test_fork_with_every_lock_held() -> None:
    """A lock that another thread holds at the fork, ours or the SDK's, hangs nothing in the child."""
    check_forks(1)


@pytest.mark.soak
def test_forks_with_locks_held_in_the_long_run() -> None:
    """The same 300 times."""
    check_forks(300)


def fork_between_spans() -> dict[str, Any]:
    with collecting() as collector, shop(collector) as telemetry:
        call_llm(CALLS)
        place, opened = copy_context(), llm_call("gpt-5", "openai")
        place.run(opened.__enter__).usage(input=1, output=1)

        def end_and_go_on() -> dict[str, Any]:
            place.run(opened.__exit__, None, None, None)
            return day_of_a_child(telemetry, collector)

        day = in_child(end_and_go_on)
        place.run(opened.__exit__, None, None, None)
        telemetry.flush(5)
        sent = Counter(span.span_id for span in collector.spans if "gpt-5" in span.name)
        return {
            "day": day,
            "spans": len(sent),
            "twice": [span for span, times in sent.items() if times > 1],
            "requests": collector.total("genapp_llm_requests"),
            "counted": telemetry.totals()["total_requests"],
            "instances": len({point.resource["service.instance.id"] for point in collector.points}),
        }


def test_what_is_the_parents_stays_the_parents() -> None:
    """Spans queued or open at the fork leave and count once, from the parent; the child sends its own."""
    assert in_fresh_process(fork_between_spans) == {
        "day": GOOD_DAY,
        "spans": CALLS + 1 + CALLS,
        "twice": [],
        "requests": CALLS + 1 + CALLS,
        "counted": CALLS + 1 + CALLS,
        "instances": 2,
    }


def shut_down_in_child() -> dict[str, Any]:
    with collecting() as collector, shop(collector) as telemetry:
        call_llm()

        def end() -> dict[str, Any]:
            call_llm(CALLS)
            arrived = telemetry.shutdown()
            renewed = init_telemetry("shop", "prod", internal_auth="test")
            call_llm(CALLS)
            return {"arrived": arrived, "another": renewed is not telemetry, "again": renewed.shutdown()}

        child = in_child(end)
        return {"child": child, "parent": telemetry.shutdown(), "spans": len(collector.spans)}


def test_a_child_ends_its_own_telemetry() -> None:
    """Shutting down, or starting anew, in a child is nothing to the parent."""
    assert in_fresh_process(shut_down_in_child) == {
        "child": {"arrived": True, "another": True, "again": True},
        "parent": True,
        "spans": 1 + 2 * CALLS,
    }
