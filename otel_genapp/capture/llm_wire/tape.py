"""What is kept of an answer while it passes: enough to read it at its end, never all of it.

Chunks are only collected; every 96 KiB, and at the end, the block is looked through and let go of.
Of lines (server-sent events, NDJSON) the first, the last and the marked ones are parsed; of a body
that is too long to be parsed its ends are kept. So a 4 MB answer still yields its usage, and no
answer holds more than a few hundred kB.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Literal

from otel_genapp.capture.llm_wire import eventstream
from otel_genapp.capture.llm_wire.reading import Reading, parse

BLOCK_BYTES = 96 * 1024
LINE_LIMIT_BYTES = 96 * 1024
"""A longer line is skipped; its end is kept, for what can be found there."""
BODY_LIMIT_BYTES = 96 * 1024
"""A longer body is not parsed whole."""
BODY_KEPT_BYTES = 160 * 1024
_HEAD_BYTES, _TAIL_BYTES = 8 * 1024, 48 * 1024
_FIRST_LINES, _LAST_LINES = 1, 3
_MARKED_LINES = 512

Form = Literal["lines", "json", "eventstream"]


class Tape:
    """One answer passing by. `pieces` is filled by whoever holds it; see `LLMExchange.received`."""

    __slots__ = (
        "_body",
        "_content_type",
        "_cut",
        "_first",
        "_form",
        "_last",
        "_line",
        "_reading",
        "_rest",
        "pieces",
    )

    def __init__(self, reading: Reading, content_type: str) -> None:
        self.pieces: list[bytes] = []
        self._reading = reading
        self._content_type = content_type
        self._form: Form | None = None
        self._first = True
        self._rest = b""
        self._line: bytearray | None = None
        self._last: list[bytes] = []
        self._body = bytearray()
        self._cut = False

    def spill(self, *, ended: bool = False) -> None:
        """Look through what was collected, and let go of what is not needed any more."""
        block = self._rest + b"".join(self.pieces) if self._rest else b"".join(self.pieces)
        self.pieces.clear()
        self._rest = b""
        if self._form is None:
            self._form = form_of(block, self._content_type)
        if self._form == "lines":
            self._spill_lines(block, ended=ended)
        elif self._form == "eventstream":
            self._rest = eventstream.read(block, self._reading.frame, limit=LINE_LIMIT_BYTES)
        else:
            self._keep(block)
            if ended:
                self._read_body()

    def before_last(self, count: int) -> bytes:
        """Up to `count` bytes before the piece collected last, from the start of their line.

        Where that piece starts a line this is the line's end before it.
        """
        found = b""
        for piece in islice(reversed(self.pieces), 1, None):
            found = piece[-count:] + found
            if len(found) >= count or b"\n" in found:
                break
        else:
            found = self._rest[-count:] + found if self._rest or found else b"\n"
            if len(self._rest) < count:
                found = b"\n" + found
        return found[max(found.rfind(b"\n", 0, len(found)), 0) :][-count:] if found else b"\n"

    def _spill_lines(self, block: bytes, *, ended: bool) -> None:
        if b"\r" in block and b"\n" not in block:
            block = block.replace(b"\r", b"\n")
        if self._line is not None:
            block = self._skip(block)
        if not ended:
            cut = block.rfind(b"\n") + 1
            block, self._rest = block[:cut], block[cut:]
            if len(self._rest) > LINE_LIMIT_BYTES:
                self._line = bytearray(self._rest)
                self._rest = b""
                self._trim(self._line)
        if block:
            self._read_lines(block, ended=ended)
        elif ended:
            self._read_held()
        if ended and self._line is not None:
            self._reading.scraps(bytes(self._line))
            self._line = None

    def _skip(self, block: bytes) -> bytes:
        """The rest of a line that is too long; what follows it is returned."""
        line = self._line
        end = block.find(b"\n")
        if line is None:
            return block
        line += block if end < 0 else block[:end]
        self._trim(line)
        if end < 0:
            return b""
        self._reading.scraps(bytes(line))
        self._line = None
        return block[end + 1 :]

    @staticmethod
    def _trim(line: bytearray) -> None:
        if len(line) > _HEAD_BYTES + _TAIL_BYTES:
            del line[_HEAD_BYTES : len(line) - _TAIL_BYTES]

    def _read_lines(self, block: bytes, *, ended: bool) -> None:
        reading = self._reading
        starts: dict[int, None] = {}
        if self._first:
            self._first = False
            starts.update(dict.fromkeys(_first_lines(block)))
        for mark in reading.marks():
            starts.update(dict.fromkeys(_lines_with(block, mark)))
        for mark in reading.LATEST:
            place = block.rfind(mark)
            if place >= 0:
                starts[block.rfind(b"\n", 0, place) + 1] = None
        last = sorted(_last_lines(block))
        if ended:
            self._read_held()
            starts.update(dict.fromkeys(last))
        for start in sorted(starts):
            self._read_line(_line_at(block, start))
        if not ended and last:
            # The answer's last lines, if nothing comes after them; read already are those of `starts`.
            self._last = [_line_at(block, start) for start in last if start not in starts]

    def _read_held(self) -> None:
        """Read the last lines of the block before, which nobody knew to be among the answer's last."""
        held, self._last = self._last, []
        for line in held:
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        line = line.strip()
        if line[:5] == b"data:":
            line = line[5:].lstrip()
        if not line or line[0] not in b"{[":
            return
        if len(line) <= LINE_LIMIT_BYTES:
            found = parse(line)
            if found is not None:
                self._reading.whole(found) if isinstance(found, list) else self._reading.frame(found)
                return
        self._reading.scraps(line)

    def _keep(self, block: bytes) -> None:
        body = self._body
        body += block
        if len(body) > BODY_KEPT_BYTES:
            self._cut = True
        if self._cut:
            self._trim(body)

    def _read_body(self) -> None:
        body = bytes(self._body)
        if not self._cut and len(body) <= BODY_LIMIT_BYTES:
            found = parse(body)
            if found is not None:
                self._reading.whole(found)
                return
            if _is_lines(body):
                self._first = True
                self._read_lines(body, ended=True)
                return
        self._reading.scraps(body)


