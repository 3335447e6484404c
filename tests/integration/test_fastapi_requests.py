"""What one FastAPI request counts: bytes, time, status and errors, to the last chunk."""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from opentelemetry import trace
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from otel_genapp import hub, semconv
from otel_genapp.capture.actions import action_tracking
from tests.fakes import Counted, eventually
from tests.shop_apps import fastapi_shop
from tests.web_fakes import AsgiCall, fetch, uvicorn_server, watching


@pytest.fixture
def shop(tmp_path: Path) -> FastAPI:
    return fastapi_shop(tmp_path)


async def test_uploads_count_what_was_read(shop: FastAPI) -> None:
    """The request's size is the sum of the chunks the application took."""
    with watching("fastapi") as watch:
        call = await AsgiCall("/upload", method="POST", body=(b"a" * 70_000, b"b" * 5))(shop)
        assert (call.sent[1]["body"], watch.one()[1]) == (
            b'{"read":70005}',
            Counted("POST", "200", "/upload", "fastapi", 70_005, 14),
        )


async def test_streams_count_to_their_end(shop: FastAPI) -> None:
    """A streamed answer is counted once, with all of its chunks."""
    with watching("fastapi") as watch:
        await AsgiCall("/stream")(shop)
        assert watch.one()[1] == Counted("GET", "200", "/stream", "fastapi", 0, 500)


async def test_background_tasks_are_not_in_the_duration(shop: FastAPI) -> None:
    """The clock stops at the last byte, not when the background task is done."""
    with watching("fastapi") as watch:
        await AsgiCall("/background")(shop)
        (duration,) = watch.families.of("http_duration")
    assert 0 < duration.value < 0.25


def test_head_has_no_body(shop: FastAPI) -> None:
    """The body an application makes for HEAD is not sent, so it is not counted."""

    @shop.head("/head")
    async def head() -> str:
        return "no server sends this"

    with watching("fastapi") as watch, uvicorn_server(shop) as url:
        assert fetch(f"{url}/head", method="HEAD").content == b""
        assert watch.one()[1] == Counted("HEAD", "200", "/head", "fastapi", 0, 0)


@pytest.mark.parametrize("extension", [True, False])
async def test_files_count_their_size(extension: bool, tmp_path: Path) -> None:
    """A file is counted whole, sent by the application or by the server."""
    app = FastAPI()
    page = tmp_path / "page.bin"
    page.write_bytes(b"p" * 100_000)

    @app.get("/page")
    async def answer() -> FileResponse:
        return FileResponse(page)

    with watching("fastapi") as watch:
        call = AsgiCall("/page", extensions={"http.response.pathsend": {}} if extension else {})
        await call(app)
        assert (call.sent[1]["type"] == "http.response.pathsend") is extension
        assert watch.one()[1] == Counted("GET", "200", "/page", "fastapi", 0, 100_000)


async def test_zero_copy_and_trailers(tmp_path: Path) -> None:
    """The extensions a server offers are counted by what they say they send; trailers end the answer."""
    app = FastAPI()

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.zerocopysend", "file": 3, "count": 4096, "more_body": True})
        await send({"type": "http.response.body", "body": b"tail"})
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    app.mount("/raw", raw)
    with watching("fastapi") as watch:
        await AsgiCall("/raw/x")(app)
        assert watch.one()[1] == Counted("GET", "200", "/raw/{path}", "fastapi", 0, 4100)


async def test_unhandled_exceptions(shop: FastAPI) -> None:
    """An unhandled exception keeps its identity and is a 500 and one error."""
    with watching("fastapi") as watch:
        with pytest.raises(ValueError, match=r"^broken$") as caught:
            await AsgiCall("/broken")(shop)
        assert watch.one()[1].status == "500"
        assert watch.errors() == [("ValueError", "shop-bot")]
    assert caught.traceback[-1].name == "broken"


async def test_handled_exceptions_are_no_errors(shop: FastAPI) -> None:
    """What the framework turns into an answer is not unhandled."""
    with watching("fastapi") as watch:
        await AsgiCall("/missing")(shop)
        await AsgiCall("/items/x")(shop)
        assert watch.errors() == []


