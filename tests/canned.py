"""An HTTP/1.1 server whose answers are written out in the test, and which keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Canned:
    """One answer: its pieces are sent one by one. `cut` breaks the connection off after them."""

    pieces: Iterable[bytes] = (b"",)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


Respond = Callable[[Asked], Canned]


class CannedServer:
    """Where it listens, and what it was asked so far."""

    def __init__(self, respond: Respond) -> None:
        self.asked: list[Asked] = []
        self.hung_up = threading.Event()
        """A client left before its answer was sent."""
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                canned.asked.append(asked)
                try:
                    _send(self, respond(asked))
                except OSError:
                    self.close_connection = True
                    canned.hung_up.set()

            do_GET = do_POST = handle_any  # noqa: N815 - as the base class looks for them

            def log_message(self, *_words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(DEADLINE_S)
        self._server.server_close()


@contextmanager
def serving(respond: Respond) -> Iterator[CannedServer]:
    """A server that answers as `respond` says."""
    server = CannedServer(respond)
    try:
        yield server
    finally:
        server.close()


def _send(handler: BaseHTTPRequestHandler, answer: Canned) -> None:
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for piece in answer.pieces:
        if piece:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            handler.wfile.flush()
    if answer.cut:
        handler.close_connection = True
    else:
        handler.wfile.write(b"0\r\n\r\n")
