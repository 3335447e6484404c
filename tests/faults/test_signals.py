"""SIGTERM while the main thread holds a lock: the process ends by it, in time, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any

import pytest

from otel_genapp import Telemetry, action_tracking, bind, init_telemetry, llm_call
from tests.faults.conftest import Found
from tests.faults.flaky_collector import collecting
from tests.fresh import in_fresh_process
from tests.locks import known_locks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork"),
]

CALLS = 3
STOP_S = 5.0


@dataclass(frozen=True)
class Death:
    """How a child ended: by which signal (0: by itself) and how long after it; the calls finished before, and those kept."""

    signal: int
    seconds: float
    finished: int
    kept: int


class Deadly:
    """A lock; when the main thread has got it for the first time, the process gets SIGTERM."""

    def __init__(self, lock: Any, tell: int) -> None:
        self._lock = lock
        self._tell = tell
        self._armed = True

    def acquire(self, *arguments: Any, **named: Any) -> bool:
        got = bool(self._lock.acquire(*arguments, **named))
        if got and self._armed and threading.current_thread() is threading.main_thread():
            self._armed = False
            os.write(self._tell, b"!")
            os.kill(os.getpid(), signal.SIGTERM)
        return got

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def spend_a_day(telemetry: Telemetry, tell: int) -> None:
    """Use everything on the main thread; a byte for each finished call."""
    for _ in range(CALLS):
        with (
            bind(session_id=os.getpid()),
            action_tracking("work_handler"),
            llm_call("gpt-5", "openai") as call,
        ):
            call.usage(input=1, output=1)
        os.write(tell, b".")
    telemetry.sessions.get(os.getpid())
    telemetry.totals()
    telemetry.exposition()
    telemetry.status()
    telemetry.subscribe(lambda _event: None)()
    telemetry.flush(1)
    telemetry.shutdown(1)


def die_with(name: str, telemetry: Telemetry) -> Death:
    """A child whose every lock of that name is deadly."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks
        child = os.fork()
    if child == 0:
        try:
            for owned in known_locks().get(name, []):
                setattr(owned.owner, owned.attribute, Deadly(owned.lock, writing))
            spend_a_day(telemetry, writing)
        finally:
            os._exit(0)
    os.close(writing)
    finished, began_s = 0, None
    watchdog = threading.Timer(30, os.kill, (child, signal.SIGKILL))
    watchdog.start()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while said := pipe.read(1):
            if said == b"!":
                began_s = began_s or time.monotonic()
            elif began_s is None:
                finished += 1
    status = os.waitpid(child, 0)[1]
    watchdog.cancel()
    seconds = time.monotonic() - began_s if began_s is not None else 0.0
    session = telemetry.sessions.get(child)
    kept = session.as_dict()["total_requests"] if session is not None else 0
    return Death(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, seconds, finished, kept)


def die_with_each_lock() -> dict[str, Death]:
    with collecting() as collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
        with init_telemetry("shop", "prod", internal_auth="test") as telemetry:
            with llm_call("gpt-5", "openai") as call:
                call.usage(input=1, output=1)
            telemetry.flush(5)
            telemetry.exposition()
            names = [name for name in known_locks() if name.startswith("otel_genapp")]
            return {name.removeprefix("otel_genapp."): die_with(name, telemetry) for name in names}


def test_a_signal_inside_every_lock(found: Found) -> None:
    """The handler waits for no lock that the frame it interrupted holds."""
    deaths = in_fresh_process(die_with_each_lock)
    reached = {name: death for name, death in deaths.items() if death.signal}
    found(
        f"SIGTERM inside {len(reached)} locks",
        "calls finished before",
        lost=sum(max(death.finished - death.kept, 0) for death in deaths.values()),
        added=f"{max(death.seconds for death in reached.values()):.1f} s",
    )
    assert {death.signal for death in reached.values()} == {signal.SIGTERM}
    assert {name: death for name, death in reached.items() if death.seconds > STOP_S} == {}
    # Those that end while it is dying are nobody's.
    lost = {name: death for name, death in deaths.items() if death.kept < death.finished}
    assert (lost, max(death.kept for death in deaths.values())) == ({}, CALLS)
    assert {"ledger.journal.Journal._lock", "pipeline.folds.Folds._folding"} <= {*reached}
