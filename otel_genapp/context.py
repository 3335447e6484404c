"""Who a piece of work is for: correlation id, session, user; and how these travel.

They live in the OpenTelemetry `Context`, so whatever carries a span (tasks, `to_thread`, the
threading instrumentation) carries them too. `GenappPropagator` reads and writes them at the
borders of the process, next to the trace context.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Final

from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, create_key, detach, get_current, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otel_genapp import semconv
from otel_genapp.quiet import quiet
from otel_genapp.secrets import looks_secret

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_BOUND: Final = create_key("otel_genapp.bound")
_PEER_TRUSTED: Final = create_key("otel_genapp.peer_trusted")
_EGRESS: Final = create_key("otel_genapp.egress")
_FAILURES: Final = create_key("otel_genapp.failures")
_FAILURES_KEPT = 16
_guarded = quiet("context")


@dataclass(frozen=True, slots=True)
class Bound:
    """The ids in force. `correlation_id` is a header's, a `bind`'s, or else the trace id."""

    correlation_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None


_NOTHING = Bound()


class bind:  # noqa: N801 - reads as a statement: `with bind(session_id=chat_id):`
    """Say whom everything inside the block is for; spans, LLM calls, logs and headers carry it.

    What is left out keeps its outer value. Values are turned into text; `bind` wins over headers.
    Not to be held across the `yield` of a generator.
    """

    __slots__ = ("_entered", "_given")

    def __init__(
        self,
        *,
        correlation_id: object = None,
        session_id: object = None,
        user_id: object = None,
    ) -> None:
        self._given = (correlation_id, session_id, user_id)
        self._entered: list[tuple[Token[Context], Context]] = []

    def __enter__(self) -> Bound:
        correlation_id = session_id = user_id = None
        with _guarded:
            correlation_id, session_id, user_id = (clean_id(value) for value in self._given)
        with _guarded:
            outer = bound_in(None)
            inner = Bound(
                correlation_id or outer.correlation_id,
                session_id or outer.session_id,
                user_id or outer.user_id,
            )
            context = set_value(_BOUND, inner)
            self._entered.append((attach(context), context))
        return current()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _guarded:
            # One object may be entered by several threads, and within itself.
            here = get_current()
            for entry in reversed(self._entered):
                if entry[1] is here:
                    self._entered.remove(entry)
                    leave(*entry)
                    return


def leave(token: Token[Context], context: Context) -> None:
    """Detach `context`, unless it was attached somewhere else: a generator may be closed anywhere."""
    if get_current() is context:
        # OpenTelemetry's `detach` would log an error where this is a copy of the place it was attached.
        with suppress(ValueError):
            token.var.reset(token)


def current() -> Bound:
    """The ids in force here; without a correlation id of its own, the current trace id is it."""
    found = _NOTHING
    with _guarded:
        found = bound_in(None)
        if found.correlation_id is None:
            return Bound(correlation_id_in(None), found.session_id, found.user_id)
    return found


def bound_in(context: Context | None) -> Bound:
    """What was bound in `context` (the current one for `None`), without the trace id's fallback."""
    found = get_value(_BOUND, context)
    return found if isinstance(found, Bound) else _NOTHING


def correlation_id_in(context: Context | None) -> str | None:
    """The correlation id of `context`: the bound one, else the trace id of its span, else None."""
    found = get_value(_BOUND, context)
    if isinstance(found, Bound) and found.correlation_id is not None:
        return found.correlation_id
    span_context = trace.get_current_span(context).get_span_context()
    return f"{span_context.trace_id:032x}" if span_context.is_valid else None


def accepted_id(value: object) -> str | None:
    """`value` if a stranger may choose it as an id, else None: plain characters and no secret."""
    if not isinstance(value, str) or _ACCEPTED_ID.fullmatch(value) is None or looks_secret(value):
        return None
    return value


