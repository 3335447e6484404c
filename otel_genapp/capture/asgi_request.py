"""A request as an ASGI application sees it: what passes `receive` and `send` is counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Token
from pathlib import Path
from typing import Any, Final

from opentelemetry.context import Context, attach, detach, get_current

from otel_genapp import semconv
from otel_genapp.capture.fastapi_span import RequestSpan, logs_go_nowhere
from otel_genapp.capture.server_request import (
    MARK,
    ServerRequest,
    guarded,
    outer_context,
    serving,
    starting_context,
)
from otel_genapp.context import accepted_id, forget_failures, leave
from otel_genapp.hub import Hub

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NATIVE: Final = "fastapi.telemetry"
"""Where FastAPI's native telemetry stands in a scope; there already, it starts no span."""

_CORRELATION: Final = semconv.HEADER_CORRELATION.encode()
_REQUEST: Final = semconv.HEADER_REQUEST.encode()
_SESSION: Final = semconv.HEADER_SESSION.encode()
_TRACE: Final = frozenset(name.encode() for name in semconv.TRACE_HEADERS)
_WATCHED: Final = _TRACE | {_CORRELATION, _REQUEST, _SESSION}
_NO_MAKER: Final = (None, None)


class AsgiRequest(ServerRequest):
    """A request or websocket on its way through an application; `enter`, `end` or `fail`, `leave`."""

    __slots__ = (
        "_abandoned",
        "_entry",
        "_headers",
        "_mounts",
        "_opaque",
        "_receive",
        "_send",
        "_serving_token",
        "_silenced",
        "_span",
        "_stale_route",
        "_template",
        "_token",
        "_trailers",
        "app",
        "ending",
        "scope",
    )

    def __init__(self, running: Hub, scope: Scope, *, app: Any, receive: Receive, send: Send) -> None:
        correlation_id, session_id, carrier = _ids(scope["headers"])
        super().__init__(running, scope.get("method", ""), app_type="fastapi", correlation_id=correlation_id)
        self.scope = scope
        self.app = app
        self._receive = receive
        self._send = send
        self._headers: list[tuple[bytes, bytes]] = []
        self._trailers = False
        self._mounts = ""
        self._opaque = False
        self._template: str | None = None
        self._stale_route: str | None = None
        self._abandoned = False
        self.ending = False
        # A websocket is a connection, not a request: it has a span and no count.
        self.finished = scope["type"] != "http"
        client = scope.get("client")
        outer = outer_context()
        # A unix socket has no peer address; whoever may open it is on this host.
        trusted = (client[0] if client else "") in running.trusted
        self._entry = starting_context(correlation_id, session_id, trusted=trusted, outer=outer)
        self._silenced = outer is not None and NATIVE not in scope
        self._span: RequestSpan | None = None
        _, maker = running.span_makers.get(id(app)) or _NO_MAKER
        if maker and outer is None and not self.finished and NATIVE not in scope and logs_go_nowhere():
            with guarded:  # failing, it leaves the span to native telemetry and the count to us
                self._span = maker.start(scope, self._entry, carrier=carrier if trusted else None)
                self._entry = self._span.context
                self._silenced = True
        if "app_root_path" in scope:  # mounted in a router that is not FastAPI's
            self._mounts = getattr(scope.get("route"), "path", "")

    def enter(self) -> None:
        """Make the request's context current and mark its scope."""
        self.scope[MARK] = self
        if self._silenced:
            self.scope[NATIVE] = None if self._span is None else self._span.record
        self._serving_token: Token[ServerRequest | None] = serving.set(self)
        self._token: Token[Context] = attach(self._entry)

    def leave(self) -> None:
        """Give the context and the scope back as they were."""
        with guarded:
            self.scope.pop(MARK, None)
            if self._silenced:
                self.scope.pop(NATIVE, None)
            if self._span is not None:
                self._span.release()
            forget_failures(self._entry)
            if self._abandoned:  # closed by the garbage collector, in whatever context that ran
                leave(self._token, self._entry)
                return
            detach(self._token)
            serving.reset(self._serving_token)

    def end(self) -> None:
        super().end()
        self._end_span(None)

    def fail(self, error: BaseException) -> None:
        self._abandoned = isinstance(error, GeneratorExit)
        self._end_span(error)
        super().fail(error)

    def _end_span(self, error: BaseException | None) -> None:
        if self._span is not None:
            with guarded:
                self._span.finish(self.status, error, gone=self.gone)

    def means_gone(self, error: Exception) -> bool:
        return isinstance(error, OSError) or type(error).__name__ in {
            "ClientDisconnect",
            "WebSocketDisconnect",
        }

    async def receive(self) -> Message:
        """The server's next message, its body counted."""
        message = await self._receive()
        with guarded:
            kind = message["type"]
            if kind == "http.request":
                self.request_bytes += len(message.get("body", b""))
            elif kind in {"http.disconnect", "websocket.disconnect"} and not self.ending:
                self.gone = True
        return message

    async def send(self, message: Message) -> None:
        """Pass `message` on: the first with the correlation id, the others counted."""
        size = 0
        with guarded:
            if self.status is None:
                message = self._started(message)
            else:
                size = self._body_bytes(message)
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise
        self.response_bytes += size
        if self.ending:
            self.finish(None)
            self._end_span(None)

    def _started(self, message: Message) -> Message:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = str(message["status"])
            self._trailers = message.get("trailers", False)
        elif kind not in {"websocket.accept", "websocket.http.response.start"}:
            return message
        # The application may keep its message and headers to send them again: copies.
        headers = [pair for pair in message.get("headers") or () if pair[0].lower() != _CORRELATION]
        headers.append((_CORRELATION, self.response_id().encode()))
        self._headers = headers
        return {**message, "headers": headers}

    def _body_bytes(self, message: Message) -> int:
        kind = message["type"]
        if kind == "http.response.body":
            self.ending = not (self._trailers or message.get("more_body", False))
            return len(message.get("body", b""))
        if kind == "http.response.trailers":
            self.ending = not message.get("more_trailers", False)
            return 0
        if kind == "http.response.pathsend":
            self.ending = not self._trailers
            return self._declared_bytes() or Path(message["path"]).stat().st_size
        if kind == "http.response.zerocopysend":
            self.ending = not (self._trailers or message.get("more_body", False))
            count = message.get("count")
            return self._declared_bytes() if count is None else int(count)
        return 0

    def _declared_bytes(self) -> int:
        return next((int(value) for name, value in self._headers if name.lower() == b"content-length"), 0)

    def select(self, route: Any, scope: Scope) -> None:
        """`route` was chosen for the request, inside of its span."""
        self.context = get_current()
        if not self._opaque:
            included = scope.get("fastapi")
            effective = None if included is None else included.get("effective_route_context")
            if effective is not None and effective.original_route is route:
                self._template = effective.path_format
            else:
                self._template = route.path_format

    def mount(self, route: Any) -> None:
        """`route`, a mount, was chosen; routes inside are seen again in a FastAPI application."""
        if not self._opaque:
            self._mounts += route.path
            self._opaque = True

    def enter_mounted(self) -> None:
        """A FastAPI application inside the one the request came to takes over."""
        self._opaque = False
        self._template = None
        self._stale_route = self._native_route()

    def resource(self) -> str:
        scope = self.scope
        root: str = scope.get("app_root_path", scope.get("root_path", ""))
        if self._template is not None:
            return root.rstrip("/") + self._mounts + self._template
        if self._opaque:
            return root.rstrip("/") + self._mounts + "/{path}"
        # Redirects of a trailing slash and files of a frontend are no routes of their own; native
        # telemetry knows what they stand for.
        route = self._native_route()
        return semconv.UNMATCHED if route is None or route is self._stale_route else route

    def _native_route(self) -> str | None:
        route = getattr(self.scope.get(NATIVE), "route", None)
        return route if isinstance(route, str) else None


def _ids(headers: Any) -> tuple[str | None, str | None, dict[str, list[str]] | None]:
    """(correlation id, session id, carrier of a trace context or None); the ids if acceptable."""
    correlation_id = request_id = session_id = None
    carrier: dict[str, list[str]] | None = None
    for name, value in headers:
        if name in _WATCHED:
            if name in _TRACE:
                carrier = carrier or {}
                carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
            elif name == _CORRELATION:
                correlation_id = correlation_id or accepted_id(value.decode("latin-1"))
            elif name == _REQUEST:
                request_id = request_id or accepted_id(value.decode("latin-1"))
            else:
                session_id = session_id or accepted_id(value.decode("latin-1"))
    if carrier is not None and "baggage" in carrier:
        carrier["baggage"] = [",".join(carrier["baggage"])]  # the propagator reads only the first
    return correlation_id or request_id, session_id, carrier
