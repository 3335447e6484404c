"""One request is one SERVER span, one count and one correlation id, however Flask is put together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import flask
import pytest
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from otel_genapp import hub
from otel_genapp.capture.flask import prepare
from tests.fakes import Counted, eventually
from tests.shop_apps import flask_shop
from tests.web_fakes import Fetched, Watch, fetch, instrument, watching, wsgi_server


def plain(app: flask.Flask) -> Any:
    return app


def user_contrib(app: flask.Flask) -> Any:
    FlaskInstrumentor().instrument_app(app)
    return app


def proxied(app: flask.Flask) -> Any:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign] # as its docs say
    return app


def dispatching(app: flask.Flask) -> Any:
    dispatcher = DispatcherMiddleware(app.wsgi_app, {"/sub": flask_shop(), "/raw": raw_wsgi})
    app.wsgi_app = dispatcher  # type: ignore[method-assign] # as its docs say
    return app


def dispatched(app: flask.Flask) -> Any:
    return DispatcherMiddleware(app, {"/sub": flask_shop()})


def contrib_around(app: flask.Flask) -> Any:
    return OpenTelemetryMiddleware(app)


def raw_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"raw"]


ARRANGEMENTS = [plain, user_contrib, proxied, dispatching, dispatched, contrib_around]

TARGETS = (
    ("GET", "/items/3", 200, "/items/<int:item_id>"),
    ("GET", "/v1/key", 200, "/v1/<key>"),
    ("GET", "/missing", 404, "/missing"),
    ("GET", "/nowhere", 404, "__unmatched__"),
    ("GET", "/slash", 308, "__unmatched__"),
    ("POST", "/items/3", 405, "/items/<int:item_id>"),
    ("HEAD", "/items/3", 200, "/items/<int:item_id>"),
    ("GET", "/broken", 500, "/broken"),
    ("GET", "/stream", 200, "/stream"),
)
MOUNTED = (
    ("GET", "/sub/items/3", 200, "/sub/items/<int:item_id>"),
    ("GET", "/sub/broken", 500, "/sub/broken"),
)


@pytest.fixture
def shop() -> flask.Flask:
    return flask_shop()


def call(app: Any, path: str) -> Fetched:
    """One request through a real server."""
    with wsgi_server(app) as url:
        return fetch(url + path)


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
def test_one_request_is_one_span_and_one_count(
    arrange: Callable[[flask.Flask], Any], shop: flask.Flask
) -> None:
    """Every kind of rule and mount, under every way to put it together, gives one of each."""
    targets = TARGETS + (MOUNTED if arrange in {dispatching, dispatched} else ())
    with watching("flask") as watch, wsgi_server(arrange(shop)) as url:
        for method, path, status, resource in targets:
            answer = asked(watch, method, url + path)
            span, counted = watch.one()
            body = 0 if method == "HEAD" else len(answer.content)
            assert (answer.status, counted) == (
                status,
                Counted(method, str(status), resource, "flask", 0, body),
            )
            assert answer.headers.get_all("x-correlation-id") == [f"{span.context.trace_id:032x}"]


def asked(watch: Watch, method: str, url: str) -> Fetched:
    watch.exporter.clear()
    watch.families.measurements.clear()
    return fetch(url, method=method)


def test_a_mount_that_is_not_flask(shop: flask.Flask) -> None:
    """A WSGI application Flask only passes requests on to has its span and count too."""
    with watching("flask") as watch:
        answer = call(dispatching(shop), "/raw/deep/path")
        span, counted = watch.one()
    assert counted == Counted("GET", "200", "/raw/{path}", "flask", 0, 3)
    assert (span.name, dict(span.attributes or {})) == (
        "GET /raw/{path}",
        {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.route": "/raw/{path}",
            "url.path": "/raw/deep/path",
            "url.scheme": "http",
        },
    )
    assert answer.headers["x-correlation-id"] == f"{span.context.trace_id:032x}"


@pytest.fixture
def instrumented_class() -> Iterator[type[flask.Flask]]:
    """`flask.Flask` as the instrumentor's `instrument()` leaves it."""
    FlaskInstrumentor().instrument()
    yield flask.Flask
    FlaskInstrumentor().uninstrument()