def form_of(start: bytes, content_type: str) -> Form:
    """How a body is built: by its first bytes, and its content type where these leave it open."""
    if "eventstream" in content_type or start[:3] == b"\0\0\0" or (start[:1] == b"\0" and len(start) > 16):
        return "eventstream"
    first = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if (
        first[:5] in {b"data:", b"event"}
        or first[:1] == b":"
        or first[:3] == b"id:"
        or first[:6] == b"retry:"
    ):
        return "lines"
    if "event-stream" in content_type or "ndjson" in content_type or "stream+json" in content_type:
        return "lines"
    if "jsonl" in content_type or "jsonlines" in content_type:
        return "lines"
    return "json"


def _is_lines(body: bytes) -> bool:
    """Whether what is no JSON document is one on each line."""
    end = body.find(b"\n")
    return end > 0 and isinstance(parse(body[:end]), dict)


def _first_lines(block: bytes) -> Iterable[int]:
    found: list[int] = []
    start = 0
    while len(found) < _FIRST_LINES and 0 <= start < len(block):
        if block[start : start + 1] in b"d{[ ":
            found.append(start)
        end = block.find(b"\n", start)
        start = end + 1 if end >= 0 else len(block)
    return found


def _last_lines(block: bytes) -> Iterable[int]:
    found: list[int] = []
    end = len(block)
    seen = 0
    while len(found) < _LAST_LINES and end > 0 and seen < _LAST_LINES * 8:
        start = block.rfind(b"\n", 0, end) + 1
        if start < end and block[start : start + 1] in b"d{[ ":
            found.append(start)
        end = start - 1
        seen += 1
    return found


def _line_at(block: bytes, start: int) -> bytes:
    end = block.find(b"\n", start)
    return block[start : len(block) if end < 0 else end]


def _lines_with(block: bytes, mark: bytes) -> Iterable[int]:
    found: list[int] = []
    place = block.find(mark)
    while place >= 0 and len(found) < _MARKED_LINES:
        found.append(block.rfind(b"\n", 0, place) + 1)
        end = block.find(b"\n", place)
        place = block.find(mark, end) if end >= 0 else -1
    return found
