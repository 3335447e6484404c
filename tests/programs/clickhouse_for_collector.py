"""The server of `clickhouse_server`, for the collector, whose client reads answers in the Native format.

Run as `python -m tests.programs.clickhouse_for_collector DIRECTORY PORT USER PASSWORD`. It answers what that
client asks before an insert, rows of strings and numbers, in one block with the head the protocol wants.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

from tests.programs.clickhouse_server import Handler, Server

_BLOCK_HEAD = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_PLAIN = b"\x00"
"""A column that is serialized in no special way."""


class CollectorHandler(Handler):
    """One connection of the collector."""

    def _run(self, said: dict[str, str], body: bytes) -> tuple[bytes, int]:
        asked = {
            name: value
            for name, value in said.items()
            if name in {"database", "query"} or name.startswith("param_")
        }
        statement = said.get("query", "").encode() or body
        if said.get("default_format") != "Native" or statement.lstrip().upper().startswith(b"INSERT"):
            return super()._run(asked, body)
        handle = self._handle(said.get("database", "default"), {})
        return _native(json.loads(handle.query(statement.decode(), "JSONCompact").bytes())), 0


def _native(found: dict[str, Any]) -> bytes:
    columns = [
        _text(of["name"])
        + _text(of["type"])
        + _PLAIN
        + b"".join(_value(of["type"], row[at]) for row in found["data"])
        for at, of in enumerate(found["meta"])
    ]
    return _BLOCK_HEAD + _number(len(columns)) + _number(len(found["data"])) + b"".join(columns)


def _value(kind: str, value: Any) -> bytes:
    return struct.pack("<I", int(value)) if kind == "UInt32" else _text(str(value))


def _text(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


def _number(value: int) -> bytes:
    """As LEB128."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


if __name__ == "__main__":
    data, number, name, word = sys.argv[1:]
    server = Server(data, int(number), user=name, password=word)
    server.RequestHandlerClass = CollectorHandler
    server.serve_forever()