async def test_an_error_counted_inside_is_not_counted_again() -> None:
    """An action that failed with the exception has reported it already."""
    app = FastAPI()

    @app.get("/")
    async def acts() -> None:
        with action_tracking("menu_handler"):
            raise ValueError("inside")

    with watching("fastapi") as watch:
        with pytest.raises(ValueError, match="inside"):
            await AsgiCall("/")(app)
        assert watch.errors() == [("ValueError", "shop-bot")]


async def test_failure_in_mid_stream_is_a_500(shop: FastAPI) -> None:
    """After the status was sent a failure still counts as one."""
    with watching("fastapi") as watch:
        with pytest.raises(RuntimeError, match="mid-stream"):
            await AsgiCall("/stream-broken")(shop)
        assert watch.one()[1] == Counted("GET", "500", "/stream-broken", "fastapi", 0, 100)
        assert watch.errors() == [("RuntimeError", "shop-bot")]


async def test_failure_in_the_background(shop: FastAPI) -> None:
    """A background task that fails leaves the request a success and is an error."""
    with watching("fastapi") as watch:
        with pytest.raises(KeyError):
            await AsgiCall("/background-broken")(shop)
        assert (watch.one()[1].status, watch.errors()) == ("200", [("KeyError", "shop-bot")])


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_caller_who_leaves_is_a_499(spec_version: str, shop: FastAPI) -> None:
    """A stream nobody listens to any more counts as 499, with what was sent, and is no error."""
    with watching("fastapi") as watch:
        call = AsgiCall("/stream-endless", leaves_after=3, spec_version=spec_version)
        with pytest.raises(ClientDisconnect) if spec_version == "2.4" else nullcontext():
            await call(shop)
        counted = watch.one()[1]
    assert (counted.status, counted.response_bytes) == ("499", sum(len(m["body"]) for m in call.sent[1:]))
    assert watch.errors() == []


def test_a_real_caller_who_leaves(shop: FastAPI) -> None:
    """A connection closed in mid-stream counts as 499."""
    with watching("fastapi") as watch, uvicorn_server(shop) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /stream-endless HTTP/1.1\r\nHost: shop\r\n\r\n")
            connection.recv(4096)
        assert eventually(lambda: bool(watch.counted()))
        assert [counted.status for counted in watch.counted()] == ["499"]


@pytest.mark.parametrize("steps", range(6))
async def test_cancellation_is_delivered(steps: int, shop: FastAPI) -> None:
    """A request cancelled anywhere ends with the cancellation and one count at most."""
    with watching("fastapi") as watch:
        task = asyncio.ensure_future(AsgiCall("/stream-endless")(shop))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [counted.status for counted in watch.counted()] == ["499"] * (steps > 0)
        assert (watch.errors(), trace.get_current_span()) == ([], trace.INVALID_SPAN)


async def test_an_application_that_never_answers() -> None:
    """Without any status the request counts as `error`."""
    app = FastAPI()

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return None

    app.mount("/silent", silent)
    with watching("fastapi") as watch:
        await AsgiCall("/silent/x")(app)
        assert watch.one()[1] == Counted("GET", semconv.STATUS_ERROR, "/silent/{path}", "fastapi", 0, 0)


async def test_an_answer_broken_off() -> None:
    """A body the application leaves open is its failure."""
    app = FastAPI()

    async def open_ended(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})

    app.mount("/open", open_ended)
    with watching("fastapi") as watch:
        await AsgiCall("/open/x")(app)
        assert watch.one()[1] == Counted("GET", "500", "/open/{path}", "fastapi", 0, 4)


async def test_middlewares_of_the_application(shop: FastAPI) -> None:
    """Behind a BaseHTTPMiddleware, which moves the application to another task, all stays the same."""

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    shop.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    with watching("fastapi") as watch:
        call = await AsgiCall("/upload", method="POST", body=(b"abc",))(shop)
        span, counted = watch.one()
    assert counted == Counted("POST", "200", "/upload", "fastapi", 3, 10)
    assert call.header(b"x-correlation-id") == [f"{span.context.trace_id:032x}".encode()]


