"""HTTP/1.1 on a socket: requests read whole, answers written piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from otel_genapp.secrets import REDACTED

_HEAD_LIMIT_BYTES = 64 * 1024
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_CREDENTIALS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
)


class ClientGoneError(Exception):
    """The client closed the connection."""


class BadHTTPError(Exception):
    """What came in is no HTTP/1.1 request this server takes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One whole request. Header names are in lower case, credentials are blanked."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    http11: bool

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return self.http11 and self.headers.get("connection", "").lower() != "close"


class Connection(asyncio.StreamReaderProtocol):
    """One client: a reader, a writer that counts, and the news that the client has left."""

    def __init__(self, opened: Callable[[Connection], None]) -> None:
        self.reader = asyncio.StreamReader(limit=_HEAD_LIMIT_BYTES)
        self.bytes_sent = 0
        self._opened = opened
        self._gone = asyncio.Event()
        super().__init__(self.reader, self._connected)

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        super().connection_lost(exc)

    async def read(self) -> Received | None:
        """The next request, or None when the client has closed the connection.

        Raises:
            BadHTTPError: what came is not a request.
        """
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise BadHTTPError(431, "The headers are too large.") from None
        except (asyncio.IncompleteReadError, OSError):
            return None
        line, *rows = head[:-4].decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"}:
            raise BadHTTPError(400, "Not an HTTP/1.1 request.")
        headers: dict[str, str] = {}
        for row in rows:
            name, _, value = row.partition(":")
            name = name.strip().lower()
            value = REDACTED if name in _CREDENTIALS else value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            body = await self._read_body(headers)
        except (asyncio.IncompleteReadError, OSError):
            return None
        path, _, query = words[1].partition("?")
        http11 = words[2] == "HTTP/1.1"
        return Received(method=words[0], path=path, query=query, headers=headers, body=body, http11=http11)

    async def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces: list[bytes] = []
            while size := _chunk_size(await self.reader.readuntil(b"\r\n")):
                if sum(map(len, pieces)) + size > _BODY_LIMIT_BYTES:
                    raise BadHTTPError(413, "The body is too large.")
                pieces.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(pieces)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise BadHTTPError(400, "Content-Length is no number.")
        if int(length) > _BODY_LIMIT_BYTES:
            raise BadHTTPError(413, "The body is too large.")
        return await self.reader.readexactly(int(length))

    def write(self, data: bytes) -> None:
        """Hand `data` to the kernel, as far as it takes it at once.

        Raises:
            ClientGoneError: nobody is there to read it.
        """
        if self._gone.is_set():
            raise ClientGoneError
        self._writer.write(data)
        self.bytes_sent += len(data)

    async def send(self, data: bytes) -> None:
        """Write `data` and wait until the kernel has all of it.

        Raises:
            ClientGoneError: the client left before that.
        """
        self.write(data)
        try:
            await self._writer.drain()
        except OSError:
            raise ClientGoneError from None

    async def pause(self, seconds: float | None) -> None:
        """Wait so long (for `None`, until the client leaves).

        Raises:
            ClientGoneError: the client left meanwhile.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), seconds)
            raise ClientGoneError

    async def close(self, *, reset: bool = False) -> None:
        """End the connection; `reset` makes the client see a connection reset."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.abort()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Drop the connection and whatever is still to be sent."""
        self._writer.transport.abort()

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # No buffer of our own: what `send` returned from is out of this process.
        writer.transport.set_write_buffer_limits(high=0)
        self._opened(self)


def head(status: int, headers: dict[str, str]) -> bytes:
    """The status line and headers of an answer."""
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {headers[name]}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a body; the empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        return int(digits, 16)
    except ValueError:
        raise BadHTTPError(400, "A chunk without a size.") from None