def clean_id(value: object) -> str | None:
    """An id given by the application as text of at most 256 characters, or None for nothing."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    text = text[:256]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text or None


def entry_context(*, correlation_id: str | None, session_id: str | None, peer_trusted: bool) -> Context:
    """The context a request starts in: empty but for its own ids and what its peer may decide.

    Empty on purpose: asyncio servers run the next request of a connection in the context of the
    previous one whenever a body made the reader pause.
    """
    entries: dict[str, object] = {_PEER_TRUSTED: peer_trusted, _FAILURES: []}
    if correlation_id is not None or session_id is not None:
        entries[_BOUND] = Bound(correlation_id, session_id if peer_trusted else None)
    return Context(entries)


def failure_scope() -> Context | None:
    """A context in which each error is counted once; None where one is in force already."""
    if get_value(_FAILURES) is not None:
        return None
    return set_value(_FAILURES, [])


def first_report(error: BaseException) -> bool:
    """Whether `error` was not counted yet in the request or action it passes through here."""
    seen = get_value(_FAILURES)
    if not isinstance(seen, list):
        return True
    if any(known is error for known in seen):
        return False
    seen.append(error)
    del seen[:-_FAILURES_KEPT]
    return True


def forget_failures(context: Context) -> None:
    """Let go of the errors seen in `context`, and of all that hangs on them."""
    seen = get_value(_FAILURES, context)
    if isinstance(seen, list):
        seen.clear()


def egress_context(*, allowed: bool) -> Context:
    """The current context, marked with whether the host about to be called may have our headers."""
    return set_value(_EGRESS, allowed)


class GenappPropagator(TextMapPropagator):
    """Trace context as configured, plus our ids, with trust coming in and reserve going out.

    In: for a request whose peer is not trusted, trace context, baggage and session id are ignored
    and a valid correlation id is taken; a carrier of unknown origin (a message queue's, or read by
    an instrumentation of somebody else's) brings no session either. Out: a host that is not allowed gets nothing; an unknown
    destination (a carrier filled by hand or by an instrumentation of somebody else's) gets the
    trace context and the correlation id, never baggage or the session.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self.inner = inner
        self.silent = False
        """Set while no telemetry runs: nobody says which hosts may have our headers."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        found: Context | None = None
        with _guarded:
            context = get_current() if context is None else context
            found = self._extract(carrier, context, getter=getter)
        return found if found is not None else context or Context()

    def _extract(self, carrier: CarrierT, context: Context, *, getter: Getter[CarrierT]) -> Context:
        peer_trusted = get_value(_PEER_TRUSTED, context)
        if peer_trusted is not None:  # our server layer has read the ids already
            return self.inner.extract(carrier, context, getter) if peer_trusted else context
        context = self.inner.extract(carrier, context, getter)
        correlation_id = _first(getter, carrier, name=semconv.HEADER_CORRELATION) or _first(
            getter, carrier, name=semconv.HEADER_REQUEST
        )
        if correlation_id is None:
            return context
        outer = bound_in(context)
        bound = Bound(correlation_id, outer.session_id, outer.user_id)
        return set_value(_BOUND, bound, context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        with _guarded:
            if not self.silent:
                self._inject(carrier, get_current() if context is None else context, setter=setter)

    def _inject(self, carrier: CarrierT, context: Context, *, setter: Setter[CarrierT]) -> None:
        allowed = get_value(_EGRESS, context)
        if allowed is False:
            return
        if allowed is None:
            self.inner.inject(carrier, baggage.clear(context), setter)
        else:
            self.inner.inject(carrier, context, setter)
        correlation_id = correlation_id_in(context)
        if accepted_id(correlation_id) is not None:
            setter.set(carrier, semconv.HEADER_CORRELATION, correlation_id or "")
        session_id = bound_in(context).session_id
        if allowed and accepted_id(session_id) is not None:
            setter.set(carrier, semconv.HEADER_SESSION, session_id or "")

    @property
    def fields(self) -> set[str]:
        return self.inner.fields | {semconv.HEADER_CORRELATION, semconv.HEADER_SESSION}


def _first(getter: Getter[CarrierT], carrier: CarrierT, *, name: str) -> str | None:
    values: Iterable[str] | None = getter.get(carrier, name)
    return accepted_id(next(iter(values), None)) if values else None


def start_in_no_context(thread: Thread) -> None:
    """Start a thread of ours outside of any request: threads carry the context they start in."""
    token = attach(Context())
    try:
        thread.start()
    finally:
        detach(token)