def test_websockets_have_a_span_and_no_count(shop: FastAPI) -> None:
    """A websocket is one SERVER span; what is unhandled in it is an error; it is accepted with its id."""
    with watching("fastapi") as watch, TestClient(shop) as client:
        with client.websocket_connect("/ws/lobby") as session:
            session.send_text("hello")
            assert session.receive_text() == "hello"
            accepted: Any = session
            headers = dict(accepted.extra_headers)
        broken = client.websocket_connect("/ws/broken")
        with pytest.raises(ValueError, match="broken"), broken as session:
            session.send_text("hello")
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws/left") as session:
            session.close()
        assert eventually(lambda: len(watch.servers()) == 3)
    assert headers[b"x-correlation-id"].decode() == f"{watch.servers()[0].context.trace_id:032x}"
    assert (watch.counted(), watch.errors()) == ([], [("ValueError", "shop-bot")])


async def test_measurements_carry_the_span(shop: FastAPI) -> None:
    """Each of them has a context in which the SERVER span is current, for exemplars."""
    with watching("fastapi") as watch:
        await AsgiCall("/items/3")(shop)
        with pytest.raises(ValueError, match="broken"):
            await AsgiCall("/broken")(shop)
        seen = {
            trace.get_current_span(measurement.context).get_span_context().span_id
            for measurement in watch.families.measurements
        }
    assert seen == {span.context.span_id for span in watch.servers()}


class BrokenFamily:
    """A family that fails."""

    def record(self, *_given: Any, **_by_name: Any) -> None:
        raise RuntimeError("planted")


@pytest.mark.expected_own_errors
async def test_own_failures_stay_inside(shop: FastAPI, own_errors: list[Any]) -> None:
    """Broken telemetry changes no answer; its errors are reported."""
    with watching("fastapi") as watch:
        for name in ("http", "errors"):
            setattr(watch.families, name, BrokenFamily())
        call = await AsgiCall("/items/3")(shop)
        with pytest.raises(ValueError, match=r"^broken$"):
            await AsgiCall("/broken")(shop)
    assert call.status == 200
    assert [(own.site, str(own.error)) for own in own_errors] == [("capture", "planted")] * 3


@pytest.mark.expected_own_errors
async def test_a_scope_nobody_understands(shop: FastAPI) -> None:
    """A request our layer cannot read is served without it."""
    with watching("fastapi") as watch:
        call = AsgiCall("/sync/3", client=("127.0.0.1", 1))
        watch.running.trusted = None  # type: ignore[assignment] # the planted fault
        await call(shop)
    assert (call.status, call.header(b"x-correlation-id"), watch.counted()) == (200, [], [])


def test_lifespan_delivers_before_the_server_ends(shop: FastAPI) -> None:
    """What telemetry holds is flushed, off the event loop, before the shutdown is confirmed."""
    flushed: list[tuple[float, bool]] = []

    def flush(timeout_s: float) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            flushed.append((timeout_s, True))
        else:
            flushed.append((timeout_s, False))
        return True

    with watching("fastapi") as watch:
        watch.running.flush = flush
        with uvicorn_server(shop) as url:
            fetch(f"{url}/items/3")
            assert flushed == []
        assert flushed == [(5.0, True)]


@pytest.mark.expected_own_errors
def test_a_failing_flush_does_not_stop_the_shutdown(shop: FastAPI, own_errors: list[Any]) -> None:
    """The server hears of the shutdown whatever delivery does; telemetry may start after the server."""

    def flush(timeout_s: float) -> bool:
        raise RuntimeError("planted")

    with watching("fastapi") as watch:
        running = watch.running
        hub.set_active(None)
        with TestClient(shop):
            running.flush = flush
            hub.set_active(running)
    assert [own.site for own in own_errors] == ["lifecycle"]
