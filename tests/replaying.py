"""Recorded answers played again over real sockets, with the host of the URL kept as it was.

A `Player` listens on loopback and answers each connection's requests with the bytes it was given,
cut where it was told; `client(module, player)` is a client of httpx or httpx2 that connects there
whatever host its URLs name.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

_SKIPPED = frozenset({"content-length", "transfer-encoding", "connection", "content-encoding"})


@dataclass(frozen=True)
class Recorded:
    """One answer: `pieces` are sent one by one, as chunks of a chunked body."""

    status: int
    headers: Mapping[str, str]
    pieces: Sequence[bytes]
    encoding: str = ""

    @cached_property
    def wire(self) -> bytes:
        """The whole answer, head and chunks."""
        lines = [b"HTTP/1.1 %d Played\r\n" % self.status]
        for name, value in self.headers.items():
            if name.lower() not in _SKIPPED:
                lines.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        if self.encoding:
            lines.append(f"content-encoding: {self.encoding}\r\n".encode())
        lines.append(b"transfer-encoding: chunked\r\n\r\n")
        lines.extend(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces if piece)
        return b"".join([*lines, b"0\r\n\r\n"])


def cut(body: bytes, chance: random.Random, *, most: int = 64) -> list[bytes]:
    """`body` in pieces of random sizes, at most `most` of them."""
    if not body:
        return []
    count = chance.randint(1, min(most, len(body)))
    places = sorted(chance.sample(range(1, len(body)), count - 1)) if count > 1 else []
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


@dataclass
class Player:
    """Answers with `recorded`, which may be exchanged between requests."""

    recorded: Recorded = field(default_factory=lambda: Recorded(200, {}, []))
    port: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as reader:
            while _read_request(reader):
                try:
                    connection.sendall(self.recorded.wire)
                except OSError:
                    return


def _read_request(reader: Any) -> bool:
    line = reader.readline()
    if not line:
        return False
    length = 0
    while (header := reader.readline()) not in {b"\r\n", b""}:
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    reader.read(length)
    return True


def client(module: Any, player: Player, **settings: Any) -> Any:
    """A sync client of `module` whose every connection goes to `player`; URLs are http."""
    transport = module.HTTPTransport()
    backend = transport._pool._network_backend
    original = backend.connect_tcp

    def connect_tcp(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return original("127.0.0.1", player.port, *args, **kwargs)

    backend.connect_tcp = connect_tcp
    return module.Client(transport=transport, timeout=20, **settings)
