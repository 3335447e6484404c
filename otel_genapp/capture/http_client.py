"""Requests of httpx and httpx2: three metrics, OpenTelemetry's spans, headers for allowed hosts only.

Both libraries have the same classes under another name, so there is one implementation,
parametrised by the module. It sits on `HTTPTransport` and `AsyncHTTPTransport`: every hop of a
redirect and every attempt of a retrying SDK is a request of its own, as it is for the spans;
mock, ASGI and WSGI transports are no network and are not seen.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_genapp import hub, semconv
from otel_genapp.capture.client_exchange import Exchange, Sending
from otel_genapp.capture.client_patches import Installation, MethodPatch, Spans, Undo, installed
from otel_genapp.capture.client_resource import client_resources
from otel_genapp.capture.llm_wire import retries
from otel_genapp.capture.llm_wire.asked import Asked, asked
from otel_genapp.capture.llm_wire.call import WireCall
from otel_genapp.capture.llm_wire.exchange import LLMExchange
from otel_genapp.capture.llm_wire.reaper import watch
from otel_genapp.capture.llm_wire.routes import route
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

_guarded = quiet("capture")
_INSTRUMENTORS = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}


def instrument(
    module: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Undo:
    """Measure every request of `module` (httpx or httpx2), and make spans; returns the undo.

    Existing clients and subclassed transports are covered. Calling it again changes nothing.
    The providers are for OpenTelemetry's instrumentor; the global ones unless given.

    Raises:
        MissingDependencyError: OpenTelemetry's instrumentation is not installed.
        GenappError: OpenTelemetry's instrumentation refuses the installed version.
    """
    name = module.__name__
    undo = installed(module.HTTPTransport, "handle_request")
    if undo is not None:
        return undo
    spans = Spans(
        "opentelemetry.instrumentation.httpx",
        _INSTRUMENTORS[name],
        library="opentelemetry-instrumentation-httpx",
        extra="all",
        providers={"tracer_provider": tracer_provider, "meter_provider": meter_provider},
    )
    flavour = _Flavour(module)
    installation = Installation(spans)
    try:
        installation.patch(
            module.HTTPTransport,
            "handle_request",
            wrap=lambda patch: _sync_shell(patch, installation, flavour=flavour),
        )
        installation.patch(
            module.AsyncHTTPTransport,
            "handle_async_request",
            wrap=lambda patch: _async_shell(patch, installation, flavour=flavour),
        )
        installation.start_spans()
    except BaseException:
        installation.undo()
        raise
    return installation.undo


def _sync_shell(patch: MethodPatch, installation: Installation, *, flavour: _Flavour) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    def handle_request(transport: Any, request: Any) -> Any:
        sending = _sending(request, installation, flavour=flavour, streams=flavour.sync)
        if sending is None:
            return patch.bound(transport)(request)
        with sending:
            response = patch.bound(transport)(request)
        return sending.answer(response)

    return handle_request


def _async_shell(patch: MethodPatch, installation: Installation, *, flavour: _Flavour) -> Callable[..., Any]:
    @functools.wraps(patch.inner)
    async def handle_async_request(transport: Any, request: Any) -> Any:
        sending = _sending(request, installation, flavour=flavour, streams=flavour.asynchronous)
        if sending is None:
            return await patch.bound(transport)(request)
        with sending:
            response = await patch.bound(transport)(request)
        return sending.answer(response)

    return handle_async_request


def _sending(
    request: Any, installation: Installation, *, flavour: _Flavour, streams: _Streams
) -> _TransportCall | None:
    running = hub.active
    if running is None or not installation.live:
        return None
    with _guarded:
        if is_instrumentation_enabled():
            if installation.spans_pending:
                installation.settle_spans()
            return _TransportCall(running, request, flavour=flavour, streams=streams)
    return None


class _TransportCall(Sending):
    """One call of a transport, the same for sync and async."""

    __slots__ = ("_body", "_flavour", "_headers", "_request", "_stream", "_streams")

    def __init__(self, running: Hub, request: Any, *, flavour: _Flavour, streams: _Streams) -> None:
        super().__init__(running)
        self._request = request
        self._flavour = flavour
        self._streams = streams
        self._headers: Any = None
        self._stream: Any = None
        self._body: Any = None

    def begin(self) -> None:
        request = self._request
        url = request.url
        host = url.raw_host.decode("ascii")
        resources = client_resources(self.running.settings.client_paths)
        path = url.raw_path.decode("ascii") if resources.wants_path or request.method == "POST" else ""
        context = self.egress(host)
        self._headers = request.headers
        measured = {
            "method": request.method,
            "resource": resources.name(
                url.scheme, host, port=url.port, path=path if resources.wants_path else ""
            ),
            "timeouts": self._flavour.timeouts,
        }
        said = self._asked(host, url.port, path=path) if path else None
        if said is None:
            self.exchange = Exchange(self.running, self._flavour.app_type, **measured)
        else:
            exchange = LLMExchange(self.running, self._flavour.app_type, asked=said, **measured)
            self.exchange = exchange
            context = self._begin_call(exchange, said, context=context)
        self.send_in(context)
        if isinstance(request.stream, self._streams.kind):
            self._stream = request.stream
            self._body = request.stream = self._streams.request(request.stream, self.exchange)

    def _asked(self, host: str, port: int | None, *, path: str) -> Asked | None:
        """What the request asks of a model, if it is a call to one."""
        found = route(host, port, path=path.partition("?")[0])
        if found is None or not self.running.settings.llm_wire:
            return None
        try:
            body = self._request.content
        except self._flavour.not_read:
            body = None
        said = asked(found, body)
        if said is not None:
            said.extra[semconv.SERVER_ADDRESS] = host
            if port is not None:
                said.extra[semconv.SERVER_PORT] = port
        return said

    def _begin_call(self, exchange: LLMExchange, said: Asked, *, context: Context) -> Context:
        """Make `exchange` an attempt of its call; returns the context to send it in."""
        count = self._request.headers.get(retries.COUNT_HEADER)
        call = retries.take_up(self.running, said.model)
        if call is None:
            call = WireCall(self.running, said, context=context)
        exchange.begin(call, retryable=count is not None)
        watch(self.running)
        context = call.context(context)
        if call.replaces_http_span:
            # As OpenTelemetry's instrumentor does, on a copy: the request stays as its owner made it.
            carrier: dict[str, str] = {}
            propagate.inject(carrier, context)
            if carrier:
                headers = self._request.headers.copy()
                headers.update(carrier)
                self._request.headers = headers
        return context

    def end(self) -> None:
        # The request stays as its owner made it: a redirect would send our wrapper again.
        if self._body is not None and self._request.stream is self._body:
            self._request.stream = self._stream

    def answer(self, response: Any) -> Any:
        """The same response, its body watched to the end."""
        exchange = self.exchange
        if exchange is None:
            return response
        with _guarded:
            exchange.answered(response.status_code, response.headers.raw)
            if response.has_redirect_location:
                # The next hop copies these headers, and may be a host that must not have ours.
                self._request.headers = self._headers
            if not response.is_closed and isinstance(response.stream, self._streams.kind):
                response.stream = self._streams.response(response.stream, exchange)
                return response
            # Something below has read the body already: a cache or a recorder.
            if response.is_closed:
                exchange.received(response.content)
                exchange.read_to_end()
        exchange.finish()
        return response


_SHORT = 1024
"""Longer chunks are `received`, whatever they end with."""


class _WatchedStream:
    """A stream in front of the library's own, which it is for everybody who looks at it."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        if name in {"_stream", "_exchange"}:  # a half-made copy has neither
            raise AttributeError(name)
        return getattr(self._stream, name)


