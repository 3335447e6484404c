"""Mounting the endpoints on apps with habits of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import flask
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import otel_genapp.serve.fastapi
import otel_genapp.serve.flask
from otel_genapp.config import Settings
from otel_genapp.serve.auth import Gate
from otel_genapp.state_directory import StateDirectory
from tests.readings import FakeReading, FakeSessions
from tests.serving import Client, uvicorn_serving, werkzeug_serving

AUTH = {"x-internal-auth": "token"}
OPEN = Settings(app="shop", env="prod", internal_auth=("token",))
CLOSED = Settings(app="shop", env="prod")
GUARDED = (
    "GET /events/sla", "GET /events/metrics", "GET /events/metrics/sessions", "GET /events/metrics/session/{id}",
    "DELETE /events/metrics/session/{id}", "GET /events/traces/{correlation_id}", "GET /events/integrations",
    "GET /analytics/report/{period}", "GET /analytics/export", "GET /genapp/",
)  # fmt: skip
UNGUARDED = ("GET /prometheus", "GET /health", "GET /health/{check}")
MOUNTED = dict.fromkeys((*UNGUARDED, *GUARDED), "mounted")
THEIRS = "not mounted: the app has a route of its own there"
SESSION = "/events/metrics/session/s1"


def gate_of(settings: Settings) -> Gate:
    return Gate.open(settings, StateDirectory(None))


def mount(app: Any, reading: FakeReading | None = None, *, settings: Settings = OPEN) -> dict[str, str]:
    reading = reading or FakeReading(FakeSessions(["s1"]))
    gate = gate_of(settings)
    if isinstance(app, flask.Flask):
        return otel_genapp.serve.flask.mount(app, reading, gate=gate, settings=settings)
    return otel_genapp.serve.fastapi.mount(app, reading, gate=gate, settings=settings)


def serving(app: Any) -> Any:
    return werkzeug_serving(app) if isinstance(app, flask.Flask) else uvicorn_serving(app)


def statuses(client: Client, *targets: str) -> list[int]:
    return [client.ask(target, headers=AUTH).status for target in targets]


def starlette_app() -> Starlette:
    return Starlette(routes=[Route("/own", lambda _request: PlainTextResponse("own"))])


def fastapi_app() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/own", lambda: "own")
    return app


def flask_app() -> flask.Flask:
    app = flask.Flask("shop")
    app.add_url_rule("/own", view_func=lambda: "own", endpoint="own")
    return app


@pytest.fixture(params=[fastapi_app, starlette_app, flask_app])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_closed_gate_mounts_no_guarded_route(app: Any) -> None:
    """Without a token in production only the open endpoint is there, and the status says why."""
    why = "not mounted: no token is configured for prod; set GENAPP_INTERNAL_AUTH (or internal_auth)"
    assert mount(app, settings=CLOSED) == {
        **dict.fromkeys(UNGUARDED, "mounted"),
        **dict.fromkeys(GUARDED, why),
    }
    with serving(app) as client:
        assert statuses(client, "/prometheus", "/events/metrics", SESSION, "/own") == [200, 404, 404, 200]


def test_prometheus_can_be_guarded(app: Any) -> None:
    """With prometheus_auth a scrape needs the token too."""
    settings = Settings(app="shop", env="prod", internal_auth=("token",), prometheus_auth=True)
    assert mount(app, settings=settings) == MOUNTED
    with serving(app) as client:
        assert [client.ask("/prometheus", headers=sent).status for sent in ({}, AUTH)] == [401, 200]


def test_app_that_serves_already(app: Any) -> None:
    """Endpoints can be added after the first request, from another thread."""
    with serving(app) as client:
        assert statuses(client, "/own", "/prometheus") == [200, 404]
        assert mount(app) == MOUNTED
        assert statuses(client, "/own", "/prometheus", "/events/metrics", SESSION) == [200] * 4


def routes_of(app: Any) -> list[object]:
    return list(app.url_map.iter_rules()) if isinstance(app, flask.Flask) else list(app.router.routes)


def test_mounting_twice_changes_nothing(app: Any) -> None:
    """The second mount of the same telemetry leaves the routes as they are."""
    reading = FakeReading()
    assert mount(app, reading) == MOUNTED
    before = routes_of(app)
    assert mount(app, reading) == MOUNTED
    after = routes_of(app)
    assert [id(route) for route in after] == [id(route) for route in before]


def test_mounting_another_telemetry_replaces_the_first(app: Any) -> None:
    """After a restart of telemetry the endpoints read the new one, with its gate."""
    other = Settings(app="shop", env="prod", internal_auth=("new",))
    mount(app, FakeReading(name="first"))
    count = len(routes_of(app))
    with serving(app) as client:
        mount(app, FakeReading(name="second"), settings=other)
        assert len(routes_of(app)) == count
        assert statuses(client, "/events/metrics") == [401]
        answer = client.ask("/events/metrics", headers={"x-internal-auth": "new"})
        assert b'"of": "second"' in answer.body

        mount(app, FakeReading(), settings=CLOSED)
        assert statuses(client, "/prometheus", "/events/metrics") == [200, 404]
        mount(app, FakeReading(), settings=OPEN)
        assert statuses(client, "/prometheus", "/events/metrics") == [200, 200]


def fastapi_with_catch_all() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda path: f"page {path}", methods=["GET", "POST"])
    return app


def fastapi_with_frontend() -> FastAPI:
    app = FastAPI()
    app.mount("/events", PlainTextResponse("theirs"))
    app.mount("/", PlainTextResponse("theirs"))
    return app


def fastapi_with_parameter() -> FastAPI:
    router = APIRouter(prefix="/events")
    router.add_api_route("/{kind}", lambda kind: kind)
    app = FastAPI()
    app.include_router(router)
    app.add_api_route("/{page}", lambda page: page)
    return app


def flask_with_catch_all() -> flask.Flask:
    app = flask.Flask("shop")
    app.add_url_rule("/<path:path>", view_func=lambda path: path, endpoint="page")
    app.add_url_rule("/events/<kind>", view_func=lambda kind: kind, endpoint="kind")
    return app


@pytest.mark.parametrize(
    "make", [fastapi_with_catch_all, fastapi_with_frontend, fastapi_with_parameter, flask_with_catch_all]
)
def test_catch_alls_do_not_hide_the_endpoints(make: Callable[[], Any]) -> None:
    """Wider routes of the app keep the rest of their paths and give way on ours."""
    app = make()
    assert mount(app) == MOUNTED
    with serving(app) as client:
        assert statuses(client, "/prometheus", "/events/metrics", SESSION, "/elsewhere") == [200] * 4
        answers = [
            client.ask(path, headers=AUTH).headers["content-type"] for path in ("/events/metrics", SESSION)
        ]
        assert answers == ["application/json"] * 2


def fastapi_with_own() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/prometheus", lambda: "theirs")
    app.add_api_route("/events/metrics/session/{sid}", lambda sid: f"theirs {sid}")
    return app


def fastapi_with_included() -> FastAPI:
    inner, outer, app = APIRouter(prefix="/metrics"), APIRouter(prefix="/events"), FastAPI()
    inner.add_api_route("/session/{sid}", lambda sid: f"theirs {sid}")
    outer.include_router(inner)
    app.include_router(outer)
    app.add_route("/prometheus", lambda _request: PlainTextResponse("theirs"))
    return app


def flask_with_own() -> flask.Flask:
    app = flask.Flask("shop")
    pages = flask.Blueprint("pages", "pages", url_prefix="/events/metrics")
    pages.add_url_rule("/session/<sid>", view_func=lambda sid: f"theirs {sid}", endpoint="session")
    app.register_blueprint(pages)
    app.add_url_rule("/prometheus", view_func=lambda: "theirs", endpoint="prometheus")
    return app


@pytest.mark.parametrize("make", [fastapi_with_own, fastapi_with_included, flask_with_own])
def test_routes_of_the_app_win(make: Callable[[], Any]) -> None:
    """Where the app has the same path and method its own route answers, and the status says so."""
    app = make()
    expected = {**MOUNTED, "GET /prometheus": THEIRS, "GET /events/metrics/session/{id}": THEIRS}
    assert [mount(app), mount(app)] == [expected, expected]
    with serving(app) as client:
        got = [client.ask(path, headers=AUTH) for path in ("/prometheus", SESSION)]
        assert [answer.body.strip(b'"') for answer in got] == [b"theirs", b"theirs s1"]
        assert client.ask(SESSION, method="DELETE", headers=AUTH).body == b'{"cleared": "s1"}'
        assert statuses(client, "/events/metrics") == [200]


@pytest.mark.parametrize("make", [fastapi_app, flask_app])
@pytest.mark.parametrize("mounts_first", [True, False])
def test_health_pages_of_the_app_stay_there(make: Callable[[], Any], *, mounts_first: bool) -> None:
    """The app's `/health/live` and its included ones answer, whenever they came; its catch-all hides none of ours."""
    app = make()
    if mounts_first:
        mount(app)
    if isinstance(app, FastAPI):
        router = APIRouter(prefix="/health")
        router.add_api_route("/ready", lambda: "theirs")
        app.add_api_route("/health/live", lambda: "theirs")
        app.include_router(router)
        app.add_api_route("/{rest:path}", lambda: "anything")
    else:
        app.add_url_rule("/health/live", view_func=lambda: "theirs", endpoint="live")
        app.add_url_rule("/health/ready", view_func=lambda: "theirs", endpoint="ready")
        app.add_url_rule("/<path:rest>", view_func=lambda rest: f"anything {rest}", endpoint="rest")
    if not mounts_first:
        mount(app)
    with serving(app) as client:
        found = {
            path: client.ask(f"/health/{path}") for path in ("live", "ready", "database", "a%2Fb", "%ff")
        }
    assert [found[path].body.strip(b'"') for path in ("live", "ready")] == [b"theirs"] * 2
    assert [found[path].status for path in ("database", "a%2Fb", "%ff")] == [503, 200, 404]


