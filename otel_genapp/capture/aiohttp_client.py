"""Requests of aiohttp's client: three metrics, OpenTelemetry's spans, headers for allowed hosts only.

One count for each `ClientSession._request`, as there is one span: redirects, authentication and
aiohttp's own retry happen inside it. The resource is the host first asked, the request size the
sum over the hops, status and response size those of the last answer. Sizes are body bytes as they
cross the wire (compressed, without chunk framing); the end is when the last byte has arrived,
which may be before the application has read it.

OpenTelemetry puts its spans into sessions created from now on; sessions that exist already are
measured and get no spans.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import create_key, get_value, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_genapp import hub
from otel_genapp.capture.client_exchange import Exchange, Sending
from otel_genapp.capture.client_patches import Installation, MethodPatch, Spans, Undo, installed
from otel_genapp.capture.client_resource import client_resources
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

APP_TYPE = "aiohttp"

_guarded = quiet("capture")
_SENDING = create_key("otel_genapp.aiohttp_sending")
_BODY = "_otel_genapp_body"
_TIMEOUTS = (TimeoutError,)


def instrument(
    module: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Undo:
    """Measure every request of `module` (aiohttp), and make spans; returns the undo.

    Calling it again changes nothing. The providers are for OpenTelemetry's instrumentor; the
    global ones unless given.

    Raises:
        MissingDependencyError: OpenTelemetry's instrumentation is not installed.
        GenappError: OpenTelemetry's instrumentation refuses the installed version.
    """
    undo = installed(module.ClientSession, "_request")
    if undo is not None:
        return undo
    spans = Spans(
        "opentelemetry.instrumentation.aiohttp_client",
        "AioHttpClientInstrumentor",
        library="opentelemetry-instrumentation-aiohttp-client",
        extra="aiohttp",
        providers={"tracer_provider": tracer_provider, "meter_provider": meter_provider},
    )
    installation = Installation(spans)
    session, request, response = module.ClientSession, module.ClientRequest, module.ClientResponse
    answer_error = module.ClientResponseError
    try:
        installation.patch(
            session,
            "_request",
            wrap=lambda patch: _request_shell(patch, installation, answer_error=answer_error),
        )
        installation.patch(session, "__init__", wrap=lambda patch: _session_shell(patch, installation))
        installation.patch(request, "send", wrap=_send_shell)
        installation.patch(request, "write_bytes", wrap=_write_shell)
        for name in ("close", "release"):
            installation.patch(response, name, wrap=_end_shell)
        installation.start_spans()
    except BaseException:
        installation.undo()
        raise
    return installation.undo


def _request_shell(
    patch: MethodPatch, installation: Installation, *, answer_error: type[Exception]
) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    async def _request(session: Any, method: Any, str_or_url: Any, **options: Any) -> Any:
        running = hub.active
        sending = None
        with _guarded:
            if running is not None and installation.live and is_instrumentation_enabled():
                sending = _SessionCall(
                    running,
                    session,
                    method=method,
                    url=str_or_url,
                    headers=options.get("headers"),
                    error=answer_error,
                )
        if sending is None:
            return await patch.bound(session)(method, str_or_url, **options)
        with sending:
            response = await patch.bound(session)(method, str_or_url, **options)
        return sending.answer(response)

    return _request


def _session_shell(patch: MethodPatch, installation: Installation) -> Callable[..., None]:
    @functools.wraps(patch.inner)
    def __init__(session: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - it stands in for one
        # Spans are put into sessions as these are made: the last moment to start them.
        if installation.spans_pending and installation.live:
            installation.settle_spans()
        patch.bound(session)(*args, **options)

    return __init__


def _send_shell(patch: MethodPatch) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    async def send(request: Any, *args: Any, **options: Any) -> Any:
        with _guarded:
            sending = get_value(_SENDING)
            if isinstance(sending, _SessionCall):
                sending.keep_headers_from_strangers(request)
        return await patch.bound(request)(*args, **options)

    return send


def _write_shell(patch: MethodPatch) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    async def write_bytes(request: Any, writer: Any, *args: Any, **options: Any) -> Any:
        sending: object = None
        with _guarded:
            sending = get_value(_SENDING)
        if not isinstance(sending, _SessionCall) or sending.exchange is None:
            return await patch.bound(request)(writer, *args, **options)
        with _guarded:
            _count_body(writer, sending.exchange)
        try:
            return await patch.bound(request)(writer, *args, **options)
        finally:
            with _guarded:
                vars(writer).pop("write", None)  # it refers to the writer: garbage for the collector

    return write_bytes


def _end_shell(patch: MethodPatch) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    def end(response: Any, *args: Any, **options: Any) -> Any:
        with _guarded:
            # Before the library does it: closing leaves an error of its own in the body.
            body = vars(response).get(_BODY)
            if body is not None:
                body.end()
            else:
                sending = get_value(_SENDING)
                if isinstance(sending, _SessionCall):
                    sending.dropped = response
        return patch.bound(response)(*args, **options)

    return end


class _SessionCall(Sending):
    """One `ClientSession._request`, over all its hops."""

    __slots__ = ("_allowed", "_error", "_headers", "_method", "_session", "_url", "dropped")

    def __init__(
        self, running: Hub, session: Any, *, method: Any, url: Any, headers: Any, error: type[Exception]
    ) -> None:
        super().__init__(running)
        self._session = session
        self._method = method
        self._url = url
        self._headers = headers
        self._error = error
        self._allowed = False
        self.dropped: Any = None
        """The last answer that was let go inside the call."""

    def begin(self) -> None:
        url = self._destination()
        if url is None:
            return
        host = url.raw_host
        self._allowed = host in self.running.egress
        resources = client_resources(self.running.settings.client_paths)
        path = url.raw_path if resources.wants_path else ""
        self.send_in(set_value(_SENDING, self, self.egress(host)))
        self.exchange = Exchange(
            self.running,
            APP_TYPE,
            method=str(self._method).upper(),
            resource=resources.name(url.scheme, host, port=url.port, path=path),
            timeouts=_TIMEOUTS,
        )

    def fail(self, error: BaseException) -> None:
        exchange, dropped = self.exchange, self.dropped
        # `raise_for_status` turns an answer into an error; it is an answer all the same.
        if exchange is not None and dropped is not None and isinstance(error, self._error):
            code = dropped.status
            if code is not None and code == getattr(error, "status", None):
                exchange.answered(code)
                exchange.received_in_all(_wire_bytes(dropped))
                exchange.finish()
        super().fail(error)

    def answer(self, response: Any) -> Any:
        """The same response, its body watched to the end."""
        if self.exchange is not None:
            with _guarded:
                self.exchange.answered(response.status)
                body = _Body(self.exchange, response)
                setattr(response, _BODY, body)
                response.content.on_eof(body.end)
        return response

    def keep_headers_from_strangers(self, request: Any) -> None:
        """Take our headers off a hop to a host that must not have them; the caller's own stay.

        aiohttp sends a redirect on with the headers the first hop was given.
        """
        if not self._allowed or request.url.raw_host in self.running.egress:
            return
        given = self._session._prepare_headers(self._headers)  # noqa: SLF001 - what the hop was made from
        for name in propagate.get_global_textmap().fields:
            if name in request.headers:
                del request.headers[name]
                for value in given.getall(name, ()):
                    request.headers.add(name, value)

    def _destination(self) -> Any:
        """The URL asked for, or None where aiohttp is about to refuse it."""
        try:
            url = self._session._build_url(self._url)  # noqa: SLF001 - it knows the session's base URL
        except (AssertionError, TypeError, ValueError):
            return None
        return url if url.raw_host else None


class _Body:
    """The body of an answer. It ends at its last byte, or when the response is let go."""

    __slots__ = ("_exchange", "_timer", "content", "headers")

    def __init__(self, exchange: Exchange, response: Any) -> None:
        self._exchange = exchange
        self.content = response.content
        self.headers = response.headers
        self._timer = response._timer  # noqa: SLF001 - the session's total timeout

    def end(self) -> None:
        """End the exchange with what has arrived. Only the first call counts."""
        if not self._exchange.is_open:
            return
        with _guarded:
            self._exchange.received_in_all(_wire_bytes(self))
            self._exchange.finish(self._failure())

    def _failure(self) -> BaseException | None:
        failure: BaseException | None = self.content.exception()
        if failure is None and not self.content.is_eof():
            try:
                self._timer.assert_timeout()
            except TimeoutError as timeout:
                return timeout
        return failure

    def __del__(self) -> None:
        self.end()


class _CountedCompressor:
    """A request body's compressor, its output counted."""

    def __init__(self, compressor: Any, exchange: Exchange) -> None:
        self._compressor = compressor
        self._exchange = exchange

    async def compress(self, chunk: bytes) -> bytes:
        compressed: bytes = await self._compressor.compress(chunk)
        self._exchange.sent(compressed)
        return compressed

    def flush(self, *args: Any) -> bytes:
        rest: bytes = self._compressor.flush(*args)
        self._exchange.sent(rest)
        return rest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compressor, name)


def _count_body(writer: Any, exchange: Exchange) -> None:
    """Count what goes through `writer`: the body, where it has its final size."""
    compressor = getattr(writer, "_compress", None)
    if compressor is not None:
        writer._compress = _CountedCompressor(compressor, exchange)  # noqa: SLF001 - after it is too late
        return
    write = writer.write

    async def counted_write(chunk: Any, **options: Any) -> None:
        await write(chunk, **options)
        exchange.sent(chunk)

    writer.write = counted_write


def _wire_bytes(body: Any) -> int | None:
    """Bytes of `body.content` received so far, None where aiohttp does not know.

    Before 3.13 it counts a compressed body only after decompression, and the reader of an empty
    body never has all counters.
    """
    raw: int | None = getattr(body.content, "total_raw_bytes", None)
    if raw is not None:
        return raw
    total: int = getattr(body.content, "total_bytes", 0)
    return None if total and "Content-Encoding" in body.headers else total
