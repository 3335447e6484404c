"""A request as Flask's WSGI side sees it: its input, its answer and its body are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextvars import Token
from time import perf_counter, time_ns
from typing import Any, Final

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from otel_genapp import semconv
from otel_genapp.capture.server_request import (
    MARK,
    ServerRequest,
    guarded,
    outer_context,
    serving,
    starting_context,
)
from otel_genapp.context import accepted_id
from otel_genapp.hub import Hub

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Any]

_BODILESS: Final = frozenset({"204", "304"})


def _environ_key(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


_CORRELATION: Final = _environ_key(semconv.HEADER_CORRELATION)
_REQUEST: Final = _environ_key(semconv.HEADER_REQUEST)
_SESSION: Final = _environ_key(semconv.HEADER_SESSION)


class FlaskRequest(ServerRequest):
    """A request on its way through Flask; `enter`, `leave`, then `counted` or `fail`."""

    __slots__ = (
        "_entry",
        "_environ",
        "_handled",
        "_headers",
        "_input",
        "_mount",
        "_peer",
        "_resource",
        "_root",
        "_serving_token",
        "_session_id",
        "_span",
        "_start_response",
        "_token",
        "_trusted",
        "_wrapped",
        "_write",
    )

    def __init__(self, running: Hub, environ: Environ, *, start_response: StartResponse) -> None:
        correlation_id = accepted_id(environ.get(_CORRELATION)) or accepted_id(environ.get(_REQUEST))
        super().__init__(
            running, environ.get("REQUEST_METHOD", ""), app_type="flask", correlation_id=correlation_id
        )
        self._environ = environ
        self._start_response = start_response
        self._write: Any = None
        self._headers: list[tuple[str, str]] = []
        self._handled: Environ | None = None
        self._resource: str | None = None
        self._span: Span | None = None
        self._root = self._mount = environ.get("SCRIPT_NAME", "")
        self._session_id = accepted_id(environ.get(_SESSION))
        # A unix socket has no peer address; whoever may open it is on this host.
        self._peer = environ.get("REMOTE_ADDR") or ""
        self._trusted = self._peer in running.trusted
        outer = outer_context()
        self._wrapped = outer is not None
        self._entry = starting_context(correlation_id, self._session_id, trusted=self._trusted, outer=outer)
        self._input = _CountedInput(environ.get("wsgi.input"))

    def enter(self) -> None:
        """Make the request's context current and mark its environ."""
        self._environ[MARK] = self
        self._environ["wsgi.input"] = self._input
        self._serving_token: Token[ServerRequest | None] = serving.set(self)
        self._token: Token[Context] = attach(self._entry)

    def leave(self) -> None:
        """Give the context back as it was; what the body still does runs in its own."""
        with guarded:
            self._environ.pop(MARK, None)
            serving.reset(self._serving_token)
            detach(self._token)

    def enter_mounted(self, environ: Environ) -> None:
        """A Flask application inside the one the request came to takes over."""
        self._mount = environ.get("SCRIPT_NAME", "")

    def handled_by_flask(self, environ: Environ) -> None:
        """Flask handles the request, with the environ as the middlewares have left it."""
        self._handled = environ
        peer = environ.get("REMOTE_ADDR") or ""
        if peer != self._peer and self._trusted and peer not in self._hub.trusted and not self._wrapped:
            # A proxy middleware has named the real peer. The token is not needed: leaving the
            # request gives back what was current before either of the two.
            self._trusted = False
            self._entry = starting_context(self.correlation_id, None, trusted=False, outer=None)
            attach(self._entry)

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """Start the server's response, with the correlation id among its headers."""
        with guarded:
            self.status = status.partition(" ")[0]
            self.note_route()
            answered = self._open_span() if self._handled is None and not self._wrapped else None
            name = semconv.HEADER_CORRELATION
            # A new list: the application may keep its own to send it again.
            headers = [
                *(pair for pair in headers if pair[0].lower() != name),
                (name, self.response_id(answered)),
            ]
            self._headers = headers
        self._write = self._start_response(status, headers, *exc_info)
        return self._write if self._write is None else self.write

    def write(self, data: bytes) -> Any:
        """Write to the response the old way, counted."""
        answer = self._write(data)
        self.response_bytes += len(data)
        return answer

    def note_route(self) -> None:
        """Keep the route template while Flask still knows it."""
        self._resource = self._route()

    def _route(self) -> str:
        if self._handled is None:
            mount: str = self._environ.get("SCRIPT_NAME", "")
            return semconv.UNMATCHED if mount == self._root else mount + "/{path}"
        handled = self._handled.get("werkzeug.request")
        rule = getattr(handled, "url_rule", None) or _rule_of_other_method(handled)
        return semconv.UNMATCHED if rule is None else self._mount + rule.rule

    def resource(self) -> str:
        return semconv.UNMATCHED if self._resource is None else self._resource

    def finish(self, status: str | None) -> None:
        if self.finished:
            return
        self.request_bytes = self._input.bytes_read
        super().finish(status)
        if self._span is not None:
            with guarded:
                if self.gone or self.status is None or self.status >= "5":
                    self._span.set_status(StatusCode.ERROR)
                self._span.end()

    def _open_span(self) -> Context:
        """The SERVER span of an application that Flask only passes requests on to."""
        environ = self._environ
        elapsed_ns = round((perf_counter() - self._started_at) * 1e9)
        attributes: dict[str, str | int] = {
            "http.request.method": self._method,
            "url.path": environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
            "url.scheme": environ.get("wsgi.url_scheme", "http"),
            "http.response.status_code": int(self.status or 0),
        }
        name = "HTTP" if self._method == semconv.OTHER_METHOD else self._method
        if self._resource not in {None, semconv.UNMATCHED}:
            name = f"{name} {self._resource}"
            attributes["http.route"] = self._resource or ""
        parent = extract(environ, get_current(), _ENVIRON_GETTER)
        self._span = self._hub.tracer.start_span(
            name, parent, SpanKind.SERVER, attributes, start_time=time_ns() - elapsed_ns
        )
        return set_span_in_context(self._span, parent)

    def counted(self, body: Any) -> Any:
        """The response's body, counted as the server takes it; the same object where that must be."""
        with guarded:
            wrapper = self._environ.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                self._watch_file(body)
                return body  # the server knows it by its type and sends the file by itself
            return _CountedBody(body, self, context=self.context or self._entry)
        return body

    def _watch_file(self, body: Any) -> None:
        close = getattr(body, "close", None)

        def closing() -> None:
            self.response_bytes = self._declared_bytes() or 0
            self.finish(None)
            if close is not None:
                close()

        body.close = closing

    def close(self) -> None:
        """The server is done with the body; one that it left early had lost its caller."""
        if not self.finished:
            complete = self._method == "HEAD" or self.status in _BODILESS
            self.gone = not (complete or self._declared_bytes() == self.response_bytes)
            self.finish(None)

    def _declared_bytes(self) -> int | None:
        with guarded:
            return next(
                (int(value) for name, value in self._headers if name.lower() == "content-length"), None
            )
        return None