class _SyncRequest(_WatchedStream):
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk
            self._exchange.sent(chunk)  # the transport is back for more: that chunk is written

    def close(self) -> None:
        self._stream.close()


class _AsyncRequest(_WatchedStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk
            self._exchange.sent(chunk)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _WatchedResponse(_WatchedStream):
    def __del__(self) -> None:
        exchange = self.__dict__.get("_exchange")
        if exchange is not None:
            exchange.finish()


class _SyncResponse(_WatchedResponse):
    def __iter__(self) -> Iterator[bytes]:
        with self._exchange as exchange:
            calm, pieces, full = exchange.calm
            for chunk in self._stream:
                # Every chunk of every stream passes here; nothing of the short way can fail.
                if (
                    chunk.__class__ is bytes
                    and chunk[-3:] == calm
                    and len(chunk) < _SHORT
                    and len(pieces) < full
                ):
                    pieces.append(chunk)
                else:
                    exchange.received(chunk)
                    calm, pieces, full = exchange.calm
                yield chunk
            exchange.read_to_end()

    def close(self) -> None:
        with self._exchange:
            self._stream.close()


class _AsyncResponse(_WatchedResponse):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._stream.__aiter__()
        with self._exchange as exchange:
            calm, pieces, full = exchange.calm
            try:
                async for chunk in chunks:
                    if (
                        chunk.__class__ is bytes
                        and chunk[-3:] == calm
                        and len(chunk) < _SHORT
                        and len(pieces) < full
                    ):
                        pieces.append(chunk)
                    else:
                        exchange.received(chunk)
                        calm, pieces, full = exchange.calm
                    yield chunk
                exchange.read_to_end()
            finally:
                # As without us: whoever closes this generator closes the library's.
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def aclose(self) -> None:
        with self._exchange:
            await self._stream.aclose()


class _Streams:
    """The stream class a transport insists on, and ours derived from it."""

    __slots__ = ("kind", "request", "response")

    def __init__(self, kind: type, *, request: type, response: type) -> None:
        self.kind = kind
        self.request: Any = type(f"Counted{kind.__name__}", (request, kind), {})
        self.response: Any = type(f"Watched{kind.__name__}", (response, kind), {})


class _Flavour:
    """What differs between httpx and httpx2: the module its classes come from."""

    __slots__ = ("app_type", "asynchronous", "not_read", "sync", "timeouts")

    def __init__(self, module: Any) -> None:
        self.app_type: str = module.__name__
        self.timeouts: tuple[type[BaseException], ...] = (module.TimeoutException,)
        self.not_read: type[Exception] = module.RequestNotRead
        self.sync = _Streams(module.SyncByteStream, request=_SyncRequest, response=_SyncResponse)
        self.asynchronous = _Streams(module.AsyncByteStream, request=_AsyncRequest, response=_AsyncResponse)
