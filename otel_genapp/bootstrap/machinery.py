"""Everything that runs behind the `Telemetry` handle, wired together here and nowhere else.

Imported when telemetry starts, so that importing the package stays cheap.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor

from otel_genapp import hub, quiet, semconv
from otel_genapp.bootstrap import instrumentation, providers
from otel_genapp.bootstrap.accounts import Accounts
from otel_genapp.bootstrap.activity import ActiveSessions
from otel_genapp.bootstrap.clock import Clock
from otel_genapp.bootstrap.exports import Exports
from otel_genapp.bootstrap.gauges import gauges, new_levels
from otel_genapp.bootstrap.messages import Messages
from otel_genapp.bootstrap.upkeep import Upkeep
from otel_genapp.capture.client_exchange import finish_open_exchanges
from otel_genapp.capture.finalizers import measure_put_off, watch_collections
from otel_genapp.capture.llm_wire.reaper import finish_open_calls
from otel_genapp.config import Settings
from otel_genapp.context import GenappPropagator
from otel_genapp.ledger.journal import Journal
from otel_genapp.ledger.keeping import Ledger
from otel_genapp.ledger.opening import open_store
from otel_genapp.logs import configure_logging, install_logging
from otel_genapp.metrics.conventional import GenAIMetrics
from otel_genapp.metrics.folding import fold
from otel_genapp.metrics.fork import restart_counts
from otel_genapp.metrics.instance import find_instance
from otel_genapp.metrics.instruments import Gauge, Instruments
from otel_genapp.metrics.prometheus import OPENMETRICS, TEXT, GenappPrometheusReader, negotiate
from otel_genapp.metrics.snapshot import Table
from otel_genapp.metrics.system import SystemMetrics
from otel_genapp.metrics.tally import Tally
from otel_genapp.metrics.views import genapp_views
from otel_genapp.metrics.workers import WorkerMetrics
from otel_genapp.pipeline.counting import Tree
from otel_genapp.pipeline.errand import Errand
from otel_genapp.pipeline.events import EventBus
from otel_genapp.pipeline.folds import Folds, Position
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.pipeline.processor import GenappSpanProcessor
from otel_genapp.pipeline.sampler import Recording
from otel_genapp.profiling import require_profiler
from otel_genapp.read.sessions import Sessions
from otel_genapp.read.traces import Traces
from otel_genapp.records import ConversationRecord, Record, UsageRecord
from otel_genapp.state_directory import StateDirectory
from otel_genapp.version import __version__

DRAIN_TIMEOUT_S = 5.0

_guarded = quiet.quiet("lifecycle")


class Machinery:
    """The pipeline, the metrics, the store and the exports of one telemetry.

    Raises:
        ConfigError: the price file or the store of the settings cannot work.
        MissingDependencyError: what the store needs is not installed.
    """

    def __init__(self, settings: Settings, state: StateDirectory) -> None:
        self.settings = settings
        self._state = state
        self.accounts = accounts = Accounts()
        self.prices = Prices(settings.prices)
        self._pricing = threading.Lock()
        self._opened = open_store(settings, state, on_evict=accounts.evicted)
        self.store = self._opened.store
        self.ledger = self._build_ledger(state)
        self._writing = (
            None if self._opened.in_memory else Errand(self._write, self.store.close, name="store")
        )
        self.active_sessions = ActiveSessions(self.store)
        self.events = EventBus(accounts.event)
        self.upkeep = Upkeep(self.ledger, self._opened, retention_days=settings.retention_days, clock=Clock())
        self.folds = Folds(self._fold, after=self.upkeep)
        self.tree = Tree()
        self.recording = Recording()
        self.own_paths: set[str] = set()  # of our endpoints, once mounted: their requests make no spans
        self.processor = GenappSpanProcessor(
            self.tree, self._emit, events=self.events, count_drop=accounts.drop
        )
        self.reader = GenappPrometheusReader(providers.constant_labels(settings))
        self.meters: Any = MeterProvider(
            metric_readers=[self.reader],
            resource=providers.build_resource(settings),
            views=genapp_views(),
            shutdown_on_exit=False,
        )
        self.levels = new_levels()
        meter = self.meters.get_meter(semconv.SCOPE, __version__)
        self.instruments = Instruments(meter, self._gauges())
        accounts.instruments = self.instruments
        self.messages = Messages(
            self.instruments,
            self.store,
            count_stored=accounts.stored_of_conversations,
            repeat_hours=settings.repeat_hours,
        )
        self.workers = WorkerMetrics(
            self.reader,
            state,
            standing_still=self.folds.standing_still,
            replay=self._replay,
            revision=self.instruments.revision,
            drain=self._fold_all,
            on_problem=accounts.unread_snapshot,
        )
        self.tracing: providers.Tracing | None = None
        self._global_meters: Any = None
        self._gen_ai: GenAIMetrics | None = None
        self._system: SystemMetrics | None = None
        self._exports = Exports(settings, accounts, state=state, opened=self._opened)
        self._extra_processors: tuple[SpanProcessor, ...] = ()
        self._undo: list[Callable[[], None]] = []
        self._hub: hub.Hub | None = None
        self._propagator: GenappPropagator | None = None

    def _gauges(self) -> dict[str, Gauge]:
        return gauges(
            self.levels,
            self._state,
            in_flight=lambda: self.processor.in_flight,
            active_sessions=self.active_sessions,
        )

    def _build_ledger(self, state: StateDirectory) -> Ledger:
        kept_on_disk = not self._opened.in_memory and state.path is not None
        return Ledger(
            self.store,
            state=state,
            journal=Journal(state, on_loss=self.accounts.unjournaled) if kept_on_disk else None,
            price=self._priced,
            count_stored=self.accounts.stored,
            count_loss=self.accounts.drop,
            is_needed=lambda segment: self.workers.needs(segment),  # noqa: PLW0108 - there are none yet
        )

    def start(self, flush: Callable[[float], bool], *processors: SpanProcessor) -> None:
        """Attach to the providers, open the exports, watch the libraries, and take over.

        Raises:
            MissingDependencyError: OTLP over grpc is configured and its exporter is not installed.
        """
        self._extra_processors = processors
        meters, ours = providers.global_meter_provider(self.settings)
        self._global_meters = meters if ours else None
        if self._wants_conventional:
            self._gen_ai = GenAIMetrics(metrics.get_meter(semconv.SCOPE, __version__))
        tracing = providers.Tracing(self.settings, self.recording)
        reads_metrics = self._exports.start(
            self.meters, global_meters=self._global_meters, export_spans=tracing.owned
        )
        if reads_metrics:
            self.instruments.forget()  # what is bound already feeds the readers of then only
        self._undo = [install_logging(), quiet.observe(self.accounts.own_error), watch_collections()]
        if self.settings.profile_actions:
            require_profiler()
        if self.settings.logging == "json":
            self._undo.append(configure_logging(self.settings.app, self.settings.env))
        with _guarded:
            system = SystemMetrics(self.meters, excluded=self.settings.otel.excluded_system_metrics)
            self._system = system
            self._undo.append(system.stop)
        self.prices.prepare()
        self.take_over(flush, tracing)
        with _guarded:
            self.workers.begin(find_instance(self.settings.instance), self._worker_id())
        instrumentation.watch_libraries()

    @property
    def _wants_conventional(self) -> bool:
        """Whether anybody reads conventional metrics: ours without an endpoint has no reader."""
        return bool(self.settings.otel.metrics_endpoint) or self._global_meters is None

    def take_over(self, flush: Callable[[float], bool], tracing: providers.Tracing | None = None) -> None:
        """Be the telemetry that producers and spans reach; after a test kit's, once more."""
        self.tracing = tracing or providers.Tracing(self.settings, self.recording)
        self.recording = self.tracing.recording
        self.recording.tree, self.recording.excluded = self.tree, self.own_paths
        if self.tracing.switch is not None:
            exports = self._exports.processors
            self.tracing.switch.targets = (self.processor, *exports, *self._extra_processors)
        self._propagator = providers.install_propagator()
        self._propagator.silent = False
        running = hub.Hub(
            settings=self.settings,
            families=self.instruments,
            levels=self.levels,
            record=self._keep_fact,
            new_id=self.processor.new_id,
            tracer=trace.get_tracer(semconv.SCOPE, __version__),
            trusted=self.settings.trust_rule(),
            egress=self.settings.propagate_rule(),
            calls=self.processor,
            flush=flush,
            wants_http_metrics=self._wants_conventional,
        )
        self._hub = running
        hub.set_active(running)
        hub.show_actions(running)

    def catch_up(self) -> None:
        """Bring everything that ended before this call, in any process of the app, into the store."""
        self._fold_all()
        self.ledger.drain(DRAIN_TIMEOUT_S)

    def traces(self, kind: type[Traces] = Traces) -> Traces:
        """What happened, by correlation id, read from what this telemetry keeps."""

        def catch_up() -> None:
            self.catch_up()
            self._exports.drain_traces()

        opened = self._opened
        return kind(opened.shown_spans, opened.calls, catch_up=catch_up, url=self.settings.trace_url)

    def sessions(self, kind: type[Sessions] = Sessions) -> Sessions:
        """What LLM calls added up to, by session."""
        return kind(self.store, self.catch_up, clear_traces=self._exports.clear_traces)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The body and content type of `/prometheus`."""
        self._fold_all()
        openmetrics = negotiate(accept)
        return self.workers.exposition(openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    def counted(self) -> Table:
        """What all workers of this server have counted since it started, by family."""
        self._fold_all()
        return self.workers.counted()

    def flush(self, timeout_s: float) -> bool:
        """Deliver what is pending; True only if all of it arrived in time."""
        deadline = time.monotonic() + timeout_s
        self._measure_put_off()
        settled = self.folds.drain(timeout_s) and self._write_ledger(timeout_s)
        arrived = self._exports.flush(deadline)
        settled &= self.events.drain(max(deadline - time.monotonic(), 0))
        return settled and arrived

    def close(self, timeout_s: float) -> bool:
        """Let go of the providers, deliver what is pending and stop, within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        if self._hub is not None:
            with _guarded:
                finish_open_calls(self._hub)
        if hub.active is self._hub:  # else another telemetry has taken over meanwhile
            hub.set_active(None)
            with _guarded:
                self._let_go()
        self.processor.abandon_all()
        self._measure_put_off(ending=True)
        self.upkeep.close()
        settled = self.folds.close(timeout_s * 0.2) and self._write_ledger(timeout_s * 0.2)
        self.active_sessions.close()
        self.workers.end()
        self.ledger.close()
        if self._writing is not None:
            self._writing.close()
        arrived = self._exports.flush(deadline, last=True)
        self._exports.close()
        with _guarded:
            self.store.close()  # opened again where somebody still reads
        self.events.close()
        settled &= self.events.drain(max(min(deadline - time.monotonic(), 0.5), 0))
        self.events.abandon()
        for undo in self._undo:
            with _guarded:
                undo()
        return settled and arrived

    def _let_go(self) -> None:
        if self._propagator is not None:
            self._propagator.silent = True
        self.recording.tree = None
        self.recording.excluded = set()
        if self.tracing is not None and self.tracing.switch is not None:
            self.tracing.switch.targets = ()

    def restart_in_child(self) -> None:
        """Start over in the child of a fork: what the parent counted stays the parent's."""
        if self.tracing is not None and self.tracing.switch is not None:
            self.tracing.switch.forked_at_ns = time.time_ns()
        self.processor.reset()
        self.folds.reset()
        self.events.reset()
        self._pricing = threading.Lock()
        self.store.restart()
        self.active_sessions.restart()
        self.ledger.restart()
        if self._writing is not None:
            self._writing.restart()
        restart_counts(self.meters)
        if self._global_meters is not None:
            restart_counts(self._global_meters)
        self._exports.reset()
        self.reader.reset_lock()
        if self._system is not None:
            self._system.restart_in_child()
        self.instruments.forget()
        self.levels.restart()
        self.messages.forget()
        hub.restart_in_child()
        with _guarded:
            self.workers.restart(self._worker_id())

    def _worker_id(self) -> str:
        journal = self.ledger.journal
        return journal.id if journal is not None else secrets.token_hex(8)

    def _replay(self, position: Position, tally: Tally) -> None:
        """Fold what a dead worker's journal holds beyond `position`."""
        for record in self.ledger.records_after(position):
            fold(tally, record, context=None)

    def describe(self) -> dict[str, Any]:
        """The machinery's part of `status()`."""
        tracing = self.tracing
        notes = list(tracing.notes) if tracing is not None else []
        if self._system is not None:
            notes.append(self._system.problem)
        notes += instrumentation.span_problems(self.settings.fastapi_spans)
        notes.append(self.prices.problem or "")
        notes.append(self._opened.note or self.upkeep.problem)
        notes.append(self.workers.problem)
        if self.ledger.journal is not None:
            notes.append(self.ledger.journal.problem)
        return {
            "instrumented": instrumentation.instrumented(),
            "tracer_provider": tracing.describe() if tracing is not None else "not started",
            "sampling": "exports only" if tracing is None or tracing.sampler_wrapped else "numbers too",
            "bound_recording": self.instruments.bound,
            "prices": self.prices.tables(),
            "store": self._opened.shown,
            "records_waiting": self.ledger.waiting,
            **self._exports.describe(),
            "notes": [note for note in notes if note],
        }

    def _measure_put_off(self, *, ending: bool = False) -> None:
        """Make the measurements that could not be made where they came up; at the end, all of them."""
        running = self._hub
        if running is not None:
            with _guarded:
                if ending:
                    finish_open_exchanges(running)
                measure_put_off(running)

    def _fold_all(self) -> None:
        self._measure_put_off()
        self.folds.drain(DRAIN_TIMEOUT_S)

    def _emit(self, record: Record, context: Context) -> None:
        self.accounts.record("llm_call", "created")
        self._keep(record, context)

    def _keep_fact(self, record: ConversationRecord, context: Context) -> None:
        self.accounts.record("conversation", "created")
        self._keep(record, context)

    def _keep(self, record: Record, context: Context) -> None:
        # Queued in the journal's order, so that one position says which records are folded.
        self.ledger.keep(record, then=lambda position: self.folds.append(record, context, position=position))
        self.folds.help()

    def _fold(self, record: Record, context: Context, *, position: Position | None) -> None:
        record = self._priced(record)
        fold(self.instruments, record, context=context)
        self.ledger.settle(record, position)
        self.messages.see(record)
        if self._gen_ai is not None:
            self._gen_ai.record(record, context)

    def _priced(self, record: Record) -> Record:
        if not isinstance(record, UsageRecord):
            return record
        with self._pricing:
            return self.prices.priced(record)

    def _write_ledger(self, timeout_s: float) -> bool:
        """Whether everything is in the store after `timeout_s`; one that does not answer is not waited for longer."""
        return self._writing.ask().within(timeout_s) if self._writing is not None else self._write()

    def _write(self) -> bool:
        return self.ledger.write() and not self.ledger.waiting
