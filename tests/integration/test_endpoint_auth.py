"""Hostile auth headers over real sockets: 2,000 requests, 2,000 times the same 401."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask

import otel_genapp.serve.fastapi
import otel_genapp.serve.flask
from otel_genapp.config import Settings
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.exchange import DENIED
from otel_genapp.state_directory import StateDirectory
from tests.hostile_headers import KINDS, Hostile, hostile_headers
from tests.readings import FakeReading
from tests.serving import Client, uvicorn_serving, werkzeug_serving

TOKEN = b"Zt7-mask_Blue0Whale91Xo"
SETTINGS = Settings(app="shop", env="prod", internal_auth=(TOKEN.decode(),))
GATE = Gate.open(SETTINGS, StateDirectory(None))
HOSTILE = hostile_headers(TOKEN, 2000)
BY_SOCKET = [sent for sent in HOSTILE if sent.survives_a_server]
IN_PROCESS = [sent for sent in HOSTILE if not sent.survives_a_server]

Told = tuple[int, bytes, str, str]
DENIAL: Told = (401, DENIED.body, "application/json", "no-store")


def fastapi_app() -> FastAPI:
    app = FastAPI()
    otel_genapp.serve.fastapi.mount(app, FakeReading(), gate=GATE, settings=SETTINGS)
    return app


def flask_app() -> Flask:
    app = Flask("shop")
    otel_genapp.serve.flask.mount(app, FakeReading(), gate=GATE, settings=SETTINGS)
    return app


def over_socket(client: Client, values: tuple[bytes, ...]) -> Told:
    lines = b"".join(b"x-internal-auth: " + value + b"\r\n" for value in values)
    request = b"GET /events/metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + lines + b"\r\n"
    (answer,) = client.send([request])
    return answer.status, answer.body, answer.headers["content-type"], answer.headers["cache-control"]


async def over_asgi(app: Any, values: tuple[bytes, ...]) -> Told:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/events/metrics", "raw_path": b"/events/metrics", "root_path": "", "query_string": b"",
        "headers": [(b"x-internal-auth", value) for value in values], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }  # fmt: skip
    await app(scope, receive, send)
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], body, fields["content-type"], fields["cache-control"]


def over_wsgi(app: Any, values: tuple[bytes, ...]) -> Told:
    started: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_error: object) -> None:
        started.append((status, {name.lower(): value for name, value in headers}))

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/events/metrics", "QUERY_STRING": "",
        "SERVER_NAME": "a", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
    if values:
        environ["HTTP_X_INTERNAL_AUTH"] = b",".join(values).decode("latin-1")
    chunks = app(environ, start_response)
    body = b"".join(chunks)
    chunks.close()
    ((status, fields),) = started
    return int(status[:3]), body, fields["content-type"], fields["cache-control"]


def assert_all_denied(sent: list[Hostile], told: list[Told]) -> None:
    others = [(one.kind, answer) for one, answer in zip(sent, told, strict=True) if answer != DENIAL]
    assert others == []


def test_every_kind_is_tried_and_most_over_sockets() -> None:
    """All kinds of hostile headers are among the 2,000, and only what servers refuse stays off sockets."""
    assert {sent.kind for sent in HOSTILE} == set(KINDS)
    assert Counter(sent.kind for sent in IN_PROCESS).keys() <= {"huge", "junk", "wrapped", "not ascii"}
    assert len(BY_SOCKET) > 1600


@pytest.mark.slow
def test_fastapi_denies_them_all() -> None:
    """Through uvicorn and, where a server would refuse the request itself, through ASGI."""
    app = fastapi_app()
    with uvicorn_serving(app) as client:
        assert_all_denied(BY_SOCKET, [over_socket(client, sent.values) for sent in BY_SOCKET])
        assert over_socket(client, (TOKEN,))[0] == 200

    async def ask_all() -> list[Told]:
        return [await over_asgi(app, sent.values) for sent in (*IN_PROCESS, Hostile("right", (TOKEN,)))]

    *told, right = asyncio.run(ask_all())
    assert_all_denied(IN_PROCESS, told)
    assert right[0] == 200


@pytest.mark.slow
def test_flask_denies_them_all() -> None:
    """Through werkzeug's server and, where a server would refuse the request itself, through WSGI."""
    app = flask_app()
    with werkzeug_serving(app) as client:
        assert_all_denied(BY_SOCKET, [over_socket(client, sent.values) for sent in BY_SOCKET])
        assert over_socket(client, (TOKEN,))[0] == 200
    assert_all_denied(IN_PROCESS, [over_wsgi(app, sent.values) for sent in IN_PROCESS])
    assert over_wsgi(app, (TOKEN,))[0] == 200