def test_dependencies_of_the_app_do_not_apply() -> None:
    """A dependency that refuses every caller guards the app's routes, not ours; the schema has only theirs."""

    def refuse() -> None:
        raise HTTPException(403)

    app = FastAPI(dependencies=[Depends(refuse)])

    app.add_api_route("/own", lambda: "own")
    mount(app)
    with serving(app) as client:
        assert statuses(client, "/own", "/prometheus", "/events/metrics", SESSION) == [403, 200, 200, 200]
    assert list(app.openapi()["paths"]) == ["/own"]


def test_hooks_of_the_app_do_not_apply() -> None:
    """A before_request function that refuses every caller guards the app's routes, not ours."""
    app = flask_app()
    app.before_request(lambda: flask.abort(403))
    mount(app)
    with serving(app) as client:
        assert statuses(client, "/own", "/prometheus", "/events/metrics", SESSION) == [403, 200, 200, 200]
        assert client.ask("/events/metrics").status == 401


@pytest.mark.parametrize("instrument_first", [True, False])
def test_stock_flask_instrumentor_stays_content(
    instrument_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever came first, it opens and closes its span around our endpoints and logs nothing."""
    app = flask_app()
    steps = [lambda: FlaskInstrumentor().instrument_app(app), lambda: mount(app)]
    for step in steps if instrument_first else reversed(steps):
        step()
    with serving(app) as client:
        assert statuses(client, "/own", "/prometheus", "/events/metrics", SESSION) == [200] * 4
    FlaskInstrumentor().uninstrument_app(app)
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


def test_flask_with_host_matching() -> None:
    """An app that tells its pages apart by host has our endpoints on every host."""
    app = flask.Flask("shop", host_matching=True, static_host="static.test")
    app.add_url_rule("/own", view_func=lambda: "own", endpoint="own", host="own.test")
    assert mount(app) == MOUNTED
    with serving(app) as client:
        assert statuses(client, "/own", "/prometheus", "/events/metrics", SESSION) == [404, 200, 200, 200]


def test_mounted_below_a_prefix() -> None:
    """Endpoints of a mounted sub-app are found below its prefix."""
    inner = fastapi_app()
    mount(inner)
    with serving(Starlette(routes=[Mount("/shop", inner)])) as client:
        assert statuses(client, "/shop/prometheus", f"/shop{SESSION}", "/prometheus") == [200, 200, 404]


def test_handlers_leave_the_event_loop_and_the_threads_of_the_app_alone() -> None:
    """A stuck store stops no request of the app, and an app with all its threads stuck can be scraped."""
    stuck, entered = threading.Event(), threading.Semaphore(0)

    class StuckReading(FakeReading):
        def totals(self, *_asked: object, **_named: object) -> dict[str, object]:
            entered.release()
            stuck.wait(120)  # longer than any client waits
            return {"of": "stuck"}

    app = FastAPI()
    mount(app, StuckReading())

    @app.get("/own")
    async def own() -> float:
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    @app.get("/blocking")
    def blocking() -> None:
        entered.release()
        stuck.wait(120)  # longer than any client waits

    def ask_in_background(path: str, *, times: int) -> list[threading.Thread]:
        asking = [
            threading.Thread(target=client.ask, args=(path,), kwargs={"headers": AUTH}) for _ in range(times)
        ]
        for thread in asking:
            thread.start()
        assert all(entered.acquire(timeout=20) for _ in range(times))
        return asking

    with serving(app) as client:
        try:
            asking = ask_in_background("/events/metrics", times=2)
            threads = int(float(client.ask("/own").body))
            asking += ask_in_background("/blocking", times=threads)
            assert statuses(client, "/own", "/prometheus") == [200, 200]
        finally:
            stuck.set()
        for thread in asking:
            thread.join(20)
