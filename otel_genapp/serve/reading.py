"""What the endpoints read, whatever is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Protocol

from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.spans import TracePage
from otel_genapp.read.export import Export
from otel_genapp.read.reports import Report
from otel_genapp.read.reports.period import Period
from otel_genapp.read.traces import Trace
from otel_genapp.records import LLMCall


class Summary(Protocol):
    """What is known of one session."""

    def as_dict(self) -> dict[str, object]:
        """The session as JSON, ready to be encoded."""


class Page(Protocol):
    """Part of the list of sessions."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def total(self) -> int: ...
    @property
    def next(self) -> str | None: ...


class Ranked(Protocol):
    """Part of a ranked list of sessions."""

    @property
    def sessions(self) -> Sequence[SessionRollup]: ...
    @property
    def next(self) -> str | None: ...


class Calls(Protocol):
    """Part of a session's calls."""

    @property
    def calls(self) -> Sequence[LLMCall]: ...
    @property
    def next(self) -> str | None: ...


class Sessions(Protocol):
    """The sessions of one running telemetry."""

    def get(self, session_id: str, /) -> Summary | None: ...
    def clear(self, session_id: str, /) -> bool:
        """Whether there was such a session; it is gone now."""

    def ranked(self, by: str, *, search: str, limit: int, cursor: str | None) -> Ranked:
        """Sessions with their sums. Raises ValueError for an order or a cursor there is not."""

    def history(self, session_id: str, /, *, limit: int, cursor: str | None) -> Calls:
        """A page of a session's calls, newest first. Raises ValueError for a cursor it never gave."""

    def list(self, *, limit: int, cursor: str | None) -> Page:
        """At most `limit` sessions after `cursor`. Raises ValueError for a cursor it never gave."""


class Traces(Protocol):
    """What happened, by correlation id."""

    @property
    def notes(self) -> Sequence[str]:
        """What every answer lacks here."""

    def by_correlation_id(self, correlation_id: str, /) -> Sequence[Trace]: ...
    def by_trace_id(self, trace_id: str, /) -> Trace | None: ...
    def recent(self, limit: int, cursor: str | None, /, *, only_errors: bool) -> TracePage:
        """A page of the kept traces, newest first. Raises ValueError for a cursor it never gave."""


class Reports(Protocol):
    """Daily, weekly and monthly reports."""

    def make(self, kind: str, *, day: date | None, zone: str, step: str, detail: str) -> Report:
        """One of them. Raises ValueError for what cannot be understood."""

    def today(self) -> date:
        """The day it is, in UTC."""


class Exports(Protocol):
    """Messages as files."""

    def write(self, period: Period, form: str, /) -> Export:
        """Those of a time in a format. Raises ValueError for a format there is not."""


class Reading(Protocol):
    """What the endpoints read; every call may block and is made off the event loop."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def traces(self) -> Traces: ...
    @property
    def reports(self) -> Reports: ...
    @property
    def exports(self) -> Exports: ...

    def totals(self, *, from_s: float | None, to_s: float | None, step_s: float | None) -> dict[str, object]:
        """Totals over the calls of [from_s, to_s), in epoch seconds; with `step_s` a series.

        Raises ValueError for a range that makes too many steps.
        """

    def overview(self, *, seconds: int, step_s: int) -> dict[str, Any]:
        """LLM calls of the last `seconds` in steps, requests since the server started, how telemetry is."""

    def health(self, check: str | None, /) -> dict[str, Any] | None:
        """Status, timestamp, version and services, of one check if asked; None where there is no such check."""

    def sla(self, *, window_s: float | None) -> dict[str, Any]:
        """Uptime and response time over the window, or the one of the settings."""

    def integrations(self) -> Sequence[dict[str, Any]]:
        """Requests the application sent since the server started, by host."""

    def exposition(self, accept: str, /) -> tuple[bytes, str]:
        """(body, content type) of the Prometheus exposition for an `Accept` header."""
