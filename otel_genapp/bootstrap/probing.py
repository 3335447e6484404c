"""`telemetry.health`: the checks of an app, what `/health` and `/events/sla` answer, and the thread behind them.

Every worker runs the checks; one of a host writes the history. No thread runs before the first check is
added or the endpoints are mounted. A process that is forked from soon after, as a server's master is
when it loads the app first, leaves the work to its children: it goes on when it is asked something, or
when after a while none of them does it.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from otel_genapp import semconv
from otel_genapp.bootstrap.clock import steady_s
from otel_genapp.context import start_in_no_context
from otel_genapp.health.history import ALIVE_EVERY_S, History, Slot
from otel_genapp.health.lease import Lease
from otel_genapp.health.prober import Prober
from otel_genapp.health.recorded import SLOT_S, RecordFiles
from otel_genapp.health.results import BoundCheck, Check, Sources
from otel_genapp.quiet import quiet
from otel_genapp.read.sla import Targets, durations, sla_dict

if TYPE_CHECKING:
    from otel_genapp.bootstrap.machinery import Machinery
    from otel_genapp.state_directory import StateDirectory

FIRST_PAUSE_S = 0.5
"""So long after the start nothing runs unless somebody asks: a server's master forks its workers first."""
YOUNG_S = 10.0
"""So long a process that is forked from, and asked nothing, waits whether a child does the work."""
_SCRAPE_WAIT_S = 0.25
_DAY_S = 86_400
_guarded = quiet("lifecycle")