def test_instrumented_for_every_app_by_the_user(instrumented_class: type[flask.Flask]) -> None:
    """Applications of the instrumentor's own class are not instrumented again."""
    with watching("flask") as watch:
        app = instrumented_class("theirs")  # takes the tracer provider of this moment
        app.add_url_rule("/", view_func=lambda: "root")
        call(app, "/")
        assert watch.one()[1].resource == "/"


def test_telemetry_over_an_app_that_serves(shop: flask.Flask) -> None:
    """Requests to a running server count from the moment telemetry starts."""
    with wsgi_server(shop) as url:
        assert "x-correlation-id" not in fetch(f"{url}/items/1").headers
        with watching("flask") as watch:
            answer = fetch(f"{url}/items/2")
            span, counted = watch.one()
        assert "x-correlation-id" not in fetch(f"{url}/items/3").headers
    assert counted == Counted("GET", "200", "/items/<int:item_id>", "flask", 0, len(answer.content))
    assert answer.headers["x-correlation-id"] == f"{span.context.trace_id:032x}"
    with pytest.raises(AssertionError, match="no longer be called"):
        shop.before_request(lambda: None)


def test_started_again(shop: flask.Flask) -> None:
    """A second telemetry in the process finds the application ready."""
    with watching("flask") as watch:
        call(shop, "/items/3")
        hub.set_active(replace(watch.running, prepared=set()))
        call(shop, "/items/3")
        assert eventually(lambda: len(watch.servers()) == len(watch.counted()) == 2)


def test_concurrent_first_requests(shop: flask.Flask) -> None:
    """Requests that arrive together while the application is prepared get one span each."""
    barrier = threading.Barrier(8)

    def send(url: str) -> str:
        barrier.wait(10)
        return fetch(f"{url}/items/3").headers["x-correlation-id"]

    with watching("flask") as watch, wsgi_server(shop) as url, ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(send, [url] * 8))
        assert eventually(lambda: len(watch.servers()) == len(watch.counted()) == 8)
    assert sorted(answered) == sorted(f"{span.context.trace_id:032x}" for span in watch.servers())
    assert (len(set(answered)), len(watch.counted())) == (8, 8)


def test_functions_that_answer_for_the_view(shop: flask.Flask) -> None:
    """What runs before the view, registered first, is inside of the span, and so is the last teardown."""
    seen: list[str] = []
    shop.before_request(lambda: ("stopped", 401))
    shop.teardown_request(lambda _error: seen.append(flask.request.path))
    with watching("flask") as watch:
        answer = call(shop, "/items/3")
        span, counted = watch.one()
    assert (answer.status, counted.status, span.name, seen) == (
        401,
        "401",
        "GET /items/<int:item_id>",
        ["/items/3"],
    )


def test_unmatched_paths_are_no_span_names(shop: flask.Flask) -> None:
    """Names of spans do not grow with what callers invent."""
    with watching("flask") as watch:
        call(shop, "/nowhere/at/all")
        assert watch.one()[0].name == "GET"


def test_prepared_by_hand(shop: flask.Flask) -> None:
    """Preparing an application before its first request changes nothing."""
    with watching("flask") as watch:
        prepare(shop)
        prepare(shop)
        call(shop, "/items/3")
        watch.one()


def test_patched_once_and_undone(shop: flask.Flask) -> None:
    """Instrumenting twice counts once, and the undo leaves the class as it was."""
    before = (flask.Flask.__call__, flask.Flask.request_context)
    with watching("flask") as watch:
        second = instrument("flask")
        call(shop, "/items/3")
        second()
        call(shop, "/items/3")
        assert eventually(lambda: len(watch.counted()) == 2)
    assert (flask.Flask.__call__, flask.Flask.request_context) == before


def test_without_telemetry_nothing_happens(shop: flask.Flask) -> None:
    """With no hub the patched class only passes through."""
    with watching("flask") as watch:
        hub.set_active(None)
        prepare(shop)
        answer = call(shop, "/items/3")
    assert ("x-correlation-id" in answer.headers, watch.counted(), watch.servers()) == (False, [], [])
