"""One request is one SERVER span, one count and one correlation id, however FastAPI is put together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.applications import FastAPI as ClassItself
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteTelemetry
from starlette.routing import Mount

from otel_genapp import hub
from otel_genapp.capture.fastapi import prepare
from tests.fakes import Counted, eventually
from tests.shop_apps import fastapi_shop
from tests.web_fakes import AsgiCall, Watch, fetch, instrument, uvicorn_server, watching


def plain(app: FastAPI) -> Any:
    return app


def user_contrib(app: FastAPI) -> Any:
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["send", "receive"])
    return app


def contrib_around(app: FastAPI) -> Any:
    return OpenTelemetryMiddleware(app, exclude_spans=["send", "receive"])


def starlette_telemetry(app: FastAPI) -> Any:
    app.add_middleware(StarletteTelemetry)
    return app


ARRANGEMENTS = (
    pytest.param(plain, "native", id="native"),
    pytest.param(plain, "contrib", id="contrib"),
    pytest.param(user_contrib, "native", id="contrib by the user"),
    pytest.param(user_contrib, "contrib", id="contrib twice"),
    pytest.param(contrib_around, "native", id="contrib around it"),
    pytest.param(starlette_telemetry, "native", id="starlette's middleware"),
)

TARGETS = (
    ("/items/3", 200, "/items/{item_id}"),
    ("/sync/3", 200, "/sync/{item_id}"),
    ("/files/a/b/c", 200, "/files/{path}"),
    ("/v1/outer/inner/5", 200, "/v1/outer/inner/{key}"),
    ("/sub/leaf/7", 200, "/sub/leaf/{key}"),
    ("/sub/nowhere", 404, "__unmatched__"),
    ("/tenants/acme/leaf/7", 200, "/tenants/{tenant}/leaf/{key}"),
    ("/star/x/1", 200, "/star/{path}"),
    ("/static/page.txt", 200, "/static/{path}"),
    ("/legacy/items/3", 200, "/legacy/{path}"),
    ("/legacy/broken", 500, "/legacy/{path}"),
    ("/missing", 404, "/missing"),
    ("/nowhere", 404, "__unmatched__"),
    ("/orders", 405, "/orders"),
    ("/items/x", 422, "/items/{item_id}"),
    ("/broken", 500, "/broken"),
    ("/openapi.json", 200, "/openapi.json"),
)


@pytest.fixture
def shop(tmp_path: Path) -> FastAPI:
    return fastapi_shop(tmp_path)


@pytest.fixture
def undo_contrib() -> Any:
    """Contrib patches background tasks for the whole process; this takes it back."""
    yield
    FastAPIInstrumentor.uninstrument_app(FastAPI())


@pytest.mark.parametrize(("arrange", "spans"), ARRANGEMENTS)
async def test_one_request_is_one_span_and_one_count(
    arrange: Callable[[FastAPI], Any], spans: str, shop: FastAPI, undo_contrib: None
) -> None:
    """Every kind of route and mount, under every way to make spans, gives one of each."""
    with watching("fastapi", "flask", fastapi_spans=spans) as watch:
        app = arrange(shop)
        for path, status, resource in TARGETS:
            await asked(app, path, status, resource=resource, watch=watch)


async def asked(app: Any, path: str, status: int, *, resource: str, watch: Watch) -> None:
    """One request to `app`, checked."""
    watch.exporter.clear()
    watch.families.measurements.clear()
    call = AsgiCall(path)
    try:
        await call(app)
    except ValueError:
        assert path == "/broken"
    body = sum(len(message.get("body", b"")) for message in call.sent[1:])
    span, counted = watch.one()
    assert (call.status, counted) == (status, Counted("GET", str(status), resource, "fastapi", 0, body))
    assert call.header(b"x-correlation-id") == [f"{span.context.trace_id:032x}".encode()]


def test_over_a_real_server(shop: FastAPI) -> None:
    """An application made before telemetry and behind uvicorn gives one of each."""
    with watching("fastapi") as watch, uvicorn_server(shop) as url:
        answer = fetch(f"{url}/items/3")
        span, counted = watch.one()
    assert counted == Counted("GET", "200", "/items/{item_id}", "fastapi", 0, len(answer.content))
    assert (span.name, answer.headers["x-correlation-id"]) == (
        "GET /items/{item_id}",
        f"{span.context.trace_id:032x}",
    )


@pytest.mark.parametrize(
    ("spans", "scope"), [("native", "fastapi"), ("contrib", "opentelemetry.instrumentation.fastapi")]
)
def test_telemetry_over_an_app_that_serves(spans: str, scope: str, shop: FastAPI, undo_contrib: None) -> None:
    """Requests to a running server count from the moment telemetry starts, with the spans asked for."""
    with uvicorn_server(shop) as url:
        assert "x-correlation-id" not in fetch(f"{url}/items/1").headers
        with watching("fastapi", fastapi_spans=spans) as watch:
            answer = fetch(f"{url}/items/2")
            span, counted = watch.one()
        assert "x-correlation-id" not in fetch(f"{url}/items/3").headers
    assert counted == Counted("GET", "200", "/items/{item_id}", "fastapi", 0, len(answer.content))
    assert answer.headers["x-correlation-id"] == f"{span.context.trace_id:032x}"
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == scope


async def test_an_app_imported_again(tmp_path: Path) -> None:
    """Applications made one after the other, as a reload makes them, are prepared each."""
    with watching("fastapi") as watch:
        for _ in range(5):
            app = fastapi_shop(tmp_path)
            await AsgiCall("/items/3")(app)
            del app
            gc.collect()
        assert watch.running.prepared == set()
    assert [span.kind for span in watch.exporter.get_finished_spans()] == [SpanKind.SERVER] * 5
    assert len(watch.counted()) == 5


async def test_subclasses_and_names_imported_early(tmp_path: Path) -> None:
    """The patch is on the class: a subclass made before it is covered."""

    class Shop(ClassItself):
        pass

    app = Shop()

    @app.get("/")
    async def root() -> str:
        return "root"

    with watching("fastapi") as watch:
        await AsgiCall("/")(app)
    assert [counted.resource for counted in watch.counted()] == ["/"]


async def test_mounted_in_a_router_that_is_not_fastapi(shop: FastAPI) -> None:
    """A FastAPI application inside a Starlette one is the outermost layer; the mount's template counts."""
    outside = Starlette(routes=[Mount("/shops/{name}", app=shop)])
    with watching("fastapi") as watch:
        await AsgiCall("/shops/acme/items/3")(outside)
        assert watch.one()[1].resource == "/shops/{name}/items/{item_id}"


