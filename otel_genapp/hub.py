"""The one slot through which producers reach the running telemetry.

`bootstrap` fills it and empties it; capture code reads `hub.active` and does nothing while it is
None. Producers see protocols only, never the metrics or pipeline packages behind them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from otel_genapp.config import Settings
from otel_genapp.network import HostRule
from otel_genapp.records import ConversationRecord
from otel_genapp.semconv import Metric


class Family(Protocol):
    """One metric family, recorded by its label values in the order `semconv` lists them."""

    def record(self, value: float, labels: tuple[str, ...], context: Context | None = None) -> None:
        """Add to a counter or observe in a histogram; never raises."""

    def announce(self, labels: tuple[str, ...]) -> None:
        """Make a counter's series present with 0."""


class HttpFamily(Protocol):
    """The HTTP families, recorded together."""

    def record(
        self,
        labels: tuple[str, str, str, str],
        seconds: float,
        *,
        request_bytes: int,
        response_bytes: int | None,
        context: Context | None,
    ) -> None:
        """Count one request by (method, status, resource, app_type); never raises."""


class Families(Protocol):
    """The families capture code records itself; LLM families are folds of records."""

    @property
    def http(self) -> HttpFamily: ...
    @property
    def action_count(self) -> Family: ...
    @property
    def action_duration(self) -> Family: ...
    @property
    def action_size(self) -> Family: ...
    @property
    def errors(self) -> Family: ...
    @property
    def bot_update_lag(self) -> Family: ...
    @property
    def bot_throttled(self) -> Family: ...
    @property
    def telemetry_dropped(self) -> Family: ...


class Levels(Protocol):
    """The gauges that keep what they were set to last."""

    def set(self, metric: Metric, labels: tuple[str, ...], *, value: float) -> None:
        """Show `value` for these labels from now on; never raises."""

    def set_later(
        self, metric: Metric, source: Hashable, *, values: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """Show what `values` gives when somebody looks, in the place of an earlier one of `source`."""


class CallOutcome(Protocol):
    """What its maker knows of a finished LLM call; see `capture.llm_span.LLMOutcome`."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    response_model: str | None
    response_id: str | None
    finish_reasons: tuple[str, ...]
    tool_names: list[str]
    first_token_s: float | None
    cost_usd: float | None
    service_tier: str | None
    cache_write_1h_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    attempts: list[str]


class Calls(Protocol):
    """The LLM calls under way, as the counting knows them."""

    def tell(self, span_id: int, outcome: CallOutcome, *, status: str | None, error_type: str | None) -> None:
        """Say what the span that is about to end would say by its attributes; `status` None: success."""

    def holder_of(self, context: Context) -> int:
        """The id of the open LLM span that a call made in `context` belongs to; 0 for none."""

    def nest(self, span_id: int, attributes: Mapping[str, Any]) -> None:
        """Count what became known of a call inside that span, as far as the span does not say it."""


@dataclass(slots=True)
class Hub:
    """What producers may use of one running telemetry."""

    settings: Settings
    families: Families
    levels: Levels
    tracer: Tracer
    trusted: HostRule
    egress: HostRule
    calls: Calls
    record: Callable[[ConversationRecord, Context], None]
    """Keep what happened in a conversation; what it was recorded in is the context."""
    new_id: Callable[[], str]
    """An id for a record, unlike those of all processes."""
    flush: Callable[[float], bool]
    """Deliver what is pending within that many seconds; called at ASGI lifespan shutdown."""
    wants_http_metrics: bool = False
    """Whether anybody reads the conventional `http.*` metrics of instrumentations."""
    preparing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a web app is prepared for spans."""
    prepared: set[int] = field(default_factory=set)
    """ids of the web apps already prepared for spans."""
    span_makers: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """id of a web app -> (its middleware stack, what makes its spans), see `capture.fastapi_span`."""
    exchanges: set[Any] = field(default_factory=set)
    """Outgoing requests begun and not ended, see `capture.client_exchange`."""
    held_calls: dict[tuple[int, int], Any] = field(default_factory=dict)
    """Where it runs (thread, task) -> the LLM call waiting there for its next attempt, see `capture.llm_wire`."""
    reaping: bool = False
    """Whether somebody sees to it that LLM calls nobody ends do end."""
    profile_until_s: float = 0.0
    """Until when, by the monotonic clock, every block of `profile_action` is profiled."""
    profiling: set[str] = field(default_factory=set)
    """Names of the blocks whose profile is being taken or written: one at a time of each."""
    put_off: deque[Callable[[], None]] = field(default_factory=deque)
    """Measurements that came up inside a garbage collection, see `capture.finalizers`."""
    collecting_thread: int = 0
    """The thread in which a garbage collection runs now; 0 for none."""


active: Hub | None = None

announced_actions: dict[str, None] = {}
"""Names of decorated actions, in order: their series exist from the start with 0."""

_lock = threading.Lock()


def announce_action(name: str) -> None:
    """Remember a decorated action's name and show its series at once when telemetry runs."""
    with _lock:
        announced_actions[name] = None
    running = active
    if running is not None:
        show_actions(running, (name,))


def show_actions(running: Hub, names: tuple[str, ...] | None = None) -> None:
    """Make both statuses of the decorated actions present with 0."""
    for name in tuple(announced_actions) if names is None else names:
        for status in ("success", "fail"):
            running.families.action_count.announce((name, status))


def set_active(running: Any) -> None:
    """Fill or empty the slot; `bootstrap` and the test kit only."""
    global active  # noqa: PLW0603 - the one slot this module exists for
    active = running


def restart_in_child() -> None:
    """Locks nobody holds and the actions' series again; for the child of a fork."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    if active is not None:
        active.preparing = threading.Lock()
        show_actions(active)
