"""Where a check runs: a thread of its own with an event loop, so that it can hold up nobody."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_genapp.context import start_in_no_context
from otel_genapp.health.results import RAISED, TIMED_OUT, Check, Outcome, judged
from otel_genapp.quiet import quiet

Report = Callable[[Outcome], None]
_guarded = quiet("lifecycle")


class Runner:
    """Runs one check, one run at a time; a run that hangs keeps its thread, and no other is started."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._asked: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, report: Report) -> None:
        """Run it, and `report` how that ended."""
        if self._closed:
            return
        if self._thread is None:
            self._asked = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._serve, args=(self._asked,), name="otel-genapp-check", daemon=True
            )
            try:
                start_in_no_context(self._thread)
            except RuntimeError:  # the system has no thread to give; perhaps it has the next time
                self._thread = None
                report(RAISED)
                return
        self._asked.put(report)

    def close(self) -> None:
        """End the thread after the run that is under way."""
        self._closed = True
        self._asked.put(None)

    def _serve(self, asked: queue.SimpleQueue[Report | None]) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # for functions that make their future themselves
        try:
            # What a check sends is no traffic of the application: no spans, no requests, no LLM calls.
            with suppress_instrumentation():
                while (report := asked.get()) is not None:
                    self._attempt(loop, report)
        finally:
            with _guarded:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()

    def _attempt(self, loop: asyncio.AbstractEventLoop, report: Report) -> None:
        outcome = None
        try:
            outcome = self._run(loop)
        except SystemExit:  # of the check only, not of the application
            outcome = RAISED
        finally:
            if outcome is None:  # the check ends this thread: the next run needs another one
                self._thread = None
            with _guarded:
                report(RAISED if outcome is None else outcome)

    def _run(self, loop: asyncio.AbstractEventLoop) -> Outcome:
        # Called outside the loop: a plain function may run one of its own.
        outcome = RAISED
        with suppress(Exception):  # no error of ours: how the run went is the answer
            value = self._check.run()
            outcome = (
                loop.run_until_complete(_awaited(value, self._check.timeout_s))
                if inspect.isawaitable(value)
                else judged(value)
            )
        return outcome


async def _awaited(value: Awaitable[Any], timeout_s: float) -> Outcome:
    """How a run ends that has to be waited for."""
    task = asyncio.ensure_future(_judged(value))
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        task.cancel()
        await asyncio.wait({task})  # one that does not let itself be cancelled hangs, and says so
        return TIMED_OUT
    if task.cancelled() or task.exception() is not None:
        return RAISED
    return task.result()


async def _judged(value: Awaitable[Any]) -> Outcome:
    return judged(await value)
