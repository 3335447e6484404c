"""One outgoing HTTP request and its answer, whatever the library: counted, timed, sized once.

An `Exchange` begins before the library sends anything and ends with the answer's body: read to
its end, closed early, broken off, cancelled or forgotten, whichever comes first. `Sending`
surrounds the library's own send call, in its sync and its async shell alike.

Status of an exchange: the answer's code. Without an answer `timeout` or `error` as the library
says, `499` when the caller went away (cancelled). An answer whose body fails on the wire is a
failed request too and counts as `error` or `timeout`; one the caller stops reading keeps its code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import Self

from opentelemetry.context import Context, attach, get_current

from otel_genapp import hub, semconv
from otel_genapp.capture.finalizers import measure
from otel_genapp.context import egress_context, leave
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

_guarded = quiet("capture")
_METHODS = frozenset(semconv.HTTP_METHODS)


class Exchange:
    """The measurement of one request. As a context manager it ends with its block, however that is left."""

    __slots__ = (
        "_app_type",
        "_caller",
        "_method",
        "_request_bytes",
        "_resource",
        "_response_bytes",
        "_running",
        "_seconds",
        "_started",
        "_status",
        "_timeouts",
    )

    def __init__(
        self,
        running: Hub,
        app_type: str,
        *,
        method: str,
        resource: str,
        timeouts: tuple[type[BaseException], ...],
    ) -> None:
        self._running = running
        self._app_type = app_type
        self._method = method if method in _METHODS else semconv.OTHER_METHOD
        self._resource = resource
        self._timeouts = timeouts
        self._caller: Context = get_current()
        self._status: str | None = None
        self._seconds = 0.0
        self._request_bytes = 0
        self._response_bytes: int | None = None
        running.exchanges.add(self)
        self._started = perf_counter()

    @property
    def is_open(self) -> bool:
        """Whether the exchange has not ended yet."""
        return self in self._running.exchanges

    def sent(self, chunk: bytes | bytearray | memoryview) -> None:
        """A chunk of the request's body which the library has written."""
        with _guarded:
            self._request_bytes += chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)

    def answered(self, status_code: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """The answer's head is here; from now on there is an answer's body to size."""
        self._status = str(status_code)
        self._response_bytes = 0

    def received(self, chunk: bytes) -> None:
        """A chunk of the answer's body, as it came over the wire."""
        with _guarded:
            self._response_bytes = (self._response_bytes or 0) + len(chunk)

    @property
    def calm(self) -> tuple[bytes | None, list[bytes], int]:
        """(an ending, pieces, how many these may become).

        A short chunk that ends so may be put to the pieces instead of being `received`, which may change
        the answer. None: there is no such ending.
        """
        return _NONE_IS_CALM

    def read_to_end(self) -> None:
        """The answer's body is here to its end."""

    def received_in_all(self, byte_count: int | None) -> None:
        """The size of the answer's body where it is not watched chunk by chunk; None: unknown."""
        self._response_bytes = byte_count

    def finish(self, error: BaseException | None = None) -> None:
        """End the exchange; only the first call counts. `error` is what ended it, if anything did."""
        if not self.is_open:
            return
        with _guarded:
            try:
                # Atomic, so threads that race to the end need no lock; and a forked child, whose
                # set is emptied, never counts what its parent counts.
                self._running.exchanges.remove(self)
            except KeyError:
                return
            self._seconds = perf_counter() - self._started
            if isinstance(error, self._timeouts):
                self._status = semconv.STATUS_TIMEOUT
            elif isinstance(error, Exception):
                self._status = semconv.STATUS_ERROR
            measure(self._running, self._record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(error)

    def _record(self) -> None:
        self._running.families.http.record(
            (self._method, self._status or semconv.STATUS_GONE, self._resource, self._app_type),
            self._seconds,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            context=self._caller,
        )


_NONE_IS_CALM: tuple[bytes | None, list[bytes], int] = (None, [], 0)


class Sending:
    """Around the library's send call: the header policy while it lasts, a failure of it afterwards.

    A subclass opens the exchange in `begin`. Without one (the request makes no sense, or our own
    code failed) everything passes through.
    """

    __slots__ = ("_context", "_token", "exchange", "running")

    def __init__(self, running: Hub) -> None:
        self.running = running
        self.exchange: Exchange | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None

    def begin(self) -> None:
        """Called before the library sends."""
        raise NotImplementedError

    def end(self) -> None:
        """Called when the library has the head of an answer, or has failed."""

    def fail(self, error: BaseException) -> None:
        """Called after `end` when there is no answer, but `error`."""
        if self.exchange is not None:
            self.exchange.finish(error)

    def egress(self, host: str) -> Context:
        """The current context, marked with whether `host` may have our headers."""
        return egress_context(allowed=host in self.running.egress)

    def send_in(self, context: Context) -> None:
        """Make `context` the current one until the send call is over."""
        self._token = attach(context)
        self._context = context

    def __enter__(self) -> None:
        with _guarded:
            self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token, context = self._token, self._context
        self._token = self._context = None  # the context may hold what we belong to: no cycle
        with _guarded:
            if token is not None and context is not None:
                leave(token, context)
            self.end()
        if error is not None:
            with _guarded:
                self.fail(error)


def finish_open_exchanges(running: Hub) -> None:
    """End what is still open, for a shutdown: with the code it has, else as `499`."""
    for exchange in tuple(running.exchanges):
        exchange.finish()


def _forget_inherited() -> None:
    running = hub.active
    if running is not None:
        running.exchanges.clear()
        running.held_calls.clear()
        running.put_off.clear()
        running.reaping = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
