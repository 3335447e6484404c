"""Calls that nobody ends: held for a retry that never came, or streams no one reads any more.

One thread, begun with the first LLM call of a process, looks every few seconds.
"""

from __future__ import annotations

import threading
from time import perf_counter

from otel_genapp import hub
from otel_genapp.capture.llm_wire import retries
from otel_genapp.capture.llm_wire.exchange import LLMExchange
from otel_genapp.context import start_in_no_context
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

_guarded = quiet("capture")
INTERVAL_S = 5.0
ABANDONED_S = 3600.0
"""A stream from which nothing was read for so long is not read any more."""


def watch(running: Hub) -> None:
    """See to it that the calls of `running` end some day."""
    if running.reaping:
        return
    running.reaping = True
    thread = threading.Thread(target=_reap, args=(running,), name="otel-genapp-reaper", daemon=True)
    start_in_no_context(thread)


def reap(running: Hub, *, abandoned_s: float = ABANDONED_S) -> None:
    """End what has waited too long."""
    with _guarded:
        retries.give_up(running)
        now = perf_counter()
        for exchange in tuple(running.exchanges):
            if isinstance(exchange, LLMExchange) and exchange.idle_s(now) > abandoned_s:
                exchange.abandon()


def finish_open_calls(running: Hub) -> None:
    """End what is still open, for a shutdown, while it can still be counted."""
    retries.give_up(running, all_of_them=True)
    for exchange in tuple(running.exchanges):
        if isinstance(exchange, LLMExchange):
            exchange.abandon()


def _reap(running: Hub) -> None:
    stop = threading.Event()
    while hub.active is running or running.held_calls:
        stop.wait(INTERVAL_S)
        reap(running)
    running.reaping = False
