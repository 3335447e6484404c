"""One HTTP request coming in, whatever the framework: its ids, its context, its one count.

How a request is counted:

- **status** is the code sent. It is `499` when the caller went away before the last byte (a
  disconnect was seen, a send was refused, the request was cancelled), `500` when the application
  failed after its status had been sent, `error` when it never sent any.
- **sizes** are body bytes: those the application took from the server, and those it handed to it
  (none for HEAD, whose body no server sends). A body nobody reads counts 0.
- **duration** ends with the last body byte; background tasks are not in it.
- **errors** are exceptions nobody handled, once each; a caller who left is not one.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final
from weakref import finalize

from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind, get_current_span

from otel_genapp import semconv
from otel_genapp.context import accepted_id, bound_in, entry_context, first_report, remember_ids
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

MARK: Final = "otel_genapp.request"
"""Where the request stands in an ASGI scope or a WSGI environ: later layers join it."""

METHODS: Final = frozenset(semconv.HTTP_METHODS)

guarded: Final = quiet("capture")

serving: ContextVar[ServerRequest | None] = ContextVar("otel_genapp.serving", default=None)
"""The request being served here; finished, it is one that leaked from an earlier request."""


class ServerRequest:
    """What is known of one request until it is counted, which happens once."""

    __slots__ = (
        "_app_type",
        "_hub",
        "_method",
        "_started_at",
        "context",
        "correlation_id",
        "finished",
        "gone",
        "request_bytes",
        "response_bytes",
        "status",
    )

    def __init__(self, running: Hub, method: str, *, app_type: str, correlation_id: str | None) -> None:
        self._started_at = perf_counter()
        self._hub = running
        self._method = method if method in METHODS else semconv.OTHER_METHOD
        self._app_type = app_type
        self.correlation_id = correlation_id
        self.context: Context | None = None
        self.status: str | None = None
        self.request_bytes = 0
        self.response_bytes = 0
        self.gone = False
        self.finished = False

    def resource(self) -> str:
        """The route template, `semconv.UNMATCHED` where no route was found."""
        raise NotImplementedError

    def response_id(self, context: Context | None = None) -> str:
        """The correlation id to answer with, found in `context` (the current one for None).

        The context is kept: what is counted later links to the span in it.
        """
        routed, self.context = self.context, get_current() if context is None else context
        correlation_id = self._plain_id_in(self.context)
        if correlation_id is None and routed is not None:
            # Its span has ended before an outer layer answers for the application.
            self.context = routed
            correlation_id = self._plain_id_in(routed)
        return correlation_id or self.correlation_id or f"{random.getrandbits(128):032x}"

    def _plain_id_in(self, context: Context) -> str | None:
        bound = bound_in(context).correlation_id
        # What `bind` was given may be any text; a header carries plain ids only.
        if bound is not None and (bound is self.correlation_id or accepted_id(bound) is not None):
            return bound
        span_context = get_current_span(context).get_span_context()
        return f"{span_context.trace_id:032x}" if span_context.is_valid else None

    def finish(self, status: str | None) -> None:
        """Count the request, the first time only; `status` stands in where no code fits."""
        if self.finished:
            return
        self.finished = True
        seconds = perf_counter() - self._started_at
        if self.gone:
            status = semconv.STATUS_GONE
        elif status is None:
            status = self.status or semconv.STATUS_ERROR
        with guarded:
            self._hub.families.http.record(
                (self._method, status, self.resource(), self._app_type),
                seconds,
                request_bytes=self.request_bytes,
                response_bytes=0 if self._method == "HEAD" else self.response_bytes,
                context=self.context,
            )

    def end(self) -> None:
        """The application returned; what it left unsent is a failure of its own."""
        if not self.finished:
            self.finish(None if self.status is None else "500")

    def fail(self, error: BaseException) -> None:
        """`error` leaves the application: count it, and the request if it was not complete."""
        context = self.context
        with guarded:
            remember_ids(error, context)
        if not isinstance(error, Exception):  # cancelled, or the process ends
            self.gone = True
        self.end()
        if isinstance(error, Exception) and not (self.gone and self.means_gone(error)):
            self.count_error(error, context)

    def means_gone(self, error: Exception) -> bool:
        """Whether `error` only says that the caller went away."""
        return isinstance(error, OSError)

    def count_error(self, error: BaseException, context: Context | None) -> None:
        """Count an unhandled error, unless an action inside this request has counted it."""
        with guarded:
            if first_report(error):
                labels = (type(error).__qualname__, self._hub.settings.app)
                self._hub.families.errors.record(1, labels, context)


def outer_context() -> Context | None:
    """The current context if a layer outside of ours has made this request's SERVER span in it.

    Any other context is not of this request: asyncio servers start a request in the context of
    the connection's previous one, and applications are called from inside other requests.
    """
    context = get_current()
    if not context or serving.get() is not None:
        return None
    span = get_current_span(context)
    if span.is_recording() and getattr(span, "kind", None) is SpanKind.SERVER:
        return context
    return None


def starting_context(
    correlation_id: str | None, session_id: str | None, *, trusted: bool, outer: Context | None
) -> Context:
    """The context a request runs in: fresh, or `outer`'s with this request's own entries."""
    entry = entry_context(correlation_id=correlation_id, session_id=session_id, peer_trusted=trusted)
    return entry if outer is None else Context({**outer, **entry})


def prepare_once(running: Hub, app: object, *, steps: Callable[[], None]) -> None:
    """Run `steps`, which make `app` ready for spans, unless that was done for `running`.

    Requests that come meanwhile wait: `app` is known as prepared only afterwards.
    """
    key = id(app)
    with running.preparing:
        if key in running.prepared:
            return
        try:
            steps()
        finally:  # what failed once would fail at every request
            running.prepared.add(key)
            # The next application may get the same id.
            finalize(app, _forget, running, key).atexit = False


def _forget(running: Hub, key: int) -> None:
    running.prepared.discard(key)
    running.span_makers.pop(key, None)


def patch(owner: type, name: str, *, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Replace the method `name` that `owner` itself defines by `wrap(it)`, once; returns the undo."""
    original = vars(owner).get(name)
    if original is None or hasattr(original, MARK):
        return _nothing
    patched = functools.wraps(original)(wrap(original))
    setattr(patched, MARK, True)
    setattr(owner, name, patched)

    def undo() -> None:
        if vars(owner).get(name) is patched:
            setattr(owner, name, original)

    return undo


def _nothing() -> None:
    return None