class Health:
    """The health checks of one telemetry; `add` adds one."""

    def __init__(self, machinery: Machinery, state: StateDirectory) -> None:
        self._machinery = machinery
        self._settings = settings = machinery.settings
        self._files = RecordFiles(state)
        self._lease = Lease(state)
        self._history = History(self._files, keep_days=settings.sla_window_days + 1)
        self._prober = Prober(self._publish)
        self._sources = Sources(machinery.counted, self._remaining)
        self._serving = False
        self._closed = False
        self._forked = False
        self._unwritten = False
        self._reset()

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wanted = False
        self._asked = threading.Event()
        self._began_s: float | None = None
        self._left = False
        self._slot = Slot()

    def add(
        self,
        name: str,
        check: Callable[[], Any] | BoundCheck,
        *,
        every_s: float = 15.0,
        timeout_s: float = 2.0,
        critical: bool = True,
    ) -> None:
        """Run `check` every so many seconds, on a thread of ours, from now on.

        `check` is a function or a coroutine function (ready-made ones are in `otel_genapp.checks`). It
        passes by returning None or True, fails by returning False or raising, and is down when it takes
        longer than `timeout_s`; a `HealthResult` says it with a note. A failed critical check makes
        the app unhealthy, another one degraded. What it sends is measured nowhere: no spans, no LLM calls.
        The same name again replaces the check.

        Raises:
            ConfigError: a value cannot work, or there are 50 checks already.
        """
        run = check.bound(self._sources) if isinstance(check, BoundCheck) else check
        self._prober.add(Check(name, run, every_s=every_s, timeout_s=timeout_s, critical=critical))
        self._name_paths()
        self._begin()

    def status(self, name: str | None = None) -> dict[str, Any]:
        """The JSON of `GET /health`, or of `GET /health/{name}`; empty where there is no such check."""
        with _guarded:
            return self.answer(name) or {}
        return {}

    def answer(self, name: str | None) -> dict[str, Any] | None:
        """The same, where a fault behind it comes through; None where there is no such check."""
        names = None if name is None else (name,)
        if name is not None and name not in self._prober.checks:
            return None
        self._wake()
        self._prober.settle(names)
        found = [known for known in self._prober.known() if names is None or known.name in names]
        bad = [known for known in found if known.status != "healthy"]
        worst = any(known.critical or names is not None for known in bad)
        return {
            "status": "unhealthy" if worst else "degraded" if bad else "healthy",
            "timestamp": _stamp(time.time()),
            "version": self._settings.version or None,
            "services": {
                known.name: known.as_dict(_stamp(known.at_s) if known.at_s is not None else None)
                for known in found
            },
            "telemetry": "stopped" if self._closed else "running",
        }

    def sla(self, window_s: float | None = None) -> dict[str, Any]:
        """The JSON of `GET /events/sla`."""
        settings = self._settings
        self._wake()
        return sla_dict(
            self._files.read(),
            Targets(settings.sla_uptime, settings.sla_response_ms, settings.sla_response_share),
            window_s=settings.sla_window_days * _DAY_S if window_s is None else window_s,
            now_s=time.time(),
        )

    def show(self) -> None:
        """Have a result of each check for a scrape, if that takes no longer than a moment."""
        if self._prober.checks:
            self._wake()
            self._prober.settle(limit_s=_SCRAPE_WAIT_S)

    def serve(self, *, one_by_one: bool) -> None:
        """The endpoints are mounted, the one of single checks too or not: keep the history from now on."""
        self._serving |= one_by_one
        self._name_paths()
        self._begin()

    @property
    def problem(self) -> str:
        """Why there may be no history; "" if there is."""
        return "the history of uptime cannot be written to the state directory" if self._unwritten else ""

    def close(self, timeout_s: float) -> None:
        """Run nothing more; what was served last is written down if that takes no longer."""
        self._closed = True
        self._stop(timeout_s)
        self._prober.close()
        self._lease.release()

    def before_fork(self) -> None:
        """A process that has just begun, and was asked nothing, leaves the work to its children; see `forked`."""
        if self._thread is not None and not self._asked.is_set() and self._young_s > 0:
            self._stop(_SCRAPE_WAIT_S)
            self._lease.release()
            self._thread, self._asked = None, threading.Event()
            self._left = True

    def forked(self) -> None:
        """See to it that somebody does what was left to a child."""
        if self._left and self._thread is None:
            self._begin()

    def restart_in_child(self) -> None:
        """Start over in the child of a fork."""
        wanted = self._wanted
        self._lease.leave_to_parent()
        self._prober.restart()
        self._reset()
        self._forked = True
        if wanted and not self._closed:
            self._begin()

    def _begin(self) -> None:
        """Have the thread, unless telemetry is over or was never on."""
        with self._starting:
            self._wanted = True
            if self._closed or self._settings.otel.disabled or self._thread is not None:
                return
            if self._began_s is None:
                self._began_s = time.monotonic()
            self._stopping = threading.Event()
            thread = threading.Thread(
                target=self._watch, args=(self._stopping,), name="otel-genapp-health", daemon=True
            )
            # The system may have no thread to give: perhaps it has when somebody asks.
            with _guarded:
                start_in_no_context(thread)
                self._thread = thread

    @property
    def _young_s(self) -> float:
        """For how long this process is one that has just begun."""
        return 0.0 if self._began_s is None else self._began_s + YOUNG_S - time.monotonic()

    def _wake(self) -> None:
        """Somebody asks: here is the process that serves."""
        self._asked.set()
        if self._wanted:
            self._begin()

    def _stop(self, timeout_s: float) -> None:
        thread, stopping = self._thread, self._stopping
        stopping.set()
        self._asked.set()
        self._prober.tell()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _watch(self, stopping: threading.Event) -> None:
        if not self._is_needed():
            with self._starting:
                if not self._asked.is_set():  # while this one was on its way
                    self._thread = None
                    return
        news = 0
        while not stopping.is_set():
            pause_s = ALIVE_EVERY_S
            with _guarded:
                pause_s = min(pause_s, self._prober.step())
                pause_s = min(pause_s, self._keep_history())
            news = self._prober.wait(news, max(pause_s, 0.001))
        with _guarded:
            now_s = time.time()
            if self._closed and self._leads(now_s):
                goes_on = self._machinery.workers.active
                self._history.serve(now_s, self._counted, goes_on=goes_on)

    def _is_needed(self) -> bool:
        """Whether the work is this process's: somebody asks it, or nobody else does it."""
        if self._asked.wait(max(self._young_s, FIRST_PAUSE_S) if self._left else FIRST_PAUSE_S):
            return True
        if self._forked and multiprocessing.parent_process() is not None:
            return False  # of a pool: its parent serves
        return not self._left or self._lease.hold()

    def _keep_history(self) -> float:
        """Write down what the slot under way is like, if that is this worker's to do; when to come again."""
        now_s = time.time()
        last, ended = self._prober.take_results()
        if self._leads(now_s):
            number, before = int(now_s // SLOT_S), self._history.up
            up = self._slot.judge(number, last=last, ended=ended, before=before)
            if up is not None:
                written = self._history.record(now_s, steady_s(), up=up, counted=self._counted)
                self._unwritten = not written
        else:
            self._slot = Slot()
        return SLOT_S - now_s % SLOT_S

    def _leads(self, now_s: float) -> bool:
        """Whether this worker writes the history; if so it goes on where another one stopped."""
        had = self._lease.is_held and self._slot.number >= 0
        leads = self._lease.hold()
        if leads and not had:
            self._history.take_up(now_s)
        return leads

    def _counted(self) -> tuple[str, list[int]]:
        machinery = self._machinery
        return machinery.workers.instance, durations(machinery.counted())

    def _remaining(self) -> Mapping[tuple[str, ...], tuple[float, float]]:
        return self._machinery.levels.ages(semconv.RATE_LIMIT_REMAINING)

    def _publish(self, name: str, *, passes: bool, latency_s: float) -> None:
        levels = self._machinery.levels
        levels.set(semconv.HEALTH_UP, (name,), value=float(passes))
        levels.set(semconv.HEALTH_LATENCY, (name,), value=latency_s)

    def _name_paths(self) -> None:
        """Requests for a single check make no spans either."""
        if self._serving:
            self._machinery.own_paths.update(f"/health/{name}" for name in self._prober.checks)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
