"""Which store a telemetry has: the one its settings name, else SQLite in the state directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from otel_genapp.config import CLICKHOUSE_STORE, ENVIRONMENT, MEMORY_STORE, Settings, without_userinfo
from otel_genapp.ledger.spans import ReadsSpans, SpanStore
from otel_genapp.ledger.spans_memory import MemorySpans
from otel_genapp.ledger.store import FindsCalls, Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.quiet import logger
from otel_genapp.state_directory import StateDirectory

FILE_MEGABYTES = 1000
"""How much detail a SQLite file keeps unless the settings say otherwise: it shares the disk with the application."""
DATABASE = "ledger.db"
"""The SQLite database in the state directory."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A store, how it may be shown, and what is wrong with it ("" if nothing).

    Not every store keeps spans: those of a fleet are the OpenTelemetry Collector's.
    """

    store: Store
    shown: str
    note: str = ""
    keep_bytes: int | None = None
    """How much detail it is to keep; None for any amount."""
    spans: SpanStore | None = None
    fleet: ReadsSpans | None = None
    """Spans that somebody else keeps, for all who write to the store."""
    calls: FindsCalls | None = None
    path: Path | None = None
    """The file of a SQLite database."""
    see_problem: Callable[[], str] = str
    """Says what can be seen to be wrong with its place; "" if nothing."""

    @property
    def shown_spans(self) -> ReadsSpans | None:
        """Where spans are read from, if there is such a place."""
        return self.spans if self.fleet is None else self.fleet

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process: nothing has to be kept for it on disk."""
        return isinstance(self.store, MemoryStore)


def open_store(settings: Settings, state: StateDirectory, *, on_evict: Callable[[], None]) -> Opened:
    """Open the store. Where no place for one was named and none can be written, it is memory, with a warning.

    A store behind a network is not waited for: it may come up later.

    Raises:
        ConfigError: the URL of the store cannot be understood.
        MissingDependencyError: what the store needs is not installed.
        StoreError: the store cannot be used, and never will like this.
    """
    url = settings.store
    if url == MEMORY_STORE or settings.otel.disabled:
        return _memory(settings, on_evict)
    if not url and state.path is None:
        note = (
            "sessions are kept in memory and end with this process: the state directory cannot be used; "
            f"set {ENVIRONMENT['state_dir']} to a directory this process may write to, or {ENVIRONMENT['store']}"
        )
        logger.warning("%s", note)
        return replace(_memory(settings, on_evict), note=note)
    if url.startswith(CLICKHOUSE_STORE):
        from otel_genapp.ledger.clickhouse import ClickHouseStore

        fleet = ClickHouseStore.open(url)
        keep_bytes = _keep_bytes(settings, 0)
        return Opened(fleet, without_userinfo(url), keep_bytes=keep_bytes, fleet=fleet.spans, calls=fleet)
    from otel_genapp.ledger.sql import SQLStore

    url = url or f"sqlite:///{quote(str(_database(state)))}"
    keep_bytes = _keep_bytes(settings, FILE_MEGABYTES if url.startswith("sqlite") else 0)
    store = SQLStore.open(url)
    spans = store.spans if settings.trace_megabytes else None
    return Opened(
        store, without_userinfo(url), keep_bytes=keep_bytes, spans=spans, calls=store, path=store.path,
        see_problem=lambda: store.problem,
    )  # fmt: skip


def _memory(settings: Settings, on_evict: Callable[[], None]) -> Opened:
    store = MemoryStore(session_limit=settings.session_limit, on_evict=on_evict)
    spans = MemorySpans() if settings.trace_megabytes else None
    return Opened(store, MEMORY_STORE, spans=spans, calls=store)


def _keep_bytes(settings: Settings, otherwise: int) -> int | None:
    given = settings.retention_megabytes
    return (otherwise if given < 0 else given) * 10**6 or None


def _database(state: StateDirectory) -> Path:
    if state.path is None:
        raise ValueError("no state directory")
    return state.path / DATABASE
