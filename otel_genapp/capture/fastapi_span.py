"""FastAPI's own SERVER span, made in our layer: the same span for half the time.

FastAPI (0.142 and newer) traces itself, in a layer of its own around the application. We have one
there already, so the span is made in it: same scope, name and attributes, and the same record of
the request in the scope and the context, so that FastAPI goes on filling in route, errors and
telemetry data. A test compares the two span by span. Where native telemetry is set up in any way
other than its default, or is not as known, it makes the span itself.
"""

# ruff: noqa: SLF001 - the record of a request is private to FastAPI; `make_for` guards every use.
from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry._logs._internal import ProxyLoggerProvider
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from otel_genapp import semconv
from otel_genapp.quiet import quiet

Scope = MutableMapping[str, Any]

_AUTHORITIES_KEPT: Final = 1024
_PORTS: Final = {"http": 80, "https": 443}
_OURS: Final = frozenset({semconv.HEADER_CORRELATION, semconv.HEADER_SESSION})


class SpanMaker:
    """Makes the spans of one application in native telemetry's stead."""

    __slots__ = ("_authorities", "_exception_type", "_key", "_known_methods", "_record", "_tracer")

    def __init__(self, app: Any) -> None:
        from fastapi import __version__
        from fastapi.telemetry import _api, _asgi

        self._key = _api._REQUEST_TELEMETRY_KEY
        self._record = _api._RequestTelemetry
        self._exception_type = _api._exception_type
        self._known_methods = app._native_telemetry._known_methods
        self._tracer = trace.get_tracer("fastapi", __version__, schema_url=_asgi._SCHEMA_URL)
        self._authorities: dict[bytes, dict[str, Any]] = {}

    def start(self, scope: Scope, entry: Context, *, carrier: Mapping[str, list[str]] | None) -> RequestSpan:
        """The span of a request that starts in `entry`; `carrier` holds a trusted peer's context."""
        if carrier is not None:
            entry = propagate.extract(carrier, entry)
        method = scope["method"]
        known = method if method in self._known_methods else semconv.OTHER_METHOD
        attributes: dict[str, Any] = {
            "url.scheme": scope.get("scheme", "http"),
            "http.request.method": known,
            **self._server(scope),
            "url.path": scope["path"],
        }
        if scope.get("http_version"):
            attributes["network.protocol.version"] = scope["http_version"]
        if known is not method and known != method:
            attributes["http.request.method_original"] = method
        name = "HTTP" if known == semconv.OTHER_METHOD else known
        span = self._tracer.start_span(name, context=entry, kind=SpanKind.SERVER, attributes=attributes)
        mount_prefix = scope.get("app_root_path", scope.get("root_path", "")).rstrip("/")
        record = self._record(span=span, span_method=name, _mount_prefix=mount_prefix)
        context = set_span_in_context(span, entry)
        context = Context({**context, self._key: record})
        return RequestSpan(span, record, context=context, exception_type=self._exception_type)

    def _server(self, scope: Scope) -> dict[str, Any]:
        authority = next((value for name, value in scope["headers"] if name == b"host"), None)
        if authority is None:
            address, port = scope.get("server") or (None, None)
            return _address(address, port)
        found = self._authorities.get(authority)
        if found is None:
            found = _parse(authority.decode("latin-1"), scope.get("scheme", "http"))
            if len(self._authorities) >= _AUTHORITIES_KEPT:
                self._authorities = {}
            self._authorities[authority] = found
        return found


class RequestSpan:
    """The span of one request: `finish` ends it once, `release` lets go of the request's data."""

    __slots__ = ("_exception_type", "_finished", "_span", "context", "record")

    def __init__(self, span: Span, record: Any, *, context: Context, exception_type: Any) -> None:
        self._span = span
        self.record = record
        self.context = context
        self._exception_type = exception_type
        self._finished = False

    def finish(self, status: str | None, error: BaseException | None, *, gone: bool) -> None:
        """End the span with the status code sent, if any, and the error that left the application."""
        if self._finished:
            return
        self._finished = True
        span, record = self._span, self.record
        if span.is_recording():
            code = None if status is None else int(status)
            attributes: dict[str, Any] = {}
            if code is not None:
                attributes["http.response.status_code"] = code
            if error is not None or code is None or code >= 500:
                failure = error or (record._exceptions[-1] if record._exceptions else None)
                if failure is not None:
                    attributes["error.type"] = self._exception_type(failure)
                elif code is not None:
                    attributes["error.type"] = str(code)
                else:
                    attributes["error.type"] = "ConnectionError" if gone else "incomplete_response"
                span.set_status(StatusCode.ERROR)
            span.set_attributes(attributes)
        span.end()

    def release(self) -> None:
        """Drop what FastAPI put into its record of the request."""
        self.record.data = None
        self.record._exceptions.clear()


def make_for(app: Any, native: Mapping[str, Any]) -> SpanMaker | None:
    """A maker of `app`'s spans, or None where native telemetry must make them itself."""
    plain = (
        native.get("tracing") is True
        and native.get("metrics") is False
        and not any(native.get(name) for name in ("tracer_provider", "logger_provider", "exclude"))
        and propagate.get_global_textmap().fields <= semconv.TRACE_HEADERS | _OURS
    )
    if plain:
        with quiet("capture"):
            return SpanMaker(app)
    return None


def logs_go_nowhere() -> bool:
    """Whether FastAPI has no logger to report errors and validation failures to."""
    return type(get_logger_provider()) is ProxyLoggerProvider


def _parse(authority: str, scheme: str) -> dict[str, Any]:
    try:
        url = urlsplit(f"//{authority}")
        address, port = url.hostname, url.port
    except ValueError:
        return {}
    if url.username is not None or url.path or url.query or url.fragment:
        return {}
    return _address(address, port if port is not None else _PORTS.get(scheme))


def _address(address: str | None, port: int | None) -> dict[str, Any]:
    if address is None:
        return {}
    if port is None:
        return {semconv.SERVER_ADDRESS: address}
    return {semconv.SERVER_ADDRESS: address, semconv.SERVER_PORT: port}