async def test_the_root_path_is_part_of_the_route(shop: FastAPI) -> None:
    """The resource is what `http.route` is on the span."""
    with watching("fastapi") as watch:
        await AsgiCall("/api/items/3", root_path="/api")(shop)
        span, counted = watch.one()
    assert (counted.resource, (span.attributes or {})["http.route"]) == ("/api/items/{item_id}",) * 2


async def test_a_missing_slash_counts_for_its_route(shop: FastAPI) -> None:
    """A redirect to the path with a slash has the template it leads to."""
    with watching("fastapi") as watch:
        await AsgiCall("/slash")(shop)
        assert watch.one()[1] == Counted("GET", "307", "/slash/", "fastapi", 0, 0)


async def test_strange_methods_fold(shop: FastAPI) -> None:
    """A method nobody knows is `_OTHER`."""
    with watching("fastapi") as watch:
        await AsgiCall("/items/3", method="BREW")(shop)
        assert watch.one()[1].method == "_OTHER"


async def test_patched_once_and_undone() -> None:
    """Instrumenting twice counts once, and the undo leaves the class as it was."""
    original = FastAPI.__call__
    app = FastAPI()
    with watching("fastapi") as watch:
        patched = FastAPI.__call__
        second = instrument("fastapi")
        assert FastAPI.__call__ is patched
        await AsgiCall("/")(app)
        second()
        await AsgiCall("/")(app)
        assert len(watch.counted()) == 2
    assert FastAPI.__call__ is original


async def test_prepared_by_hand(shop: FastAPI) -> None:
    """An application prepared before its first request makes the one span and no operation spans."""
    with watching("fastapi") as watch:
        prepare(shop)
        await AsgiCall("/sync/3")(shop)
        assert [span.kind for span in watch.exporter.get_finished_spans()] == [SpanKind.SERVER]


async def test_without_telemetry_nothing_happens(shop: FastAPI) -> None:
    """With no hub the patched class only passes through."""
    with watching("fastapi") as watch:
        hub.set_active(None)
        prepare(shop)
        call = await AsgiCall("/items/3")(shop)
    assert (call.status, call.header(b"x-correlation-id"), watch.counted()) == (200, [], [])


async def test_errors_of_a_mounted_flask_app(shop: FastAPI) -> None:
    """What Flask turns into its own 500 inside a FastAPI application is an error all the same."""
    with watching("fastapi", "flask") as watch:
        await AsgiCall("/legacy/broken")(shop)
        assert watch.errors() == [("ValueError", "shop-bot")]


async def test_a_scope_used_again(shop: FastAPI) -> None:
    """A caller who hands the same scope in twice makes two requests, and gets it back as it was."""
    with watching("fastapi") as watch:
        call = await AsgiCall("/items/3")(shop)
        await shop(call.scope, call.receiver(), call.send)
        assert (len(watch.servers()), len(watch.counted())) == (2, 2)
    assert [key for key in call.scope if "telemetry" in key or "genapp" in key] == []


async def test_concurrent_first_requests(shop: FastAPI, undo_contrib: None) -> None:
    """Requests that arrive together while the application is prepared get one span each."""
    with watching("fastapi", fastapi_spans="contrib") as watch:
        await asyncio.gather(*(AsgiCall(f"/sync/{number}")(shop) for number in range(20)))
        assert eventually(lambda: len(watch.servers()) == 20)
    assert len({span.context.trace_id for span in watch.servers()}) == len(watch.counted()) == 20
