"""One request answered, as its answer says, and written down however that ended."""

from __future__ import annotations

import asyncio
import time

from otel_genapp.fake_llm.answers import (
    Answer,
    Cut,
    ErrorInStream,
    ErrorStatus,
    Hang,
    MalformedJSON,
    NoUsage,
)
from otel_genapp.fake_llm.requests import LLMRequest
from otel_genapp.fake_llm.served import Ledger, Served
from otel_genapp.fake_llm.wire import ClientGoneError, Connection, Received, chunk, head
from otel_genapp.fake_llm.wire_format import Piece, Stream, Told, WireFormat

_LAST_PIECE_BYTES = 16 * 1024


class Delivery:
    """The way of one answer to its client. `deliver` runs once and always leaves a ledger entry."""

    def __init__(
        self, connection: Connection, ledger: Ledger, *, received: Received, protocol: WireFormat, tag: str
    ) -> None:
        self.protocol = protocol
        self.request_id = f"req_{tag}"
        self.response_id = f"{protocol.id_prefix}{tag}"
        self._connection = connection
        self._ledger = ledger
        self._received = received
        self._request: LLMRequest | None = None
        self._answer = Answer()
        self._status = 0
        self._told: Told = {}
        self._recorded = False
        self._bytes_before = connection.bytes_sent
        self._started_s = time.monotonic()

    async def deliver(self, request: LLMRequest, answer: Answer) -> bool:
        """Answer `request` with `answer`; True if the connection may serve another request."""
        self._request, self._answer = request, answer
        try:
            if answer.delay_s > 0:
                await self._connection.pause(answer.delay_s)
            fault = answer.fault
            if isinstance(fault, ErrorStatus):
                return await self._refuse(fault)
            if isinstance(fault, Hang) and fault.after_chunks == 0:
                await self._connection.pause(None)
            if request.stream and self.protocol.stream is not None:
                return await self._stream(self.protocol.stream(request, answer, response_id=self.response_id))
            return await self._whole(request)
        except ClientGoneError:
            self._record("hang" if isinstance(answer.fault, Hang) else "gone")
            return False
        except asyncio.CancelledError:
            self._record("hang" if isinstance(answer.fault, Hang) else "closed")
            raise

    async def reject(self, status: int, message: str, *, request: LLMRequest | None = None) -> bool:
        """Answer with an error that nobody scripted."""
        self._request = request
        try:
            return await self._refuse(ErrorStatus(status, message=message))
        except ClientGoneError:
            self._record("gone")
            return False

    async def _refuse(self, fault: ErrorStatus) -> bool:
        self._status = fault.status
        headers: dict[str, str] = {}
        if fault.retry_after_s is not None:
            headers["retry-after"] = f"{fault.retry_after_s:g}"
            # The SDK takes a wait of 0 for none given and falls back to its own, which is longer.
            headers["retry-after-ms"] = f"{max(1, round(fault.retry_after_s * 1000))}"
        body = self.protocol.error(fault.status, fault.message)
        await self._send_whole(Piece(body), "error", headers=headers)
        return self._received.keep_alive

    async def _whole(self, request: LLMRequest) -> bool:
        self._status, fault = 200, self._answer.fault
        whole = self.protocol.whole(request, self._answer, response_id=self.response_id)
        body = whole.data
        if isinstance(fault, Cut):
            start = self._head({"content-type": "application/json", "content-length": str(len(body))})
            await self._connection.send(start + body[: len(body) // 2])
            return await self._cut(fault)
        if isinstance(fault, ErrorInStream):
            failure = self.protocol.failure
            failed = Piece(self.protocol.error(200, fault.message))
            if failure is not None:
                failed = failure(request, self._answer, response_id=self.response_id)
            await self._send_whole(failed, fault.kind)
        elif isinstance(fault, MalformedJSON):
            await self._send_whole(Piece(body[: len(body) // 2]), fault.kind)
        else:
            await self._send_whole(whole, "no_usage" if isinstance(fault, NoUsage) else "ok")
        return self._received.keep_alive

    async def _stream(self, stream: Stream) -> bool:
        self._status, fault = 200, self._answer.fault
        framing = {"transfer-encoding": "chunked"} if self._received.http11 else {}
        start = self._head({"content-type": stream.content_type, **framing})
        events, last = self._events(stream)
        for place, piece in enumerate(events):
            if place and self._answer.chunk_delay_s > 0:
                await self._connection.pause(self._answer.chunk_delay_s)
            await self._connection.send(start + self._framed(piece.data))
            start = b""
            self._told = piece.told or self._told
        if start:
            await self._connection.send(start)
        if isinstance(fault, Cut):
            return await self._cut(fault)
        if isinstance(fault, Hang):
            await self._connection.pause(None)
        end = chunk(b"") if self._received.http11 else b""
        if isinstance(fault, ErrorInStream | MalformedJSON):
            self._send_last(Piece(self._framed(last.data) + end), fault.kind)
        else:
            told = last.told or self._told
            self._send_last(Piece(self._framed(last.data) + end, told), "ok" if told else "no_usage")
        return self._received.keep_alive

    def _events(self, stream: Stream) -> tuple[tuple[Piece, ...], Piece]:
        """The events to send one by one, and what is sent with the end of the stream."""
        events, fault = stream.events, self._answer.fault
        if isinstance(fault, Cut | Hang):
            return events[: fault.after_chunks], stream.last
        if isinstance(fault, ErrorInStream):
            return events[: fault.after_chunks], stream.error
        if isinstance(fault, MalformedJSON):
            broken = (*events, stream.last)[1].data if events else stream.last.data
            end = b"\n\n" if broken.endswith(b"\n\n") else b""
            return events[:1], Piece(broken[: len(broken) // 2] + end)
        return events, stream.last

    async def _cut(self, fault: Cut) -> bool:
        self._record(fault.kind)
        await self._connection.close(reset=fault.reset)
        return False

    async def _send_whole(self, whole: Piece, outcome: str, *, headers: dict[str, str] | None = None) -> None:
        body = whole.data
        start = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        data = self._head(start) + body
        if len(data) > _LAST_PIECE_BYTES:
            await self._connection.send(data[:-_LAST_PIECE_BYTES])
        self._send_last(Piece(data[-_LAST_PIECE_BYTES:], whole.told), outcome)

    def _send_last(self, piece: Piece, outcome: str) -> None:
        with self._ledger.lock:
            self._connection.write(piece.data)
            self._told = piece.told or self._told
            self._write_down(outcome)

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._received.http11 else data

    def _head(self, headers: dict[str, str]) -> bytes:
        elapsed_ms = round((time.monotonic() - self._started_s) * 1000)
        own = self.protocol.headers(self.request_id, elapsed_ms)
        connection = {"connection": "keep-alive" if self._received.keep_alive else "close"}
        return head(self._status, {**headers, **own, **connection})

    def _record(self, outcome: str) -> None:
        with self._ledger.lock:
            self._write_down(outcome)

    def _write_down(self, outcome: str) -> None:
        if self._recorded:
            return
        self._recorded = True
        request, answer, protocol, told = self._request, self._answer, self.protocol, self._told
        sent = self._connection.bytes_sent - self._bytes_before
        answered = sent > 0 and self._status < 400
        called = answer.tools if answered and protocol.calls_tools else ()
        self._ledger.add(
            Served(
                request_id=self.request_id,
                response_id=self.response_id if answered and protocol.names_answers else None,
                operation=protocol.operation,
                protocol=protocol.name,
                session=request.session if request else None,
                model=request.model if request else "",
                stream=bool(request and request.stream),
                attempt=request.attempt if request else 1,
                status=self._status if sent else 0,
                outcome=outcome,
                input_tokens=told.get("input"),
                output_tokens=told.get("output"),
                cached_tokens=told.get("cached"),
                cache_write_tokens=told.get("cache_write"),
                reasoning_tokens=told.get("reasoning"),
                tool_calls=tuple(tool.name for tool in called),
                bytes_sent=sent,
                started_s=self._started_s,
                ended_s=time.monotonic(),
                headers=self._received.headers,
            )
        )
