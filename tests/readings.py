"""What the endpoints read, made by hand: sessions and totals that say what they were asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.spans import TracePage
from otel_genapp.ledger.store import CallPage, RankedPage
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.read.export import Exports
from otel_genapp.read.reports import About, Reports
from otel_genapp.read.traces import Trace
from tests.builders import call


@dataclass(frozen=True)
class FakeSummary:
    session_id: str
    total_requests: int = 2

    def as_dict(self) -> dict[str, object]:
        return {"session_id": self.session_id, "total_requests": self.total_requests, "cost_usd": None}


@dataclass(frozen=True)
class FakePage:
    ids: tuple[str, ...]
    total: int
    next: str | None


@dataclass
class FakeSessions:
    """Sessions in a list; a cursor is the place to go on from."""

    ids: list[str] = field(default_factory=list)

    def get(self, session_id: str) -> FakeSummary | None:
        return FakeSummary(session_id) if session_id in self.ids else None

    def clear(self, session_id: str) -> bool:
        found = session_id in self.ids
        self.ids = [known for known in self.ids if known != session_id]
        return found

    def ranked(self, by: str, *, search: str, limit: int, cursor: str | None) -> RankedPage:
        del by, cursor
        found = [SessionRollup(known) for known in self.ids if search in known]
        return RankedPage(tuple(found[:limit]), None)

    def history(self, session_id: str, *, limit: int, cursor: str | None) -> CallPage:
        del session_id, limit, cursor
        return CallPage((), None)

    def list(self, limit: int = 100, cursor: str | None = None) -> FakePage:
        start = int(cursor or 0)
        end = start + limit
        return FakePage(tuple(self.ids[start:end]), len(self.ids), str(end) if end < len(self.ids) else None)


@dataclass
class FakeTraces:
    """One call for each correlation id it knows."""

    ids: tuple[str, ...] = ("cid",)
    notes: tuple[str, ...] = ()

    def by_correlation_id(self, correlation_id: str) -> list[Trace]:
        if correlation_id not in self.ids:
            return []
        return [Trace("1" * 32, None, (), (call("1", correlation_id=correlation_id),))]

    def by_trace_id(self, trace_id: str) -> Trace | None:
        del trace_id
        return None

    def recent(self, limit: int, cursor: str | None, *, only_errors: bool) -> TracePage:
        del limit, cursor, only_errors
        return TracePage((), None)


@dataclass
class FakeReading:
    """A reading whose totals are the question they answer."""

    sessions: FakeSessions = field(default_factory=FakeSessions)
    traces: FakeTraces = field(default_factory=FakeTraces)
    name: str = "first"
    reports: Reports = field(default_factory=lambda: Reports(MemoryStore(), About("shop", "prod")))
    exports: Exports = field(default_factory=lambda: Exports(MemoryStore()))

    def totals(self, from_s: float | None, to_s: float | None, step_s: float | None) -> dict[str, object]:
        if step_s is not None and (from_s or 0.0) < 60.0:
            raise ValueError("too many steps, says the store at secret-host")
        return {"of": self.name, "from_s": from_s, "to_s": to_s, "step_s": step_s}

    def overview(self, *, seconds: int, step_s: int) -> dict[str, Any]:
        return {"seconds": seconds, "step_s": step_s}

    def health(self, check: str | None) -> dict[str, Any] | None:
        statuses = {None: "degraded", "database": "unhealthy", "a/b": "healthy"}
        return {"status": statuses[check], "services": {"asked": check}} if check in statuses else None

    def sla(self, *, window_s: float | None) -> dict[str, Any]:
        return {"window_s": window_s}

    def integrations(self) -> list[dict[str, Any]]:
        return [{"host": self.name}]

    def exposition(self, accept: str) -> tuple[bytes, str]:
        if "openmetrics" in accept:
            return b"up 1\n# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"


class BrokenReading:
    """A reading behind which everything fails, with a secret in the message."""

    @property
    def sessions(self) -> FakeSessions:
        raise RuntimeError("password=hunter2 at db.internal")

    @property
    def traces(self) -> FakeTraces:
        raise RuntimeError("password=hunter2 at db.internal")

    @property
    def reports(self) -> Reports:
        raise RuntimeError("password=hunter2 at db.internal")

    @property
    def exports(self) -> Exports:
        raise RuntimeError("password=hunter2 at db.internal")

    def totals(self, **_asked: float | None) -> dict[str, object]:
        return {"unfit for JSON": float("nan")}

    def overview(self, *, seconds: int, step_s: int) -> dict[str, Any]:
        raise RuntimeError(f"password=hunter2 at db.internal {seconds} {step_s}")

    def health(self, check: str | None) -> dict[str, Any] | None:
        raise RuntimeError(f"password=hunter2 at db.internal {check}")

    def sla(self, *, window_s: float | None) -> dict[str, Any]:
        raise RuntimeError(f"password=hunter2 at db.internal {window_s}")

    def integrations(self) -> list[dict[str, Any]]:
        raise RuntimeError("password=hunter2 at db.internal")

    def exposition(self, _accept: str) -> tuple[bytes, str]:
        raise ValueError("password=hunter2 at db.internal")
