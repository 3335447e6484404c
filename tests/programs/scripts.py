"""Programs without a server, by name: `python -m tests.programs.scripts waits CALLS`."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from tests.programs.work import say, start, work


def _work(calls: int) -> list[str]:
    return [span for _ in range(calls) for span in work()]


def _wait() -> None:
    while True:  # a wait without end could begin just after the signal, and never see it
        time.sleep(0.01)


def returns(calls: int) -> None:
    """Comes to its end."""
    start()
    say("ready", _work(calls))


def raises(calls: int) -> None:
    """Ends by an exception."""
    start()
    say("ready", _work(calls))
    raise SystemExit(3)


def waits(calls: int) -> None:
    """Knows nothing of signals."""
    start()
    say("ready", _work(calls))
    _wait()


def handles(calls: int) -> None:
    """Has its own handler, which ends the program in order."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        say("handled", work())
        sys.exit(7)

    signal.signal(signal.SIGTERM, handler)
    start()
    say("ready", _work(calls))
    _wait()


def handles_later(calls: int) -> None:
    """As `handles`, with the handler set after telemetry's."""
    start()
    before: Any = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: FrameType | None) -> None:
        say("handled", [])
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handler)
    say("ready", _work(calls))
    _wait()


def kills_itself(calls: int) -> None:
    """Its handler ends the process by the signal it got."""

    def handler(number: int, _frame: FrameType | None) -> None:
        say("handled", [])
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handler)
    start()
    say("ready", _work(calls))
    _wait()


def polls(calls: int) -> None:
    """A bot that polls, and stops its loop on SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        start()
        say("ready", _work(calls))
        await stop.wait()
        say("handled", await asyncio.to_thread(work))

    asyncio.run(main())


def polls_on(calls: int) -> None:
    """A bot that polls, and knows nothing of signals."""

    async def main() -> None:
        start()
        say("ready", _work(calls))
        for _ in itertools.count():
            await asyncio.sleep(0.01)

    asyncio.run(main())


def forks(calls: int) -> None:
    """Leaves the work to a child that `multiprocessing` forks."""
    start()
    spans = _work(1)
    child = multiprocessing.get_context("fork").Process(target=lambda: say("child", _work(calls)))
    child.start()
    child.join()
    say("ready", spans)


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
