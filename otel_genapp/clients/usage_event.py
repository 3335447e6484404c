"""Taking one event out of a stream of server-sent events: the usage a client asked for on its own.

Asked with `stream_options.include_usage`, a server closes the answer with one more event: a chunk
whose `choices` are empty and whose `usage` is filled. Whoever did not ask for it must not meet it:
much code takes `choices[0]` of every chunk.
"""

from __future__ import annotations

import re

from otel_genapp import foreign_json
from otel_genapp.quiet import quiet

EVENT_LIMIT_BYTES = 256 * 1024
"""A longer event is never the one; no more than this is held back."""

_guarded = quiet("capture")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BOUNDARIES = (b"\n\n", b"\r\n\r\n")
_FIELDS = (b"data:", b"event:", b"id:", b"retry:")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_SOME_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\s\]]')
_NO_OBJECT = re.compile(rb"data:[ \t]*[^\s{]")


class UsageEventFilter:
    """Bytes of one answer, in pieces of any size: what comes out is what came in, but for that event.

    An event is held back only while it may still be the one; the first that is, is taken out, and
    from then on everything passes. Comments stay, also those inside of it.
    """

    __slots__ = ("_carry", "_in_comment", "_open", "_passed", "_passing", "_skip_newline")

    def __init__(self) -> None:
        self._carry = b""
        """What was seen of the current event: all of it while it is held back, else its end."""
        self._passed = 0  # bytes of it that are out already
        self._passing = False  # the current event is not the one
        self._in_comment = False
        self._open = True
        self._skip_newline = False

    def feed(self, chunk: bytes) -> bytes:
        """What may go on now that `chunk` is here; the same object where nothing is held back."""
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk[1:] if chunk[:1] == b"\n" else chunk
        if not self._open:
            return chunk
        at_start = not self._carry and not self._in_comment
        if at_start and chunk.endswith(_BOUNDARIES) and _NO_CHOICES.search(chunk) is None:
            return chunk
        kept: bytes | None = None
        with _guarded:
            kept = self._sift(chunk)
        if kept is None:  # our own fault: from here on everything passes
            kept = self._carry[self._passed :] + chunk
            self._close()
        return kept

    def end(self) -> bytes:
        """What is held back when the answer ends or breaks off; the event may lack its empty line."""
        rest = b""
        if self._open:
            rest = self._carry[self._passed :]
            with _guarded:
                if rest and not self._passing and _is_usage(rest):
                    rest = _comments(rest)
        self._close()
        return rest

    def _close(self) -> None:
        self._open = False
        self._carry, self._passed = b"", 0

    def _sift(self, chunk: bytes) -> bytes:
        text = self._carry + chunk
        done, start = self._passed, 0
        searched = max(0, len(self._carry) - 1)  # an end may have begun with the last byte
        passing, in_comment = self._passing, self._in_comment
        while True:
            if in_comment or not passing:
                start, in_comment = _before_event(text, start, in_comment=in_comment)
            if in_comment:
                break
            found = _EVENT_END.search(text, max(start, searched))
            if found is None:
                break
            if not passing and _is_usage(text[start : found.end()]):
                return self._take_out(text, done, start=start, end=found.end())
            start, passing = found.end(), False
        rest = text[start:]
        passing = bool(rest) and not in_comment and (passing or not _may_be_usage(rest))
        self._in_comment, self._passing = in_comment, passing
        if passing or in_comment:
            self._carry = rest[-1:] if passing else b""
            self._passed = len(self._carry)
            return text[done:]
        self._carry, self._passed = rest, 0
        return chunk if not done and not rest and len(text) == len(chunk) else text[done:start]

    def _take_out(self, text: bytes, done: int, *, start: int, end: int) -> bytes:
        self._close()
        # The event's last line end may be half of one, whose other half comes with the next chunk.
        self._skip_newline = end == len(text) and text[-1:] == b"\r"
        return text[done:start] + _comments(text[start:end]) + text[end:]


def _before_event(text: bytes, start: int, *, in_comment: bool) -> tuple[int, bool]:
    """(where the next event starts, whether `text` ends in a comment), past empty lines and comments."""
    while start < len(text):
        if in_comment or text[start : start + 1] == b":":
            found = _LINE_END.search(text, start)
            if found is None:
                return start, True
            start, in_comment = found.end(), False
        elif text[start : start + 1] in {b"\r", b"\n"}:
            start += 1
        else:
            break
    return start, in_comment and start >= len(text)


def _may_be_usage(event: bytes) -> bool:
    """Whether this beginning of an event leaves it open."""
    if len(event) > EVENT_LIMIT_BYTES:
        return False
    if not any(event.startswith(field) or field.startswith(event) for field in _FIELDS):
        return False
    return _NO_OBJECT.match(event) is None and _SOME_CHOICE.search(event) is None


def _is_usage(event: bytes) -> bool:
    """Whether this event has no choices, and tells the usage."""
    if len(event) > EVENT_LIMIT_BYTES or _NO_CHOICES.search(event) is None or b'"usage"' not in event:
        return False
    data = [line[5:].removeprefix(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
    try:
        said = foreign_json.loads(b"\n".join(data))
    except ValueError:
        return False
    if not isinstance(said, dict) or said.get("choices") != [] or "error" in said:
        return False
    return isinstance(said.get("usage"), dict)


def _comments(event: bytes) -> bytes:
    """The comment lines of `event`, as they are."""
    if b"\n:" not in event and b"\r:" not in event:
        return b""
    kept: list[bytes] = []
    start = 0
    for found in _LINE_END.finditer(event):
        if event[start : start + 1] == b":":
            kept.append(event[start : found.end()])
        start = found.end()
    return b"".join(kept)
