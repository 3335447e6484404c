"""Real servers on loopback for the apps under test, and a client that sends bytes as they are."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What a server sent: status, body, and the header fields by lower-case name."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Client:
    """Asks one server on loopback."""

    port: int

    def ask(self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """The answer over a connection of its own; `target` is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, target, headers=dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), fields)
        finally:
            connection.close()

    def send(self, requests: list[bytes]) -> list[Answer]:
        """The answers to raw requests, one connection each."""
        return [self._send(request) for request in requests]

    def _send(self, request: bytes) -> Answer:
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            fields = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, response.read(), fields)
            response.close()
            return answer


@contextmanager
def uvicorn_serving(app: Any) -> Iterator[Client]:
    """`app` on a uvicorn in a thread."""
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_level="critical", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not server.started:
                assert time.monotonic() < deadline, "uvicorn did not start"
                assert thread.is_alive(), "uvicorn stopped at once"
                threading.Event().wait(0.005)
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        pass


@contextmanager
def werkzeug_serving(app: Any) -> Iterator[Client]:
    """`app` on werkzeug's threaded server in a thread."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(server.port)
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()
