"""Amazon's event stream (`application/vnd.amazon.eventstream`): length-prefixed binary messages.

A message is its total length and its headers' length (4 bytes each, big-endian), a checksum, the
headers, the payload and a checksum. Checksums are the application's business.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_genapp.capture.llm_wire.reading import Json, parse

_PRELUDE_BYTES, _CHECKSUM_BYTES = 12, 4
_LONGEST_BYTES = 24 * 1024 * 1024


def read(data: bytes, frame: Callable[[Json], None], *, limit: int) -> bytes:
    """Hand the payload of each whole message to `frame`; returns what is left for more data.

    A message longer than `limit` that is not here whole is given up, and with it the rest.
    """
    start = 0
    while len(data) - start >= _PRELUDE_BYTES:
        total = int.from_bytes(data[start : start + 4], "big")
        if not _PRELUDE_BYTES + _CHECKSUM_BYTES <= total <= _LONGEST_BYTES:
            return b""
        if len(data) - start < total:
            break
        _message(data[start : start + total], frame)
        start += total
    left = data[start:]
    return left if len(left) <= limit else b""


def _message(message: bytes, frame: Callable[[Json], None]) -> None:
    end_of_headers = _PRELUDE_BYTES + int.from_bytes(message[4:8], "big")
    if end_of_headers > len(message) - _CHECKSUM_BYTES:
        return
    headers = message[_PRELUDE_BYTES:end_of_headers]
    found = parse(message[end_of_headers:-_CHECKSUM_BYTES])
    exception = _header(headers, b":exception-type")
    if exception is not None:
        frame({"exception": exception})
    elif isinstance(found, dict):
        frame(found)


def _header(headers: bytes, name: bytes) -> str | None:
    """The text of a header: its name's length and name, type 7, the text's length and text."""
    place = headers.find(bytes((len(name),)) + name + b"\x07")
    if place < 0:
        return None
    start = place + len(name) + 2
    length = int.from_bytes(headers[start : start + 2], "big")
    return headers[start + 2 : start + 2 + length].decode("utf-8", "replace") or None
