"""Work that somebody asks for and nobody has to wait for: deliveries to a collector that may be dead."""

from __future__ import annotations

import threading
from collections.abc import Callable

from otel_genapp.context import start_in_no_context
from otel_genapp.quiet import quiet

_guarded = quiet("export")


class Answer:
    """What somebody was asked to do: whether it was done, and well, in the time one has."""

    __slots__ = ("_done", "_good")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._good = False

    def give(self, *, good: bool) -> None:
        """It was done."""
        self._good = good
        self._done.set()

    def within(self, timeout_s: float) -> bool:
        """Whether it was done, and well, at most `timeout_s` from now."""
        return self._done.wait(max(timeout_s, 0)) and self._good


class Errand:
    """A thread that does its one work when asked to, and whose work nobody has to wait for.

    It stands ready ahead of need: while the interpreter shuts down, Python 3.12 starts no threads.
    """

    def __init__(self, work: Callable[[], bool], end: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._end = end
        self._name = f"otel-genapp-{name}"
        self.restart()

    def restart(self) -> None:
        """A thread of which nothing was asked; a forked child has none of its parent's."""
        self._asked = threading.Condition(threading.Lock())
        self._next: Answer | None = None
        self._ending = False
        thread = threading.Thread(target=self._serve, args=(self._asked,), name=self._name, daemon=True)
        start_in_no_context(thread)

    def ask(self) -> Answer:
        """The answer of a run that begins after this call."""
        with self._asked:
            answer = self._next = self._next or Answer()
            self._asked.notify()
        return answer

    def close(self) -> None:
        """After the run that is under way the thread does its end's work, and ends."""
        with self._asked:
            self._ending = True
            self._asked.notify()

    def _serve(self, asked: threading.Condition) -> None:
        while True:
            with asked:
                while self._next is None and not self._ending:
                    asked.wait()
                answer, self._next = self._next, None
                if self._ending:
                    break
            good = False
            with _guarded:
                good = self._work()
            if answer is not None:
                answer.give(good=good)
        with _guarded:
            self._end()
        if answer is not None:
            answer.give(good=False)