class _CountedBody:
    """A response's body: each chunk is made in the request's context, its end is the request's."""

    __slots__ = ("_body", "_context", "_iterator", "_request")

    def __init__(self, body: Any, request: FlaskRequest, *, context: Context) -> None:
        self._body = body
        self._request = request
        self._context = context
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> _CountedBody:
        return self

    def __next__(self) -> bytes:
        request = self._request
        token = _attached(self._context)
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            request.finish(None)
            raise
        except BaseException as error:
            request.fail(error)
            raise
        finally:
            _detach(token)
        with guarded:
            request.response_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        self._request.close()
        close = getattr(self._body, "close", None)
        if close is not None:
            token = _attached(self._context)
            try:
                close()
            finally:
                _detach(token)

    def __del__(self) -> None:
        with guarded:
            self._request.close()


def _attached(context: Context) -> Token[Context] | None:
    with guarded:
        return attach(context)
    return None


def _detach(token: Token[Context] | None) -> None:
    with guarded:
        if token is not None:
            detach(token)


class _CountedInput:
    """A request's `wsgi.input` that knows how much was read of it."""

    __slots__ = ("_stream", "bytes_read")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.bytes_read = 0

    def _counted(self, data: bytes) -> bytes:
        with guarded:
            self.bytes_read += len(data)
        return data

    def read(self, *size: Any) -> bytes:
        return self._counted(self._stream.read(*size))

    def read1(self, *size: Any) -> bytes:
        return self._counted(self._stream.read1(*size))

    def readline(self, *size: Any) -> bytes:
        return self._counted(self._stream.readline(*size))

    def readlines(self, *hint: Any) -> list[bytes]:
        lines: list[bytes] = self._stream.readlines(*hint)
        with guarded:
            self.bytes_read += sum(map(len, lines))
        return lines

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._stream.readinto(buffer)
        self.bytes_read += size or 0
        return size

    def __iter__(self) -> Iterator[bytes]:
        return map(self._counted, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _EnvironGetter(Getter[Environ]):
    def get(self, carrier: Environ, key: str) -> list[str] | None:
        value = carrier.get(_environ_key(key))
        return None if value is None else [value]

    def keys(self, carrier: Environ) -> list[str]:
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


_ENVIRON_GETTER: Final = _EnvironGetter()


def _rule_of_other_method(handled: Any) -> Any:
    """The rule whose path matches but whose methods do not (405), which Flask does not keep."""
    methods = getattr(getattr(handled, "routing_exception", None), "valid_methods", None)
    if not methods:
        return None
    from flask import current_app

    adapter = current_app.create_url_adapter(handled)
    return None if adapter is None else adapter.match(method=next(iter(methods)), return_rule=True)[0]


def belongs_to_outer_request(environ: Environ) -> bool:
    """Whether an ASGI application that is being served hands its own request on to this one."""
    scope = getattr(outer, "scope", None) if (outer := serving.get()) and not outer.finished else None
    if scope is None or scope.get("method") != environ.get("REQUEST_METHOD"):
        return False
    path: str = scope["path"].encode().decode("latin-1")
    return path.endswith(environ.get("PATH_INFO") or "/")
