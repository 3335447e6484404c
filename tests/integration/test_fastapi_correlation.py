"""Whose request it is: correlation ids, sessions and trace context, believed as far as configured."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_genapp.context import bind, bound_in, current
from tests.fakes import eventually
from tests.shop_apps import fastapi_shop
from tests.web_fakes import AsgiCall, uvicorn_server, watching

STRANGER = ("8.8.8.8", 40000)
TRACEPARENT = (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")


@pytest.fixture
def shop(tmp_path: Path) -> FastAPI:
    app = fastapi_shop(tmp_path)

    @app.get("/who")
    async def who() -> dict[str, str | None]:
        bound = current()
        return {"correlation": bound.correlation_id, "session": bound.session_id, "trace": _trace_id()}

    @app.get("/who/stream")
    async def who_stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for _ in range(2):
                yield f"{current().correlation_id}/{current().session_id};"

        return StreamingResponse(chunks())

    return app


def _trace_id() -> str:
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def who(
    app: FastAPI, *headers: tuple[bytes, bytes], client: tuple[str, int] | None = None
) -> dict[str, str | None]:
    """What the application sees of a request with these headers, and the id it was answered with."""
    call = AsgiCall("/who", headers=headers, client=client)
    await call(app)
    answer: dict[str, str | None] = json.loads(call.sent[1]["body"])
    (answered,) = call.header(b"x-correlation-id")
    return {**answer, "answered": answered.decode()}


ID_HEADERS = (
    pytest.param(((b"x-correlation-id", b"order-1:2.3_4"),), "order-1:2.3_4", id="correlation id"),
    pytest.param(((b"x-request-id", b"req-1"),), "req-1", id="request id"),
    pytest.param(((b"x-request-id", b"req-1"), (b"x-correlation-id", b"c-1")), "c-1", id="both"),
    pytest.param(((b"x-correlation-id", b"bad id"), (b"x-request-id", b"req-1")), "req-1", id="first valid"),
    pytest.param(((b"x-correlation-id", b"one"), (b"x-correlation-id", b"two")), "one", id="repeated"),
    pytest.param(((b"x-correlation-id", b"x" * 128),), "x" * 128, id="longest"),
)


@pytest.mark.parametrize("client", [("127.0.0.1", 1), STRANGER, None])
@pytest.mark.parametrize(("headers", "expected"), ID_HEADERS)
async def test_a_valid_id_is_taken_from_anyone(
    headers: tuple[tuple[bytes, bytes], ...], expected: str, client: tuple[str, int] | None, shop: FastAPI
) -> None:
    """Application, answer and everybody's spans have the id of the header."""
    with watching("fastapi"):
        seen = await who(shop, *headers, client=client)
    assert (seen["correlation"], seen["answered"]) == (expected, expected)


