"""ClickHouse's HTTP interface in front of chDB, which is ClickHouse's engine in this process.

Run as `python -m tests.programs.clickhouse_server DIRECTORY PORT USER PASSWORD`. It serves what the
client asks for: queries with settings, parameters and a database, and inserts in the Native format.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import parse_qsl, urlsplit

chdb: Any = importlib.import_module("chdb")
lz4: Any = importlib.import_module("lz4.frame")

_TRANSPORT = {
    "database", "query", "query_id", "session_id", "wait_end_of_query", "client_protocol_version",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression",
}  # fmt: skip
_INSERT = re.compile(rb"\s*(INSERT\s+INTO\s.*?)\s+FORMAT\s+(\w+)\n", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"Code: (\d+)\.")
_AUTHENTICATION_FAILED = 516


class Handler(BaseHTTPRequestHandler):
    """One connection, with a handle of the engine for each database and settings that were asked for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self._handles: dict[tuple[tuple[str, str], ...], Any] = {}

    def finish(self) -> None:
        for handle in self._handles.values():
            handle.close()
        super().finish()

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != self.server.authorization:
            self._fail(_AUTHENTICATION_FAILED, "Code: 516. DB::Exception: Authentication failed")
            return
        said = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            answer, written = self._run(said, body)
        except RuntimeError as error:  # chDB's
            found = _CODE.search(str(error))
            self._fail(int(found[1]) if found else 1002, str(error))
        else:
            summary = json.dumps({"written_rows": str(written)})
            self._answer(200, answer, {"X-ClickHouse-Summary": summary, "X-ClickHouse-Timezone": "UTC"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""

    def _run(self, said: dict[str, str], body: bytes) -> tuple[bytes, int]:
        query = said.get("query", "").encode()
        statement = query + b"\n" + body if query else body
        parameters, settings = {}, {}
        for name, value in said.items():
            if name.startswith("param_"):
                parameters[name.removeprefix("param_")] = value
            elif name not in _TRANSPORT:
                settings[name] = value
        handle = self._handle(said.get("database", "default"), settings)
        insert = _INSERT.match(statement)
        if insert is None:
            found = handle.query(statement.decode(), "TabSeparated", params=parameters)
            return found.bytes(), found.rows_written()
        # From a file: chDB's streaming inserts keep to themselves what was wrong with the rows.
        with NamedTemporaryFile() as file:
            file.write(statement[insert.end() :])
            file.flush()
            into, kind = insert[1].decode(), insert[2].decode()
            return b"", handle.query(f"{into} FROM INFILE '{file.name}' FORMAT {kind}").rows_written()

    def _handle(self, database: str, settings: dict[str, str]) -> Any:
        key = (("database", database), *sorted(settings.items()))
        if key not in self._handles:
            handle = self.server.connect()
            self._handles[key] = handle
            for name, value in settings.items():
                handle.query(f"SET {name} = {_quoted(value)}")
            handle.query(f"USE `{database}`")
        return self._handles[key]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "lz4":
            return b"".join(_frames(body))
        return body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _fail(self, code: int, message: str) -> None:
        self._answer(500, message.encode(), {"X-ClickHouse-Exception-Code": str(code)})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """The engine, which keeps its data in `directory`, and who may use it."""

    daemon_threads = True

    def __init__(self, directory: str, port: int, *, user: str, password: str) -> None:
        self._directory = directory
        self._engine = chdb.connect(directory)  # held, so that the engine lives on between requests
        self.authorization = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        super().__init__(("127.0.0.1", port), Handler)

    def connect(self) -> Any:
        """Another handle of the engine."""
        return chdb.connect(self._directory)


def _frames(data: bytes) -> Iterator[bytes]:
    """What is in each of the compressed frames."""
    while data:
        frame = lz4.LZ4FrameDecompressor()
        yield frame.decompress(data)
        data = frame.unused_data or b""


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


if __name__ == "__main__":
    data, number, name, word = sys.argv[1:]
    Server(data, int(number), user=name, password=word).serve_forever()
