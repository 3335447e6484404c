"""`Telemetry`: the handle of one running telemetry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from otel_genapp.bootstrap.reading import HarmlessConversations, HarmlessSessions, HarmlessTraces, Reading
from otel_genapp.config import Settings
from otel_genapp.pipeline.events import Subscriber
from otel_genapp.quiet import logger, quiet
from otel_genapp.read.conversations import ConversationRows
from otel_genapp.read.sessions import Sessions
from otel_genapp.read.traces import Traces

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

    from otel_genapp.state_directory import StateDirectory

STOP_TIMEOUT_S = 3.2
"""At the end of a process, which is to be over within 5 seconds whatever is broken behind it."""
_FLUSH_TIMEOUT_S = 2.8
_LEAST_STOP_S = 0.25

_guarded = quiet("lifecycle")


class Telemetry:
    """One running telemetry. `init_telemetry` makes it; it is a context manager that shuts down.

    `sessions` answers per-session LLM usage, `traces` what happened by correlation id, `conversations` the
    messages of users and what became of them, `health` takes health checks; the other methods are described where they stand.
    With `OTEL_SDK_DISABLED=true` every method works and finds nothing.
    """

    def __init__(self, settings: Settings, state: StateDirectory | None = None) -> None:
        # Imported here, once telemetry is wanted: `import otel_genapp` is to stay cheap.
        from otel_genapp.bootstrap.machinery import Machinery
        from otel_genapp.bootstrap.probing import Health
        from otel_genapp.serve.auth import Gate
        from otel_genapp.state_directory import StateDirectory, open_state_directory

        self.settings = settings
        self.running = False
        self._ending = threading.Lock()  # taken once, by whoever shuts down; nobody waits for it
        self._ended = threading.Event()
        self._all_arrived = True
        self._stop_by_s = 0.0
        disabled = settings.otel.disabled
        self._state = state or (StateDirectory(None) if disabled else open_state_directory(settings))
        self._machinery = Machinery(settings, self._state)
        self._gate = Gate(closed=True, reason="OTEL_SDK_DISABLED is true")
        self._endpoints: dict[str, str] = {}
        self.health = Health(self._machinery, self._state)
        self._reading = Reading(self._machinery, self.health)
        self.sessions: Sessions = self._machinery.sessions(HarmlessSessions)
        self.traces: Traces = self._machinery.traces(HarmlessTraces)
        self.conversations: ConversationRows = HarmlessConversations(
            self._machinery.store.conversations, self._machinery.catch_up
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def start(self, *processors: SpanProcessor) -> None:
        """Take up work; `processors` get every span too. Only `init_telemetry` and the test kit call this.

        Raises:
            MissingDependencyError: OTLP over grpc is configured and its exporter is not installed.
        """
        if not self.settings.otel.disabled:
            from otel_genapp.serve.auth import Gate

            self._machinery.start(lambda _timeout_s: self.flush_before_stop(), *processors)
            self._gate = Gate.open(self.settings, self._state)
            self.running = True

    def resume(self) -> None:
        """Be the telemetry that producers and spans reach again, after a test kit's was."""
        self._machinery.take_over(lambda _timeout_s: self.flush_before_stop())

    def instrument_app(self, app: Any) -> None:
        """Prepare a FastAPI or Flask app before its first request; all of them are watched anyway.

        Raises:
            ConfigError: `app` is neither.
        """
        from otel_genapp.bootstrap import web

        framework = web.framework_of(app)
        with _guarded:
            web.prepare(app, framework)

    def mount(self, app: Any) -> None:
        """Serve `/prometheus` and `/events/…` from a FastAPI or Flask app. Idempotent.

        Without a token the guarded endpoints are left out in preprod and prod; `status()` says so.

        Raises:
            ConfigError: `app` is neither FastAPI nor Flask.
        """
        from otel_genapp.bootstrap import web

        self.instrument_app(app)
        if self.settings.otel.disabled:
            return
        with _guarded:
            outcome = web.mount(app, self._reading, gate=self._gate, settings=self.settings)
            self._endpoints.update(outcome)
            self._machinery.own_paths.update(web.own_paths(outcome))
            self.health.serve(one_by_one=outcome.get("GET /health/{check}") == "mounted")
            if self._gate.closed:
                logger.warning("/events/… is not mounted: %s", self._gate.reason)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback(event)` with `LLMRequestStarted`, `…Completed` and `…Failed`, in order.

        It runs on a thread of its own; what it raises is counted. Returns the call that ends it.
        """
        with _guarded:
            return self._machinery.events.subscribe(callback)
        return lambda: None

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body and content type of `/prometheus` for an `Accept` header."""
        with _guarded:
            return self._reading.exposition(accept)
        return b"", "text/plain; charset=utf-8"

    def totals(
        self,
        *,
        from_s: float | None = None,
        to_s: float | None = None,
        step_s: float | None = None,
    ) -> dict[str, Any]:
        """The JSON of `GET /events/metrics`; times are UTC seconds since the epoch. Empty: unknown.

        Raises:
            ValueError: the range is empty or has too many steps.
        """
        refused: ValueError | None = None
        with _guarded:
            try:
                return self._reading.totals(from_s=from_s, to_s=to_s, step_s=step_s)
            except ValueError as error:
                refused = error
        if refused is not None:
            raise refused
        return {}

    def sla(self, window_s: float | None = None) -> dict[str, Any]:
        """The JSON of `GET /events/sla`: uptime and response time over the last `window_s` seconds. Empty: unknown."""
        with _guarded:
            return self._reading.sla(window_s=window_s)
        return {}

    def integrations(self) -> list[dict[str, Any]]:
        """The services the application calls over HTTP, by host; see `otel_genapp.read.integrations`."""
        with _guarded:
            return self._reading.integrations()
        return []

    def profile(self, seconds: float = 60.0) -> None:
        """Profile every block of `profile_action` that begins within so many seconds from now; 0 ends that.

        Raises:
            MissingDependencyError: pyinstrument is not installed.
        """
        from otel_genapp.profiling import profile_blocks

        profile_blocks(seconds)

    def status(self) -> dict[str, Any]:
        """What is running, what is instrumented, what is not and why. JSON-ready, no secrets."""
        machinery: dict[str, Any] = {"notes": ["the rest could not be found out, see the log"]}
        with _guarded:
            machinery = self._machinery.describe()
        problems = (self._state.problem, self.health.problem)
        notes = [*machinery.pop("notes"), *(problem for problem in problems if problem)]
        return {
            "running": self.running,
            "disabled": self.settings.otel.disabled,
            "app": self.settings.app,
            "env": self.settings.env,
            "version": self.settings.version or None,
            **machinery,
            "state_directory": str(self._state.path) if self._state.path is not None else None,
            "endpoints": dict(self._endpoints),
            "guarded_endpoints": self._gate.reason,
            "notes": notes,
        }

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Deliver what is pending. True only if all of it arrived within `timeout_s` seconds."""
        if not self.running:
            return self._all_arrived
        with _guarded:
            return self._machinery.flush(timeout_s)
        return False

    def shutdown(self, timeout_s: float = 5.0) -> bool:
        """Deliver what is pending and stop, within `timeout_s` seconds whatever is broken behind it.

        True if everything arrived. Sessions and totals can still be read; further calls do nothing
        but wait for a first one that is under way elsewhere.
        """
        if not self.running and not self._ending.locked():
            return True
        if not self._ending.acquire(blocking=False):
            self._ended.wait(timeout_s)
            return self._all_arrived
        self.running = self._all_arrived = False
        try:
            deadline = time.monotonic() + timeout_s
            with _guarded:
                self.health.close(timeout_s * 0.1)
            with _guarded:
                self._all_arrived = self._machinery.close(max(deadline - time.monotonic(), 0.0))
        finally:
            self._ended.set()
        return self._all_arrived

    def flush_before_stop(self) -> bool:
        """Deliver what is pending in a process that is about to end; a `stop` soon after gets the rest."""
        self._stop_by_s = time.monotonic() + STOP_TIMEOUT_S
        arrived = self.flush(_FLUSH_TIMEOUT_S)
        if arrived:
            self._stop_by_s = 0.0
        return arrived

    def stop(self) -> bool:
        """Shut down in the time a process has at its end, failed flushes just before included."""
        left_s = self._stop_by_s - time.monotonic()
        return self.shutdown(STOP_TIMEOUT_S if left_s < -1 else max(left_s, _LEAST_STOP_S))

    def before_fork(self) -> None:
        """Be where a fork does no harm."""
        self.health.before_fork()
        self._machinery.store.stand_still()

    def forked(self) -> None:
        """Go on, and expect a child that counts too."""
        self._machinery.store.go_on()
        self._machinery.workers.forked()
        self.health.forked()

    def restart_in_child(self) -> None:
        """Start over in the child of a fork: what the parent counted stays the parent's."""
        self._ended = threading.Event()
        if self._ending.locked():  # by a thread of the parent's, or long ago
            self._ended.set()
        self._machinery.restart_in_child()
        self.health.restart_in_child()
