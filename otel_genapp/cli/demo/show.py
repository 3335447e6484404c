"""One run of the demo: customers come, the view follows, and at the end the books are compared."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from rich.console import Console, Group
from rich.live import Live

from otel_genapp.cli.demo.comparison import Truth, differences, differences_in_total
from otel_genapp.cli.demo.stage import Stage
from otel_genapp.cli.demo.traces import trace_tree
from otel_genapp.cli.demo.traffic import REQUESTS_ONCE
from otel_genapp.cli.demo.view import (
    Scene,
    hints,
    rows_that_fit,
    screen,
    session_table,
    totals_line,
    trace_fits,
)

_REFRESH_S = 0.5
_LINE_EVERY_S = 2.0
_HINTS_AFTER_S = 3.0
_TRACE_EVERY_S = 3.0
_STOP_TIMEOUT_S = 35.0
_SETTLE_TIMEOUT_S = 5.0
_CHATS_TIMEOUT_S = 30.0
_PAGE = 500
_DIFFERENCES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class _Books:
    sessions: list[dict[str, Any]]
    totals: dict[str, Any]
    unlike: list[str]


class Show:
    """The demo on a stage that runs, as text on a terminal, as lines in a pipe, or as JSON."""

    def __init__(self, stage: Stage, *, once: bool, as_json: bool, seed: int) -> None:
        self._stage = stage
        self._once = once
        self._as_json = as_json
        self._seed = seed
        self._truth = Truth()
        self._console = Console()
        self._notes = Console(stderr=True, highlight=False)
        self._started_s = time.monotonic()
        self._trace: Sequence[ReadableSpan] = ()
        self._traces_shown = 0

    def play(self) -> int:
        """Let the customers in until they are done or a signal comes; then the exit code."""
        with (
            _stopped_by_signal() as stop,
            _customers(self._stage.url, seed=self._seed, once=self._once) as come,
        ):
            if self._once:
                self._note(f"{REQUESTS_ONCE} requests to {self._stage.url} …")
            elif not self._console.is_terminal:
                self._notes.print(self._hints("ada-1"), soft_wrap=True)
            if self._console.is_terminal and not self._as_json:
                self._follow_live(come, stop)
            else:
                self._follow_in_lines(come, stop)
        return self._close_the_books()

    def _follow_live(self, customers: subprocess.Popen[bytes], stop: threading.Event) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while customers.poll() is None and not stop.is_set():
                live.update(self._screen(), refresh=True)
                stop.wait(_REFRESH_S)

    def _follow_in_lines(self, customers: subprocess.Popen[bytes], stop: threading.Event) -> None:
        said_s = time.monotonic()
        while customers.poll() is None and not stop.is_set():
            stop.wait(0.1)
            if self._once or time.monotonic() - said_s < _LINE_EVERY_S:
                continue
            said_s = time.monotonic()
            self._truth.add(self._stage.llm.take_ledger())
            totals = self._stage.telemetry.totals()
            if self._as_json:
                self._print_json({"totals": totals})
            else:
                line = totals_line(totals, sessions=self._stage.telemetry.sessions.list(1).total)
                self._console.print(line, soft_wrap=True)

    def _screen(self) -> Group:
        telemetry, height = self._stage.telemetry, self._console.height
        self._truth.add(self._stage.llm.take_ledger())
        page = telemetry.sessions.list(rows_that_fit(height))
        elapsed_s = time.monotonic() - self._started_s
        if int(elapsed_s / _TRACE_EVERY_S) != self._traces_shown:
            self._traces_shown = int(elapsed_s / _TRACE_EVERY_S)
            self._trace = self._stage.traces.newest
        scene = Scene(
            totals=telemetry.totals(),
            sessions=self._read(page.ids),
            count=page.total,
            trace=trace_tree(self._trace) if self._trace and trace_fits(height) else None,
            hints=self._hints(page.ids[0]) if self._shows_hints(elapsed_s) and page.ids else None,
        )
        return screen(scene, width=self._console.width, now=datetime.now(UTC))

    def _shows_hints(self, elapsed_s: float) -> bool:
        return not self._once and elapsed_s > _HINTS_AFTER_S

    def _close_the_books(self) -> int:
        if self._once and self._stage.telegram is not None:
            self._stage.telegram.wait(_CHATS_TIMEOUT_S)
        books = self._settle()
        if self._as_json:
            self._print_json(
                {
                    "sessions": books.sessions,
                    "totals": books.totals,
                    "ledger": self._truth.sessions,
                    "agree": not books.unlike,
                    "differences": books.unlike,
                }
            )
        else:
            self._console.print(totals_line(books.totals, sessions=len(books.sessions)))
            shown = books.sessions if self._once else books.sessions[: rows_that_fit(self._console.height)]
            self._console.print(session_table(shown, width=self._console.width, now=datetime.now(UTC)))
            if self._stage.traces.newest:
                self._console.print("", trace_tree(self._stage.traces.newest), sep="\n")
        if not books.unlike:
            calls = self._truth.total()["total_requests"]
            self._note(f"The telemetry agrees with the LLM's ledger on every number of {calls:,} calls.")
            return 0
        self._note("The telemetry differs from what the LLM's ledger says it answered:")
        for line in books.unlike[:_DIFFERENCES_SHOWN]:
            self._note(f"  {line}")
        if len(books.unlike) > _DIFFERENCES_SHOWN:
            self._note(f"  and {len(books.unlike) - _DIFFERENCES_SHOWN} more")
        return 1

    def _settle(self) -> _Books:
        """The books at rest: calls whose customer left may end a moment after the last request."""
        telemetry = self._stage.telemetry
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        while True:
            self._truth.add(self._stage.llm.take_ledger())
            sessions, totals = self._all_sessions(), telemetry.totals()
            exposition, _ = telemetry.exposition()
            forgetful = len(self._truth.sessions) > telemetry.settings.session_limit
            unlike = [
                *differences(sessions, self._truth, forgetful=forgetful),
                *differences_in_total(totals, exposition.decode(), truth=self._truth),
            ]
            if not unlike or time.monotonic() > deadline:
                return _Books(sessions, totals, unlike)
            time.sleep(0.05)

    def _all_sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self._stage.telemetry.sessions.list(_PAGE, cursor)
            found.extend(self._read(page.ids))
            cursor = page.next
            if cursor is None:
                return found

    def _read(self, ids: tuple[str, ...]) -> list[dict[str, Any]]:
        summaries = (self._stage.telemetry.sessions.get(name) for name in ids)
        return [summary.as_dict() for summary in summaries if summary is not None]

    def _hints(self, session: str) -> Group:
        return hints(self._stage.url, token=self._stage.token, session=session)

    def _print_json(self, value: Any) -> None:
        self._console.file.write(json.dumps(value) + "\n")
        self._console.file.flush()

    def _note(self, text: str) -> None:
        self._notes.print(text, soft_wrap=True, markup=False)


@contextmanager
def _customers(url: str, *, seed: int, once: bool) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "otel_genapp.cli.demo.traffic", url, "--seed", str(seed)]
    # In a session of its own Ctrl-C does not reach it: it ends its requests when its stdin ends.
    with subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
        [*command, *(["--once"] if once else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as customers:
        try:
            yield customers
        finally:
            if customers.stdin is not None:
                customers.stdin.close()
            try:
                customers.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                customers.kill()


@contextmanager
def _stopped_by_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second one acts as without us."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
