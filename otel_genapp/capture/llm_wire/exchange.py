"""One HTTP attempt of an LLM call: bytes pass at once and unchanged, a copy is read on the side.

The answer is read when its terminal event is here, before that chunk goes on to the application;
else at its end, however that comes: whoever has the whole answer finds the call counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

from otel_genapp import semconv
from otel_genapp.capture.client_exchange import Exchange
from otel_genapp.capture.finalizers import measure
from otel_genapp.capture.llm_wire import retries
from otel_genapp.capture.llm_wire.asked import Asked
from otel_genapp.capture.llm_wire.call import WireCall
from otel_genapp.capture.llm_wire.decoding import Decode, UndecodableError, decoder
from otel_genapp.capture.llm_wire.formats import READINGS
from otel_genapp.capture.llm_wire.headroom import show_headroom
from otel_genapp.capture.llm_wire.reading import Reading
from otel_genapp.capture.llm_wire.tape import BLOCK_BYTES, Tape
from otel_genapp.quiet import quiet

_guarded = quiet("capture")
_WANTED = frozenset({
    b"content-type", b"content-encoding", b"content-length", b"x-should-retry", b"retry-after",
    b"x-amzn-bedrock-input-token-count", b"x-amzn-bedrock-output-token-count",
    b"x-amzn-bedrock-cache-read-input-token-count", b"x-amzn-bedrock-cache-write-input-token-count",
})  # fmt: skip
_SHOWN_LIMIT = 16
_DONE = re.compile(rb"[\r\n]data: *\[DONE\]")
_UNSEEN = 64
"""So many short chunks may pass before one is looked at: what is kept stays bounded."""
_SPLIT_BYTES = 48
"""The longest mark of a terminal event, and room for what stands around it."""


class LLMExchange(Exchange):
    """An attempt of a call to a model; `begin` it before it is sent."""

    __slots__ = ("_asked", "_call", "_calm", "_collect", "_counted", "_decode", "_decoded", "_ending", "_expected", "_first_s", "_headers", "_look_at", "_open", "_reading",
                 "_retryable", "_seen", "_tape")  # fmt: skip

    def __init__(self, *args: Any, asked: Asked, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked = asked
        self._call: WireCall | None = None
        self._open = [True]  # popped by whoever reads the answer: atomic, so that it happens once
        self._reading: Reading | None = None
        self._tape: Tape | None = None
        self._collect: Callable[[bytes], None] | None = None
        self._decode: Decode | None = None
        self._counted = 0
        self._decoded = 0
        self._look_at = 0
        self._headers: dict[bytes, bytes] = {}
        self._expected = -1
        self._ending = False
        self._calm: bytes | None = None
        self._first_s: float | None = None
        self._retryable = False
        self._seen: tuple[int, float] | None = None

    def begin(self, call: WireCall, *, retryable: bool) -> None:
        """Make this an attempt of `call`; `retryable` says that its SDK may try again."""
        self._call = call
        self._retryable = retryable

    def answered(self, status_code: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().answered(status_code)
        with _guarded:
            self._head(headers)

    def _head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        call = self._call
        if call is None:
            return
        found = self._headers
        limits: dict[str, bytes] = {}
        for raw, value in headers:
            name, attribute = _header(raw)
            if name is not None:
                found[name] = value
            elif attribute is not None and len(limits) < _SHOWN_LIMIT:
                limits[attribute.removeprefix(semconv.RESPONSE_HEADER_PREFIX)] = value
                call.outcome.extra[attribute] = (value.decode("latin-1")[:128],)
        if limits:
            show_headroom(self._running, self._asked.provider, headers=limits)
        reading = READINGS[self._asked.family](self._asked, call.outcome)
        reading.head(found)
        encoding = found.get(b"content-encoding")
        if encoding:
            try:
                self._decode = decoder(encoding.decode("latin-1"))
            except UndecodableError:
                return  # the status still counts, the usage stays unknown
        length = found.get(b"content-length", b"")
        if length.isdigit() and len(length) < 16:
            self._expected = int(length)
        content_type = found.get(b"content-type", b"").decode("latin-1").lower()
        self._reading = reading
        self._tape = tape = Tape(reading, content_type)
        if self._decode is None:
            self._collect = tape.pieces.append
        self._look_at = self._next_look(0)
        if reading.LAST == (b"[DONE]",) and self._expected < 0:
            self._calm = b"}\n\n"  # of what ends so nothing is an answer's last

    @property
    def calm(self) -> tuple[bytes | None, list[bytes], int]:
        tape = self._tape
        if self._calm is None or tape is None or self._collect is None or not self._response_bytes:
            return super().calm
        return self._calm, tape.pieces, len(tape.pieces) + _UNSEEN

    def received(self, chunk: bytes) -> None:
        with _guarded:
            self._count_pieces()
            before = self._response_bytes
            if not before:
                self._first_s = perf_counter()
            self._response_bytes = size = (before or 0) + len(chunk)
            if self._collect is not None:
                self._collect(chunk)
                self._counted += 1
                if size >= self._look_at or chunk[-3:] != self._calm:
                    self._look(chunk, size)
            elif self._decode is not None:
                self._take_encoded(chunk, size)

    def _count_pieces(self) -> None:
        """Size what was put to the pieces instead of being received."""
        tape = self._tape
        if tape is not None and self._collect is not None:
            passed = tape.pieces[self._counted :]
            if passed:
                self._counted += len(passed)
                self._response_bytes = (self._response_bytes or 0) + sum(map(len, passed))

    def _look(self, chunk: bytes, size: int) -> None:
        """Whether this chunk ends the answer; and once in a while, what is worth reading so far."""
        tape = self._tape
        if tape is None:
            return
        if self._is_last(chunk, tape) or size == self._expected:
            self._settle()
        elif size >= self._look_at:
            if size != self._expected:
                tape.spill()
                self._counted = 0
            self._look_at = self._next_look(size)

    def _next_look(self, size: int) -> int:
        """The size at which a chunk is looked at whatever it ends with."""
        spill = size + BLOCK_BYTES
        return min(spill, self._expected) if self._expected > size else spill

    def read_to_end(self) -> None:
        with _guarded:
            self._settle()

    def idle_s(self, now_s: float) -> float:
        """Seconds, as seen by repeated asking, in which nothing of the answer was read."""
        tape = self._tape
        seen = ((self._response_bytes or 0) + (len(tape.pieces) if tape is not None else 0), now_s)
        if self._seen is None or self._seen[0] != seen[0]:
            self._seen = seen
        return now_s - self._seen[1]

    def abandon(self) -> None:
        """Nobody will read on."""
        with _guarded:
            self._break_off(None, perf_counter())
        super().finish()

    def finish(self, error: BaseException | None = None) -> None:
        if self._open:
            with _guarded:
                measure(self._running, partial(self._break_off, error, perf_counter()))
        super().finish(error)

    def _take_encoded(self, chunk: bytes, size: int) -> None:
        decode, tape = self._decode, self._tape
        if decode is None or tape is None:
            return
        try:
            last = size == self._expected
            for piece in decode(bytes(chunk)):
                tape.pieces.append(piece)
                self._decoded += len(piece)
                last = last or self._is_last(piece, tape)
                if self._decoded > BLOCK_BYTES and not last:
                    tape.spill()
                    self._decoded = 0
        except UndecodableError:
            self._tape = self._reading = self._decode = None  # what came so far may be anything
            return
        if last:
            self._settle()

    def _is_last(self, chunk: bytes, tape: Tape) -> bool:
        """Whether the answer's last event is here with this chunk, to the end of its line."""
        if self._ending:
            return b"\n" in chunk
        reading = self._reading
        if reading is None:
            return False
        # A mark may be split by the chunk's border; what its line had before is looked at again.
        seam = tape.before_last(_SPLIT_BYTES)
        text = seam + chunk
        for mark in reading.LAST:
            place = text.find(mark)
            if place < 0 or (mark == b"[DONE]" and not _is_done_line(text)):
                continue
            if mark == b"[DONE]" or b"\n" in text[max(place, len(seam)) :]:
                return True
            self._ending = True
        return False

    def _settle(self) -> None:
        """The answer is complete: read it, and end its call."""
        call, reading = self._call, self._reading
        if call is None or not self._close_once():
            return
        self._read()
        status = self._status or semconv.STATUS_ERROR
        if status >= "400" or not status.isdigit():
            error_type = (reading.error_type if reading is not None else None) or status
            self._end(call, semconv.FAIL, error_type=error_type)
        elif "300" <= status < "400":
            self._redirected(call, status)
        elif reading is not None and reading.error_type is not None:
            self._end(call, semconv.FAIL, error_type=reading.error_type)
        else:
            self._end(call, semconv.SUCCESS)

    def _break_off(self, error: BaseException | None, ended_s: float) -> None:
        """The exchange ends before its answer did: refused, broken, cancelled, closed or forgotten."""
        call = self._call
        if call is None or not self._close_once():
            return
        self._read()
        if isinstance(error, Exception):
            name = semconv.STATUS_TIMEOUT if isinstance(error, self._timeouts) else semconv.STATUS_ERROR
            self._end(call, semconv.FAIL, error_type=type(error).__qualname__, attempt=name, ended_s=ended_s)
        elif self._status is not None and self._status >= "400":
            # An SDK that is about to retry does not read the error.
            reading = self._reading
            said = reading.error_type if reading is not None else None
            self._end(call, semconv.FAIL, error_type=said or self._status, ended_s=ended_s)
        elif self._status is not None and self._status >= "300":
            self._redirected(call, self._status)
        else:
            kind = "closed" if error is None else type(error).__qualname__
            self._end(call, semconv.CANCELLED, error_type=kind, ended_s=ended_s)

    def _read(self) -> None:
        self._count_pieces()
        tape, reading = self._tape, self._reading
        self._tape = self._collect = self._decode = None
        if tape is not None and reading is not None:
            with _guarded:
                tape.spill(ended=True)
            reading.finish()

    def _end(
        self,
        call: WireCall,
        status: str,
        *,
        error_type: str | None = None,
        attempt: str | None = None,
        ended_s: float | None = None,
    ) -> None:
        outcome = call.outcome
        attempt = attempt or self._status or semconv.STATUS_GONE
        outcome.attempts.append(attempt)
        if attempt.isdigit():
            outcome.extra[semconv.HTTP_STATUS_CODE] = int(attempt)
        if self._first_s is not None and self._asked.stream and outcome.first_token_s is None:
            outcome.first_token_s = self._first_s - call.started_s
        if status == semconv.FAIL and self._retryable and retries.will_retry(attempt, self._headers):
            retries.hold(call, error_type)
            return
        call.finish(status, error_type, ended_s=ended_s)

    def _redirected(self, call: WireCall, status: str) -> None:
        call.outcome.attempts.append(status)
        retries.hold(call, status, redirected=True)

    def _close_once(self) -> bool:
        try:
            return self._open.pop()
        except IndexError:
            return False


@lru_cache(maxsize=1024)
def _header(raw: bytes) -> tuple[bytes | None, str | None]:
    """What an answer's header of this name is: one that is read here, or one that is shown on the span."""
    name = raw.lower()
    if name in _WANTED:
        return name, None
    if b"ratelimit" in name and name.isascii():
        return None, semconv.RESPONSE_HEADER_PREFIX + name.decode("ascii")
    return None, None


def _is_done_line(text: bytes) -> bool:
    """Whether `[DONE]` is an event on a line of its own, and not a word of the answer."""
    return _DONE.search(text) is not None
