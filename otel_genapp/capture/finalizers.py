"""Measuring what ends inside a garbage collection, without locking up the thread it runs in.

The collector runs finalizers (`__del__`, generators being closed) between any two bytecodes, also
while the same thread holds the lock of the aggregation the finalizer's measurement would need.
So what ends there is put off: to the next measurement of an outgoing request, or to whoever reads
the metrics first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import get_ident

from otel_genapp import hub
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

_guarded = quiet("capture")


def watch_collections() -> Callable[[], None]:
    """Note where garbage collections run, so that `measure` can tell; returns the undo."""

    def note(phase: str, _info: dict[str, int]) -> None:
        running = hub.active
        if running is not None:
            running.collecting_thread = get_ident() if phase == "start" else 0

    gc.callbacks.append(note)

    def undo() -> None:
        if note in gc.callbacks:
            gc.callbacks.remove(note)

    return undo


def measure(running: Hub, record: Callable[[], None]) -> None:
    """Call `record` now, or put it off when this is inside a garbage collection."""
    if running.collecting_thread == get_ident():
        running.put_off.append(record)
        return
    if running.put_off:
        measure_put_off(running)
    record()


def measure_put_off(running: Hub) -> None:
    """Make the measurements put off so far; to be called before metrics are read."""
    while True:
        try:
            record = running.put_off.popleft()
        except IndexError:
            return
        with _guarded:
            record()
