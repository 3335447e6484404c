"""What one Flask request counts, whose it is, and what reaches the application untouched."""

from __future__ import annotations

import gc
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import flask
import pytest
from opentelemetry import trace
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import create_environ

from otel_genapp.capture import flask as capture
from otel_genapp.context import Bound, bind, bound_in, current
from tests import shop_apps
from tests.fakes import Counted, eventually
from tests.shop_apps import flask_shop
from tests.web_fakes import fetch, watching, wsgi_server

TRACEPARENT = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}


@pytest.fixture
def shop() -> flask.Flask:
    app = flask_shop()

    @app.get("/who")
    def who() -> dict[str, str | None]:
        bound = current()
        trace_id = f"{trace.get_current_span().get_span_context().trace_id:032x}"
        return {"correlation": bound.correlation_id, "session": bound.session_id, "trace": trace_id}

    @app.get("/who/stream")
    def who_stream() -> flask.Response:
        return flask.Response(f"{current().correlation_id}/{current().session_id};" for _ in range(2))

    return app


class Answer:
    """What an application answered to a WSGI call made by hand."""

    def __init__(self, app: Any, path: str, **environ: Any) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        defaults = {"REMOTE_ADDR": "127.0.0.1"}
        self.environ = {**create_environ(path), **defaults, **environ}
        self.body: Any = app(self.environ, self._start_response)

    def _start_response(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return self.headers.append

    def header(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def read(self) -> bytes:
        """The whole body, closed."""
        try:
            return b"".join(self.body)
        finally:
            self.body.close()


def test_uploads_count_what_was_read(shop: flask.Flask) -> None:
    """The request's size is what the application read; a body nobody reads counts 0."""
    with watching("flask") as watch, wsgi_server(shop) as url:
        fetch(f"{url}/upload", method="POST", body=b"u" * 70_000)
        assert eventually(lambda: len(watch.counted()) == 1)
        fetch(f"{url}/deaf", method="POST", body=b"u" * 100)
        assert eventually(lambda: len(watch.counted()) == 2)
        assert watch.counted() == [
            Counted("POST", "200", "/upload", "flask", 70_000, 15),
            Counted("POST", "200", "/deaf", "flask", 0, 6),
        ]


def test_every_way_to_read_is_counted() -> None:
    """Lines, pieces and buffers of the input are counted, and its other attributes are the server's."""
    app = flask.Flask("reads")

    @app.post("/")
    def read() -> str:
        stream = flask.request.environ["wsgi.input"]
        buffer = bytearray(4)
        first = [stream.readline(), stream.read(3), stream.read1(2), *stream.readlines(5)]
        first.append(buffer[: stream.readinto(buffer)])
        return repr((b"".join([*first, *stream]), stream.seekable()))

    with watching("flask") as watch:
        lines = b"".join(b"line %d\n" % number for number in range(10))
        answer = Answer(app, "/", REQUEST_METHOD="POST", **{"wsgi.input": io.BytesIO(lines)})
        assert answer.read() == repr((lines, True)).encode()
        assert watch.one()[1].request_bytes == len(lines)


@pytest.mark.parametrize("path", ["/stream", "/stream-with-context"])
def test_streams_count_to_their_end(path: str, shop: flask.Flask) -> None:
    """A streamed answer is counted once, when its last chunk is made, in all of its time."""
    with watching("flask") as watch:
        answer = Answer(shop, path)
        next(answer.body)
        assert watch.counted() == []
        answer.read()
        assert [(counted.status, counted.resource) for counted in watch.counted()] == [("200", path)]
        assert watch.counted()[0].response_bytes == 5 * (100 if path == "/stream" else len(path))
        assert (bound_in(None).correlation_id, trace.get_current_span()) == (None, trace.INVALID_SPAN)


def test_streams_keep_their_ids(shop: flask.Flask) -> None:
    """Every chunk is made for the same request, although the view has long returned."""
    ids = {"HTTP_X_REQUEST_ID": "r-1", "HTTP_X_SESSION_ID": "s-1"}
    with watching("flask"):
        assert Answer(shop, "/who/stream", **ids).read() == b"r-1/s-1;r-1/s-1;"
        assert bound_in(None) == Bound()


def test_failure_in_mid_stream_is_a_500(shop: flask.Flask) -> None:
    """After the status was sent a failure still counts as one, and passes through."""
    with watching("flask") as watch:
        answer = Answer(shop, "/stream-broken")
        with pytest.raises(RuntimeError, match="mid-stream"):
            answer.read()
        assert watch.counted() == [Counted("GET", "500", "/stream-broken", "flask", 0, 100)]
        assert watch.errors() == [("RuntimeError", "shop-bot")]


@pytest.mark.parametrize("end", ["close", "forget"])
def test_a_caller_who_leaves_is_a_499(end: str, shop: flask.Flask) -> None:
    """A body closed, or dropped, before its end counts as 499 with what was taken."""
    with watching("flask") as watch:
        answer = Answer(shop, "/stream")
        next(answer.body)
        if end == "close":
            answer.body.close()
        del answer
        gc.collect()
        assert watch.counted() == [Counted("GET", "499", "/stream", "flask", 0, 100)]
        assert watch.errors() == []


def test_a_complete_body_that_is_closed_is_complete(shop: flask.Flask) -> None:
    """A server that stops at the declared length has sent everything."""
    with watching("flask") as watch:
        answer = Answer(shop, "/items/3")
        next(answer.body)
        answer.body.close()
        assert watch.one()[1].status == "200"


def test_a_real_caller_who_leaves() -> None:
    """A connection closed in mid-stream counts as 499 over a real server."""
    app = flask.Flask("endless")
    left = threading.Event()

    @app.get("/")
    def endless() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            yield b"x"
            left.wait(10)
            while True:
                yield b"x" * 100_000

        return flask.Response(chunks())

    with watching("flask") as watch, wsgi_server(app) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            connection.recv(4096)
        left.set()
        assert eventually(lambda: bool(watch.counted()))
        assert [counted.status for counted in watch.counted()] == ["499"]


class QuietHandler(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        return None


def test_files_the_server_sends_by_itself(shop: flask.Flask) -> None:
    """A file goes to the server in the server's own wrapper and is counted whole."""
    size = Path(shop_apps.__file__).stat().st_size
    with watching("flask") as watch, make_server("127.0.0.1", 0, shop, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        answer = fetch(f"http://127.0.0.1:{server.server_port}/file")
        assert eventually(lambda: bool(watch.counted()))
        server.shutdown()
        thread.join()
    assert len(answer.content) == size
    assert watch.counted() == [Counted("GET", "200", "/file", "flask", 0, size)]


def test_the_servers_wrapper_stays_what_it_is(shop: flask.Flask) -> None:
    """A server finds its own file wrapper by type, and closing it counts and closes."""

    class Wrapper:
        def __init__(self, file: Any, _size: int = 8192) -> None:
            self.file = file
            self.close = file.close

    with watching("flask") as watch:
        answer = Answer(shop, "/file", **{"wsgi.file_wrapper": Wrapper})
        assert (type(answer.body), watch.counted()) == (Wrapper, [])
        answer.body.close()
        assert (answer.body.file.closed, watch.one()[1].status) == (True, "200")


def test_unhandled_exceptions(shop: flask.Flask) -> None:
    """What Flask turns into its 500 is one error; what it passes on keeps its identity and is one too."""
    with watching("flask") as watch:
        Answer(shop, "/broken").read()
        shop.testing = True
        with pytest.raises(ValueError, match=r"^broken$") as caught:
            Answer(shop, "/broken")
        assert [(counted.status, counted.resource) for counted in watch.counted()] == [
            ("500", "/broken"),
            ("error", "/broken"),
        ]
        assert watch.errors() == [("ValueError", "shop-bot")] * 2
    assert caught.traceback[-1].name == "broken"


def test_handled_exceptions_are_no_errors(shop: flask.Flask) -> None:
    """What an error handler answers is not unhandled."""
    shop.register_error_handler(ValueError, lambda _error: ("sorry", 409))
    with watching("flask") as watch:
        Answer(shop, "/broken").read()
        Answer(shop, "/missing").read()
        assert ([counted.status for counted in watch.counted()], watch.errors()) == (["409", "404"], [])


def test_the_old_way_to_write_is_counted() -> None:
    """Bytes given to the server's `write` count like those of the body."""
    app = flask.Flask("writes")

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"12345")
        return [b"678"]

    app.wsgi_app = wsgi_app  # type: ignore[method-assign] # as its docs say
    with watching("flask") as watch:
        assert Answer(app, "/").read() == b"678"
        assert watch.one()[1].response_bytes == 8


@pytest.mark.parametrize(
    "path", ["/items/3", "/nowhere", "/missing", "/stream", "/broken", "/own-header", "/slash", "/file"]
)
def test_every_answer_has_the_id_once(path: str, shop: flask.Flask) -> None:
    """Errors, streams, redirects and answers with a header of their own carry exactly the request's id."""
    with watching("flask"):
        answer = Answer(shop, path, HTTP_X_CORRELATION_ID="c-1")
        answer.read()
    assert answer.header("x-correlation-id") == ["c-1"]


@pytest.mark.parametrize("bad", ["", "x" * 129, "with space", "a\r\nset-cookie: x", "\xff", "a\x00b"])
def test_a_bad_id_is_replaced_by_the_trace_id(bad: str, shop: flask.Flask) -> None:
    """What is malformed is neither kept nor sent back."""
    with watching("flask"):
        answer = Answer(shop, "/who", HTTP_X_CORRELATION_ID=bad)
        seen = json.loads(answer.read())
    assert [seen["correlation"]] == [seen["trace"]] == answer.header("x-correlation-id")


def test_bind_wins_where_a_header_can_say_it() -> None:
    """An id bound around the answer is sent, unless it is no text for a header."""
    app = flask.Flask("bound")

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        with bind(correlation_id=environ["PATH_INFO"].removeprefix("/")):
            start_response("200 OK", [])
        return []

    app.wsgi_app = wsgi_app  # type: ignore[method-assign] # as its docs say
    with watching("flask") as watch:
        answers = [Answer(app, path) for path in ("/ticket-5", "/bad id")]
        for answer in answers:
            answer.read()
        trace_id = f"{watch.servers()[1].context.trace_id:032x}"
    assert [answer.header("x-correlation-id") for answer in answers] == [["ticket-5"], [trace_id]]


PEERS = (
    pytest.param({"REMOTE_ADDR": "127.0.0.1"}, True, id="loopback"),
    pytest.param({"REMOTE_ADDR": ""}, True, id="unix socket"),
    pytest.param({"REMOTE_ADDR": "8.8.8.8"}, False, id="stranger"),
    pytest.param({"REMOTE_ADDR": "10.0.0.2", "HTTP_X_FORWARDED_FOR": "8.8.8.8"}, False, id="behind a proxy"),
    pytest.param(
        {"REMOTE_ADDR": "10.0.0.2", "HTTP_X_FORWARDED_FOR": "10.0.0.9"}, True, id="private behind it"
    ),
)


@pytest.mark.parametrize(("peer", "trusted"), PEERS)
def test_only_trusted_peers_decide_trace_and_session(
    peer: dict[str, str], trusted: bool, shop: flask.Flask
) -> None:
    """The peer is whom a proxy middleware names; anyone's correlation id counts."""
    shop.wsgi_app = ProxyFix(shop.wsgi_app)  # type: ignore[method-assign] # as its docs say
    headers = {
        "HTTP_TRACEPARENT": TRACEPARENT["traceparent"],
        "HTTP_X_SESSION_ID": "s",
        "HTTP_X_REQUEST_ID": "r",
    }
    with watching("flask"):
        seen = json.loads(Answer(shop, "/who", **peer, **headers).read())
    assert (seen["session"], seen["trace"] == "a" * 32, seen["correlation"]) == (
        "s" if trusted else None,
        trusted,
        "r",
    )


def test_without_the_instrumentor(shop: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted, and the reason why there are no spans is at hand."""
    monkeypatch.setattr(capture, "_CONTRIB", "opentelemetry.instrumentation_absent.flask")
    with watching("flask") as watch:
        answer = Answer(shop, "/items/3")
        answer.read()
        assert (len(watch.counted()), watch.servers()) == (1, [])
        assert len(answer.header("x-correlation-id")[0]) == 32
    assert capture.span_source() == (
        "none",
        "'opentelemetry-instrumentation-flask' is not installed. Run: pip install 'otel-genapp[flask]'",
    )


class BrokenFamily:
    """A family that fails."""

    def record(self, *_given: Any, **_by_name: Any) -> None:
        raise RuntimeError("planted")


@pytest.mark.expected_own_errors
def test_own_failures_stay_inside(shop: flask.Flask, own_errors: list[Any]) -> None:
    """Broken telemetry changes no answer; its errors are reported."""
    with watching("flask") as watch:
        for name in ("http", "errors"):
            setattr(watch.families, name, BrokenFamily())
        assert Answer(shop, "/items/3").read() == b'{"item":3}\n'
        Answer(shop, "/broken").read()
    assert [(own.site, str(own.error)) for own in own_errors] == [("capture", "planted")] * 3