BAD_IDS = (
    b"", b"x" * 129, b"with space", b"a\r\nset-cookie: x", b"a=b", b"\xff\xfe", "ідентифікатор".encode(), b"a\x00b",
    b"sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH", b"x" * 65536,
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_a_bad_id_is_replaced_by_the_trace_id(bad: bytes, shop: FastAPI) -> None:
    """What is malformed or looks like a secret is neither kept nor sent back."""
    with watching("fastapi"):
        seen = await who(shop, (b"x-correlation-id", bad))
    assert seen["correlation"] == seen["answered"] == seen["trace"]


async def test_trusted_peers_decide_trace_and_session(shop: FastAPI) -> None:
    """From a peer on this host the trace context and the session id count; a unix socket is on this host."""
    with watching("fastapi") as watch:
        for client in (("127.0.0.1", 1), ("10.1.2.3", 1), None):
            seen = await who(shop, TRACEPARENT, (b"x-session-id", b"chat-7"), client=client)
            assert (seen["trace"], seen["session"]) == ("a" * 32, "chat-7")
    assert {span.parent.span_id for span in watch.servers() if span.parent} == {int("b" * 16, 16)}


async def test_strangers_do_not(shop: FastAPI) -> None:
    """From an untrusted peer only the correlation id is taken: no parent, no session, no sampling."""
    with watching("fastapi") as watch:
        seen = await who(
            shop, TRACEPARENT, (b"x-session-id", b"chat-7"), (b"x-request-id", b"r-1"), client=STRANGER
        )
    assert (seen["session"], seen["correlation"], seen["answered"]) == (None, "r-1", "r-1")
    assert (seen["trace"] == "a" * 32, [span.parent for span in watch.servers()]) == (False, [None])


async def test_trust_is_a_setting(shop: FastAPI) -> None:
    """Whom to believe is configured."""
    with watching("fastapi", trust_incoming="8.8.8.0/24"):
        believed = await who(shop, TRACEPARENT, client=STRANGER)
        doubted = await who(shop, TRACEPARENT, client=("127.0.0.1", 1))
    assert (believed["trace"] == "a" * 32, doubted["trace"] == "a" * 32) == (True, False)


@pytest.mark.parametrize(
    "path",
    [
        "/items/3",
        "/nowhere",
        "/missing",
        "/items/x",
        "/orders",
        "/stream",
        "/broken",
        "/own-header",
        "/slash",
    ],
)
async def test_every_answer_has_the_id_once(path: str, shop: FastAPI) -> None:
    """Errors, streams, redirects and answers with a header of their own carry exactly the request's id."""
    with watching("fastapi"):
        call = AsgiCall(path, headers=((b"x-correlation-id", b"c-1"),))
        try:
            await call(shop)
        except ValueError:
            assert path == "/broken"
    assert call.header(b"x-correlation-id") == [b"c-1"]


async def test_unsampled_requests_have_their_trace_id(shop: FastAPI) -> None:
    """Sampling takes the span, not the id."""
    with watching("fastapi", sampler=ALWAYS_OFF):
        seen = await who(shop)
    assert seen["correlation"] == seen["answered"] == seen["trace"] != "0" * 32


async def test_without_any_span_there_is_an_id() -> None:
    """An application that switched its spans off still answers with an id."""
    app = FastAPI(telemetry={"tracing": False})
    with watching("fastapi") as watch:
        call = await AsgiCall("/nowhere")(app)
    (answered,) = call.header(b"x-correlation-id")
    assert (len(answered), int(answered, 16) > 0, len(watch.counted()), watch.servers()) == (32, True, 1, [])


async def test_bind_wins_where_a_header_can_say_it(shop: FastAPI) -> None:
    """An id bound around the answer is sent, unless it is no text for a header."""

    async def bound(scope: Any, receive: Any, send: Any) -> None:
        with bind(correlation_id=scope["path"].removeprefix("/bound/")):
            await PlainTextResponse("bound")(scope, receive, send)

    shop.mount("/bound", bound)
    with watching("fastapi") as watch:
        answers = [await AsgiCall(f"/bound/{bound_id}")(shop) for bound_id in ("ticket-5", "bad\r\nid")]
        trace_id = f"{watch.servers()[1].context.trace_id:032x}".encode()
    assert [call.header(b"x-correlation-id") for call in answers] == [[b"ticket-5"], [trace_id]]


async def test_one_response_object_for_every_request() -> None:
    """A response an application keeps and sends again is left as it is."""
    app = FastAPI()
    kept = PlainTextResponse("kept")

    @app.get("/")
    async def root() -> PlainTextResponse:
        return kept

    with watching("fastapi"):
        answered = [(await AsgiCall("/", headers=((b"x-request-id", name),))(app)) for name in (b"a", b"b")]
    assert [call.header(b"x-correlation-id") for call in answered] == [[b"a"], [b"b"]]
    assert "x-correlation-id" not in kept.headers


async def test_streams_keep_their_ids(shop: FastAPI) -> None:
    """Every chunk is made for the same request."""
    with watching("fastapi"):
        call = AsgiCall("/who/stream", headers=((b"x-request-id", b"r-1"), (b"x-session-id", b"s-1")))
        await call(shop)
    assert b"".join(message.get("body", b"") for message in call.sent) == b"r-1/s-1;r-1/s-1;"


async def test_the_callers_context_is_given_back(shop: FastAPI) -> None:
    """After a request nothing of it is current."""
    with watching("fastapi"):
        await who(shop, (b"x-correlation-id", b"c-1"), (b"x-session-id", b"s-1"))
        assert (bound_in(None).correlation_id, trace.get_current_span()) == (None, trace.INVALID_SPAN)


async def test_a_call_from_inside_a_request_is_its_own(shop: FastAPI) -> None:
    """A request made in process does not inherit the ids of the request that made it."""

    @shop.get("/nested")
    async def nested() -> dict[str, str | None]:
        return await who(shop)

    with watching("fastapi") as watch:
        call = await AsgiCall("/nested", headers=((b"x-correlation-id", b"outer"), (b"x-session-id", b"s")))(
            shop
        )
        inner = json.loads(call.sent[1]["body"])
    assert call.header(b"x-correlation-id") == [b"outer"]
    assert (inner["correlation"], inner["session"]) == (inner["trace"], None)
    assert (len(watch.servers()), len(watch.counted())) == (2, 2)


def test_bodies_that_make_the_reader_pause(shop: FastAPI) -> None:
    """100 keep-alive POSTs of 70 kB are 100 traces, each with its own correlation id."""
    body = b"x" * 70_000
    with watching("fastapi") as watch, uvicorn_server(shop) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        answered = []
        for number in range(100):
            connection.request("POST", "/upload", body, headers={"x-correlation-id": f"post-{number}"})
            response = connection.getresponse()
            assert response.read() == b'{"read":70000}'
            answered.append(response.headers["x-correlation-id"])
        connection.close()
        assert eventually(lambda: len(watch.servers()) == len(watch.counted()) == 100)
    spans = watch.servers()
    assert answered == [f"post-{number}" for number in range(100)]
    assert len({span.context.trace_id for span in spans}) == len(spans) == 100
    assert [span.parent for span in spans] == [None] * 100
    assert [counted.request_bytes for counted in watch.counted()] == [70_000] * 100
