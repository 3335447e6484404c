"""Who a piece of work is for: correlation id, session, user; and how these travel.

They live in the OpenTelemetry `Context`, so whatever carries a span (tasks, `to_thread`, the
threading instrumentation) carries them too. `GenappPropagator` reads and writes them at the
borders of the process, next to the trace context.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
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

from otel_genapp import hub, semconv
from otel_genapp.quiet import quiet
from otel_genapp.secrets import looks_secret

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_HASHED_ID = re.compile(r"u-[0-9a-f]{32}")
_BOUND: Final = create_key("otel_genapp.bound")
_PEER_TRUSTED: Final = create_key("otel_genapp.peer_trusted")
_EGRESS: Final = create_key("otel_genapp.egress")
_FAILURES: Final = create_key("otel_genapp.failures")
_MESSAGES: Final = create_key("otel_genapp.messages")
OWN_SPAN: Final = create_key("otel_genapp.own_span")
"""In the context of a record: its span is one of this package's."""
_FAILURES_KEPT = 16
_IDS_OF_ERROR = "_otel_genapp_ids"
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
            correlation_id, session_id = (clean_id(value) for value in self._given[:2])
            user_id = user_id_of(self._given[2])
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
                    try:
                        if error is not None:
                            remember_ids(error)
                    finally:
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


def ids_in(context: Context | None) -> dict[str, str]:
    """The ids in force in `context` (the current one for None) that there are, by the names logs have for them."""
    bound = bound_in(context)
    span_context = trace.get_current_span(context).get_span_context()
    trace_id = f"{span_context.trace_id:032x}" if span_context.is_valid else None
    ids = {
        "user_id": bound.user_id,
        "session_id": bound.session_id,
        "correlation_id": trace_id if bound.correlation_id is None else bound.correlation_id,
        "trace_id": trace_id,
        "span_id": f"{span_context.span_id:016x}" if span_context.is_valid else None,
    }
    return {name: value for name, value in ids.items() if value is not None}


def remember_ids(error: BaseException, context: Context | None = None) -> None:
    """Keep the ids in force in `context` (the current one for None) with `error`, which leaves it.

    Whoever logs it outside finds them. Those of the innermost stay, completed by the outer ones.
    """
    with _guarded:
        ids = {} if isinstance(error, GeneratorExit) else ids_in(context)
        if not ids:
            return
        known = remembered_ids(error)
        with suppress(AttributeError, TypeError):  # `setattr` would meet the class's own ideas
            vars(error)[_IDS_OF_ERROR] = {**ids, **known} if _are_of_same_work(known, ids) else ids


def remembered_ids(error: BaseException) -> Mapping[str, str]:
    """What `remember_ids` kept with `error`, or nothing."""
    with _guarded, suppress(AttributeError, TypeError):
        found = vars(error).get(_IDS_OF_ERROR)
        return found if isinstance(found, dict) else {}
    return {}


def _are_of_same_work(inner: Mapping[str, str], outer: Mapping[str, str]) -> bool:
    """Whether ids kept with an error can be from inside of here: an object may be raised again and again."""
    if "trace_id" in inner and "trace_id" in outer:
        return inner["trace_id"] == outer["trace_id"]
    names = outer.keys() & {"user_id", "session_id", "correlation_id"}
    return all(outer[name] == inner.get(name) for name in names)


def accepted_id(value: object) -> str | None:
    """`value` if a stranger may choose it as an id, else None: plain characters and no secret."""
    if not isinstance(value, str) or _ACCEPTED_ID.fullmatch(value) is None or looks_secret(value):
        return None
    return value


def user_id_of(value: object) -> str | None:
    """A user id as it may be kept: `clean_id`, and where the settings have a `user_id_key` its keyed hash.

    A hash stays what it is, so that it does not matter how often an id comes by.
    """
    user_id = clean_id(value)
    running = hub.active
    key = running.settings.user_id_key if running is not None else ""
    if user_id is None or not key or _HASHED_ID.fullmatch(user_id) is not None:
        return user_id
    digest = hashlib.blake2b(user_id.encode("utf-8", "replace"), digest_size=16, key=_hash_key(key))
    return f"u-{digest.hexdigest()}"


def _hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


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


def message_scope(context: Context) -> Context:
    """`context`, in which it is noted whether a message of a user was recorded."""
    return set_value(_MESSAGES, [], context)


def note_message() -> None:
    """Note that a message was recorded here."""
    noted = get_value(_MESSAGES)
    if isinstance(noted, list):
        noted[:] = [True]


def message_noted(context: Context) -> bool:
    """Whether a message was recorded in `context` or in what was carried on from it."""
    return bool(get_value(_MESSAGES, context))


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
