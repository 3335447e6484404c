"""What is read of a telemetry: by its endpoints, which say 500 where it fails, and by the application.

To the application nothing fails: it gets what stands for "unknown", and the error is counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_genapp.ledger.conversations import PAGE, ConversationRow, Place
from otel_genapp.ledger.spans import TracePage
from otel_genapp.ledger.store import SessionPage
from otel_genapp.quiet import quiet
from otel_genapp.read.conversations import ConversationRows
from otel_genapp.read.integrations import integrations
from otel_genapp.read.requests import own_health, served
from otel_genapp.read.sessions import DEFAULT_PAGE, Sessions, SessionSummary, totals_dict
from otel_genapp.read.traces import Trace, Traces

if TYPE_CHECKING:
    from otel_genapp.bootstrap.machinery import Machinery
    from otel_genapp.bootstrap.probing import Health

_guarded = quiet("serve")


class Reading:
    """Sessions, traces, totals and exposition as they are; a fault behind them comes through."""

    def __init__(self, machinery: Machinery, health: Health) -> None:
        # Imported here, once telemetry is wanted: time zones read the environment.
        from otel_genapp.read.export import Exports
        from otel_genapp.read.reports import About, Reports

        self._machinery = machinery
        self._health = health
        self.sessions = machinery.sessions()
        self.traces = machinery.traces()
        settings = machinery.settings
        about = About(
            settings.app,
            settings.env,
            retention_days=settings.retention_days,
            repeat_hours=settings.repeat_hours,
        )
        self.reports = Reports(machinery.store, about, catch_up=machinery.catch_up)
        self.exports = Exports(machinery.store, catch_up=machinery.catch_up)
        self.conversations = ConversationRows(machinery.store.conversations, machinery.catch_up)

    def totals(
        self, *, from_s: float | None = None, to_s: float | None = None, step_s: float | None = None
    ) -> dict[str, Any]:
        """See `Telemetry.totals`."""
        machinery = self._machinery
        machinery.catch_up()
        return totals_dict(
            machinery.store,
            from_s=from_s,
            to_s=to_s,
            step_s=step_s,
            in_flight=machinery.processor.in_flight,
        )

    def overview(self, *, seconds: int, step_s: int) -> dict[str, Any]:
        """LLM calls of the last `seconds` in steps, requests since the server started, and how telemetry is."""
        machinery = self._machinery
        end_s = (int(time.time()) // step_s + 1) * step_s
        counted = machinery.counted()
        return {
            "llm": self.totals(from_s=end_s - seconds, to_s=end_s, step_s=step_s),
            "http": served(counted),
            "own_health": own_health(counted),
            "active_sessions": machinery.active_sessions(),
            "in_flight": machinery.processor.in_flight,
            "workers": machinery.workers.living,
            "app": machinery.settings.app,
            "env": machinery.settings.env,
            "status": machinery.describe(),
        }

    def health(self, check: str | None = None) -> dict[str, Any] | None:
        """See `Health.answer`."""
        return self._health.answer(check)

    def sla(self, *, window_s: float | None = None) -> dict[str, Any]:
        """See `Telemetry.sla`."""
        return self._health.sla(window_s)

    def integrations(self) -> list[dict[str, Any]]:
        """See `Telemetry.integrations`."""
        return integrations(self._machinery.counted())

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """See `Telemetry.exposition`."""
        self._health.show()
        return self._machinery.exposition(accept)


class HarmlessConversations(ConversationRows):
    """`ConversationRows` for the application: what the store cannot tell is nothing to it."""

    def rows(
        self, *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        with _guarded:
            return super().rows(from_ns=from_ns, to_ns=to_ns, after=after, limit=limit)
        return ()

    def count(self, *, from_ns: int, to_ns: int) -> int:
        with _guarded:
            return super().count(from_ns=from_ns, to_ns=to_ns)
        return 0


class HarmlessSessions(Sessions):
    """`Sessions` for the application: what the store cannot tell is unknown to it."""

    def get(self, session_id: object) -> SessionSummary | None:
        with _guarded:
            return super().get(session_id)
        return None

    def list(self, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> SessionPage:
        refused: ValueError | None = None
        with _guarded:
            try:
                return super().list(limit, cursor)
            except ValueError as error:  # an argument cannot be understood: that is for the caller
                refused = error
        if refused is not None:
            raise refused
        return SessionPage((), 0, None)

    def clear(self, session_id: object) -> bool:
        with _guarded:
            return super().clear(session_id)
        return False


class HarmlessTraces(Traces):
    """`Traces` for the application: what the store cannot tell is unknown to it."""

    def by_correlation_id(self, correlation_id: str) -> list[Trace]:
        refused: ValueError | None = None
        with _guarded:
            try:
                return super().by_correlation_id(correlation_id)
            except ValueError as error:
                refused = error
        if refused is not None:
            raise refused
        return []

    def by_trace_id(self, trace_id: str) -> Trace | None:
        with _guarded:
            return super().by_trace_id(trace_id)
        return None

    def recent(
        self, limit: int = DEFAULT_PAGE, cursor: str | None = None, *, only_errors: bool = False
    ) -> TracePage:
        refused: ValueError | None = None
        with _guarded:
            try:
                return super().recent(limit, cursor, only_errors=only_errors)
            except ValueError as error:
                refused = error
        if refused is not None:
            raise refused
        return TracePage((), None)
