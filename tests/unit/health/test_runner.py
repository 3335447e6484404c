"""Checks on threads of their own: functions and coroutines that pass, fail, raise, hang or end their thread."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_genapp.context import start_in_no_context
from otel_genapp.health.results import FAILED, PASSED, RAISED, TIMED_OUT, Check, Outcome
from otel_genapp.health.runner import Runner

DEADLINE_S = 10.0


def outcome_of(runner: Runner) -> Outcome:
    said: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    runner.begin(said.put)
    return said.get(timeout=DEADLINE_S)


def ran(run: Callable[[], Any]) -> Outcome:
    runner = Runner(Check("it", run, timeout_s=0.1))
    try:
        return outcome_of(runner)
    finally:
        runner.close()


async def passes() -> None:
    await asyncio.sleep(0)


async def fails() -> bool:
    return False


async def raises() -> None:
    raise RuntimeError("password=hunter2")


async def hangs() -> None:
    await asyncio.Event().wait()


async def is_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (passes, PASSED),
        (fails, FAILED),
        (raises, RAISED),
        (hangs, TIMED_OUT),
        (is_cancelled, RAISED),
        (lambda: None, PASSED),
        (lambda: False, FAILED),
        (lambda: 1 / 0, RAISED),
        (lambda: passes(), PASSED),  # noqa: PLW0108 - a function that makes a coroutine
    ],
)
def test_how_a_run_ends(run: Callable[[], Any], outcome: Outcome) -> None:
    """Functions and coroutines are told apart by what they return, and nothing gets out of them."""
    assert ran(run) == outcome


def test_a_function_may_run_a_loop_of_its_own() -> None:
    """A plain function is called outside of the check's own loop, and may make a future that is waited for there."""

    def runs() -> bool:
        return asyncio.run(asyncio.sleep(0, result=True))

    assert [ran(runs), ran(lambda: asyncio.ensure_future(fails()))] == [PASSED, FAILED]


def test_without_a_thread_the_run_has_failed_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread to give, that is said at once, and tried again."""
    failing = [True]

    def start(thread: threading.Thread) -> None:
        if failing:
            failing.pop()
            raise RuntimeError("can't start new thread")
        start_in_no_context(thread)

    monkeypatch.setattr("otel_genapp.health.runner.start_in_no_context", start)
    runner = Runner(Check("it", passes))
    assert [outcome_of(runner), outcome_of(runner)] == [RAISED, PASSED]
    runner.close()


def test_a_check_that_exits_has_failed() -> None:
    """`sys.exit` in a check is a failure of the check, and the next run goes on."""
    exits = [True]

    def ends_once() -> None:
        if exits:
            sys.exit(exits.pop())

    runner = Runner(Check("it", ends_once))
    assert [outcome_of(runner), outcome_of(runner)] == [RAISED, PASSED]
    runner.close()


def test_a_check_is_no_traffic_of_the_application() -> None:
    """Instrumentations are silent in a check, in a coroutine too."""

    async def later() -> bool:
        await asyncio.sleep(0)
        return not is_instrumentation_enabled()

    assert [ran(lambda: not is_instrumentation_enabled()), ran(later)] == [PASSED, PASSED]


def test_all_runs_of_a_check_share_a_loop() -> None:
    """What an async client keeps open stays usable from run to run, and its thread ends with the runner."""
    loops, threads = set(), set()

    async def note() -> None:
        loops.add(asyncio.get_running_loop())
        threads.add(threading.current_thread())

    runner = Runner(Check("it", note))
    assert [outcome_of(runner) for _ in range(3)] == [PASSED] * 3
    assert (len(loops), len(threads)) == (1, 1)
    runner.close()
    (thread,) = threads
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
