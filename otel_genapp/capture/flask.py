"""Flask coming in: one SERVER span, one count and one correlation id for each request.

(`serve/flask.py` is the way out: our own endpoints on a Flask application.)

`Flask.__call__` is patched on the class, so that names imported early, subclasses, applications
behind middlewares on `wsgi_app` and applications that already serve are covered. Spans come from
OpenTelemetry's Flask instrumentor, applied to an application at its first request.

`resource` is the mount (`SCRIPT_NAME`) and the URL rule. A mounted application that is not Flask's
is `<mount>/{path}`, and its SERVER span is made here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from otel_genapp import hub
from otel_genapp.capture.flask_request import Environ, FlaskRequest, StartResponse, belongs_to_outer_request
from otel_genapp.capture.server_request import MARK, METHODS, guarded, patch, prepare_once, serving
from otel_genapp.errors import MissingDependencyError
from otel_genapp.hub import Hub

_CONTRIB: Final = "opentelemetry.instrumentation.flask"


def instrument(module: ModuleType) -> Callable[[], None]:
    """Watch every Flask application of `module` (`flask`) while telemetry runs; returns the undo."""
    signal: Any = module.got_request_exception
    signal.connect(_on_exception)
    undos = [
        patch(module.app.Flask, "__call__", wrap=_calling),
        patch(module.app.Flask, "request_context", wrap=_handling),
    ]

    def undo() -> None:
        signal.disconnect(_on_exception)
        for step in undos:
            step()

    return undo


def span_source() -> tuple[str, str]:
    """(`contrib` or `none`; why not) for what is installed."""
    try:
        if find_spec(_CONTRIB) is not None:
            return "contrib", ""
    except ModuleNotFoundError:  # a parent package is absent
        pass
    return "none", str(MissingDependencyError("opentelemetry-instrumentation-flask", "flask"))


def prepare(app: Any) -> None:
    """Make `app` ready for spans, once for each running telemetry; its first request does it too."""
    running = hub.active
    if running is None:
        return

    def steps() -> None:
        instrumented = getattr(app, "_is_instrumented_by_opentelemetry", False)
        if not instrumented and span_source()[0] == "contrib":
            _instrument_contrib(app, running)

    prepare_once(running, app, steps=steps)


def _instrument_contrib(app: Any, running: Hub) -> None:
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider

    wsgi_app = app.wsgi_app
    # Flask refuses set-up after the first request, and the instrumentor finds out half-way.
    app._check_setup_finished = _accept_set_up  # noqa: SLF001 - nothing public does it
    instrument_app: Any = FlaskInstrumentor.instrument_app
    try:
        instrument_app(
            app,
            request_hook=_name_unmatched,
            enable_commenter=False,
            meter_provider=None if running.wants_http_metrics else NoOpMeterProvider(),
        )
    except BaseException:
        app.wsgi_app = wsgi_app
        raise
    finally:
        del app._check_setup_finished  # noqa: SLF001 - as above
    # The span comes first and ends last: a function that answers for the view is inside of it too.
    # New lists: a request under way may be walking the old ones.
    for functions in (app.before_request_funcs, app.teardown_request_funcs):
        *others, own = functions[None]
        functions[None] = [own, *others]


def _accept_set_up(_name: str) -> None:
    return None


def _name_unmatched(span: Any, environ: Environ) -> None:
    with guarded:
        handled = environ.get("werkzeug.request")
        if getattr(handled, "url_rule", None) is None:
            # The instrumentor's name would be the path, which anyone may choose.
            method = environ.get("REQUEST_METHOD", "")
            span.update_name(method if method in METHODS else "HTTP")


def _calling(original: Any) -> Any:
    def __call__(app: Any, environ: Environ, start_response: StartResponse) -> Any:  # noqa: N807 - it is one
        running = hub.active
        if running is None:
            return original(app, environ, start_response)
        request = None
        with guarded:
            request = _entered(running, app, environ=environ, start_response=start_response)
        if request is None:
            return original(app, environ, start_response)
        try:
            body = original(app, environ, request.start_response)
        except BaseException as error:
            request.fail(error)
            raise
        finally:
            request.leave()
        return request.counted(body)

    return __call__


def _entered(
    running: Hub, app: Any, *, environ: Environ, start_response: StartResponse
) -> FlaskRequest | None:
    outer = environ.get(MARK)
    if outer is None and belongs_to_outer_request(environ):
        return None
    if id(app) not in running.prepared:
        prepare(app)
    if outer is not None:
        outer.enter_mounted(environ)
        return None
    request = FlaskRequest(running, environ, start_response=start_response)
    request.enter()
    return request


def _handling(original: Any) -> Any:
    def request_context(app: Any, environ: Environ) -> Any:
        request = environ.get(MARK)
        if request is not None:
            with guarded:
                request.handled_by_flask(environ)
        return original(app, environ)

    return request_context


def _on_exception(_app: Any, exception: BaseException, **_kwargs: Any) -> None:
    from flask import request as current

    with guarded:
        request = current.environ.get(MARK)
        if request is not None:
            request.note_route()
        else:
            request = serving.get()  # mounted in an ASGI application
        if request is not None:
            request.count_error(exception, request.context)
