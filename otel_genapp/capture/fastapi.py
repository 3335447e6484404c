"""FastAPI coming in: one SERVER span, one count and one correlation id for each request.

(`serve/fastapi.py` is the way out: our own endpoints on a FastAPI application.)

`FastAPI.__call__` is patched on the class, so that names imported early, subclasses and
applications that already serve are covered. Spans are FastAPI's own where it makes them, the OpenTelemetry
instrumentor's elsewhere or on request. Route templates are noted as the router picks its routes:
nothing is matched a second time.

`resource` is the application's root path, the mounts' templates and the route's: what
`http.route` is on the span. A mounted application that is not FastAPI's is `<mount>/{path}`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final
from weakref import ref

from otel_genapp import hub
from otel_genapp.capture.asgi_request import NATIVE, AsgiRequest, Message, Receive, Scope, Send
from otel_genapp.capture.fastapi_span import make_for
from otel_genapp.capture.server_request import MARK, guarded, patch, prepare_once
from otel_genapp.errors import MissingDependencyError
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

FLUSH_TIMEOUT_S = 5.0

_CONTRIB: Final = "opentelemetry.instrumentation.fastapi"
_SPAN_MAKERS: Final = frozenset({"opentelemetry.instrumentation.asgi", "starlette.middleware.opentelemetry"})


def instrument(module: ModuleType) -> Callable[[], None]:
    """Watch every FastAPI application of `module` (`fastapi`) while telemetry runs; returns the undo."""
    from starlette.routing import Mount, Route, WebSocketRoute

    undos = [
        patch(module.applications.FastAPI, "__call__", wrap=_calling),
        patch(Mount, "handle", wrap=_mounting),
        patch(Route, "handle", wrap=_routing),
        patch(WebSocketRoute, "handle", wrap=_routing),
        # Newer versions serve routes of included routers without asking Starlette's `handle`.
        patch(module.routing.APIRoute, "handle", wrap=_routing),
    ]

    def undo() -> None:
        for step in undos:
            step()

    return undo


def span_source(fastapi_spans: str) -> tuple[str, str]:
    """(`native`, `contrib` or `none`; why not what was asked for) for the installed FastAPI."""
    native = _importable("fastapi.telemetry")
    contrib = _importable(_CONTRIB)
    missing = (
        "" if contrib else str(MissingDependencyError("opentelemetry-instrumentation-fastapi", "fastapi"))
    )
    if native and (fastapi_spans == "native" or not contrib):
        return "native", missing if fastapi_spans == "contrib" else ""
    return ("contrib", "") if contrib else ("none", missing)


def prepare(app: Any) -> None:
    """Make `app` ready for spans, once for each running telemetry; its first request does it too."""
    running = hub.active
    if running is None:
        return

    def steps() -> None:
        native = getattr(app, "_telemetry", None)
        if isinstance(native, dict):
            native["operation_spans"] = False
            if not running.wants_http_metrics:
                native["metrics"] = False
            if any(item.cls.__module__ in _SPAN_MAKERS for item in app.user_middleware):
                native["tracing"] = native["metrics"] = False
                return
        if span_source(running.settings.fastapi_spans)[0] == "contrib":
            _instrument_contrib(app, running)
        elif isinstance(native, dict):
            running.span_makers[id(app)] = (_unseen, None)

    prepare_once(running, app, steps=steps)


def _unseen() -> object:
    """In the place of a stack that was looked through: no application's stack is this."""
    return _unseen


def _look_through(running: Hub, app: Any) -> None:
    """Make `app`'s spans in our layer, if nothing in its middleware stack makes any.

    The stack is built with the first request, and can be built anew; each is looked through once.
    """
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    stack = app.middleware_stack
    native = app._telemetry  # noqa: SLF001 - FastAPI has no public view of it
    maker = None if _makes_spans(stack) else make_for(app, native)
    # Weakly: the stack holds the application, which must stay free to go.
    running.span_makers[id(app)] = (ref(stack), maker)


def _instrument_contrib(app: Any, running: Hub) -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider

    if not getattr(app, "_is_instrumented_by_opentelemetry", False):
        FastAPIInstrumentor.instrument_app(
            app,
            exclude_spans=["send", "receive"],
            meter_provider=None if running.wants_http_metrics else NoOpMeterProvider(),
        )
    if app.middleware_stack is not None and not _makes_spans(app.middleware_stack):
        # It serves already: requests under way keep the stack they have, later ones get spans.
        app.middleware_stack = app.build_middleware_stack()


def _makes_spans(stack: Any) -> bool:
    while stack is not None:
        if type(stack).__module__ in _SPAN_MAKERS:
            return True
        stack = getattr(stack, "app", None)
    return False


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False


def _calling(original: Any) -> Any:
    # A coroutine function: servers look at it to tell ASGI 3 from ASGI 2.
    async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: N807 - it is one
        if scope.get("type") == "lifespan":
            return await original(app, scope, receive, _FlushingSend(send))
        running = hub.active
        if running is None:
            return await original(app, scope, receive, send)
        if MARK in scope:
            return await _call_mounted(original, app, scope, receive, send)
        request = None
        with guarded:
            if id(app) not in running.prepared:
                prepare(app)
            seen = running.span_makers.get(id(app))
            if seen is not None and seen[0]() is not app.middleware_stack:
                _look_through(running, app)
            request = AsgiRequest(running, scope, app=app, receive=receive, send=send)
            request.enter()
        if request is None:
            return await original(app, scope, receive, send)
        try:
            answer = await original(app, scope, request.receive, request.send)
        except BaseException as error:
            request.fail(error)
            raise
        else:
            request.end()
            return answer
        finally:
            request.leave()

    return __call__


async def _call_mounted(original: Any, app: Any, *asgi: Any) -> Any:
    scope = asgi[0]
    silenced = False
    with guarded:
        outer = scope[MARK]
        outer.enter_mounted()
        # The outer application's span may come from a middleware that native telemetry cannot see
        # from inside a mount: it would make a second one.
        silenced = NATIVE not in scope and _makes_spans(outer.app.middleware_stack)
        if silenced:
            scope[NATIVE] = None
    try:
        return await original(app, *asgi)
    finally:
        if silenced:
            scope.pop(NATIVE, None)


def _routing(original: Any) -> Any:
    def handle(route: Any, scope: Scope, *rest: Any) -> Any:
        request = scope.get(MARK)
        if request is not None:
            with guarded:
                request.select(route, scope)
        return original(route, scope, *rest)

    return handle


def _mounting(original: Any) -> Any:
    def handle(route: Any, scope: Scope, *rest: Any) -> Any:
        request = scope.get(MARK)
        if request is not None:
            with guarded:
                request.mount(route)
        return original(route, scope, *rest)

    return handle


class _FlushingSend:
    """Delivers what telemetry holds before the server hears that the application has ended.

    Servers that end themselves by a signal never run `atexit`: this is the last sure moment.
    """

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        running = hub.active
        if running is not None and message.get("type") in {
            "lifespan.shutdown.complete",
            "lifespan.shutdown.failed",
        }:
            with quiet("lifecycle"):
                from anyio.to_thread import run_sync

                await run_sync(running.flush, FLUSH_TIMEOUT_S, abandon_on_cancel=True)
        await self._send(message)
