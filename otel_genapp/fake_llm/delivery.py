"""One request answered, as its answer says, and written down however that ended."""

from __future__ import annotations

import asyncio
import time

from otel_genapp.fake_llm import bodies
from otel_genapp.fake_llm.answers import (
    Answer,
    Cut,
    ErrorInStream,
    ErrorStatus,
    Hang,
    MalformedJSON,
    NoUsage,
)
from otel_genapp.fake_llm.requests import LLMRequest, Operation
from otel_genapp.fake_llm.served import Ledger, Served
from otel_genapp.fake_llm.wire import ClientGoneError, Connection, Received, chunk, head

_LAST_PIECE_BYTES = 16 * 1024


class Delivery:
    """The way of one answer to its client. `deliver` runs once and always leaves a ledger entry."""

    def __init__(
        self, connection: Connection, ledger: Ledger, *, received: Received, operation: Operation, tag: str
    ) -> None:
        self.operation = operation
        self.request_id = f"req_{tag}"
        self.response_id = f"chatcmpl-{tag}"
        self._connection = connection
        self._ledger = ledger
        self._received = received
        self._request: LLMRequest | None = None
        self._answer = Answer()
        self._status = 0
        self._usage_told = False
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
            return await (self._stream(request) if request.stream else self._whole(request))
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
        body = bodies.error(fault.status, fault.message)
        await self._send_whole(body, "error", headers=headers)
        return self._received.keep_alive

    async def _whole(self, request: LLMRequest) -> bool:
        self._status, fault = 200, self._answer.fault
        if request.operation == "embeddings":
            body = bodies.embeddings(request, self._answer)
        else:
            body = bodies.completion(request, self._answer, response_id=self.response_id)
        if isinstance(fault, Cut):
            start = self._head({"content-type": "application/json", "content-length": str(len(body))})
            await self._connection.send(start + body[: len(body) // 2])
            return await self._cut(fault)
        if isinstance(fault, ErrorInStream):
            await self._send_whole(bodies.error(200, fault.message), fault.kind)
        elif isinstance(fault, MalformedJSON):
            await self._send_whole(body[: len(body) // 2], fault.kind)
        else:
            await self._send_whole(body, "no_usage" if isinstance(fault, NoUsage) else "ok")
        return self._received.keep_alive

    async def _stream(self, request: LLMRequest) -> bool:
        self._status, fault = 200, self._answer.fault
        framing = {"transfer-encoding": "chunked"} if self._received.http11 else {}
        start = self._head({"content-type": "text/event-stream; charset=utf-8", **framing})
        for place, frame in enumerate(self._frames(request)):
            if place and self._answer.chunk_delay_s > 0:
                await self._connection.pause(self._answer.chunk_delay_s)
            await self._connection.send(start + self._framed(frame.data))
            start = b""
            self._usage_told = self._usage_told or frame.tells_usage
        if start:
            await self._connection.send(start)
        if isinstance(fault, Cut):
            return await self._cut(fault)
        if isinstance(fault, Hang):
            await self._connection.pause(None)
        end = chunk(b"") if self._received.http11 else b""
        if isinstance(fault, ErrorInStream | MalformedJSON):
            self._send_last(end, fault.kind)
        else:
            self._send_last(self._framed(bodies.DONE) + end, "ok" if self._usage_told else "no_usage")
        return self._received.keep_alive

    def _frames(self, request: LLMRequest) -> tuple[bodies.Frame, ...]:
        frames, fault = bodies.chunks(request, self._answer, response_id=self.response_id), self._answer.fault
        if isinstance(fault, Cut | Hang):
            return frames[: fault.after_chunks]
        if isinstance(fault, ErrorInStream):
            error = bodies.error(200, fault.message)
            return (*frames[: fault.after_chunks], bodies.Frame(bodies.event(error)))
        if isinstance(fault, MalformedJSON):
            half = b'{"id":"' + self.response_id.encode()
            return (*frames[:1], bodies.Frame(bodies.event(half)))
        return frames

    async def _cut(self, fault: Cut) -> bool:
        self._record(fault.kind)
        await self._connection.close(reset=fault.reset)
        return False

    async def _send_whole(self, body: bytes, outcome: str, *, headers: dict[str, str] | None = None) -> None:
        start = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        data = self._head(start) + body
        if len(data) > _LAST_PIECE_BYTES:
            await self._connection.send(data[:-_LAST_PIECE_BYTES])
        self._send_last(data[-_LAST_PIECE_BYTES:], outcome)

    def _send_last(self, data: bytes, outcome: str) -> None:
        with self._ledger.lock:
            self._connection.write(data)
            self._usage_told = self._usage_told or outcome == "ok"
            self._write_down(outcome)

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._received.http11 else data

    def _head(self, headers: dict[str, str]) -> bytes:
        common = {
            "x-request-id": self.request_id,
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(round((time.monotonic() - self._started_s) * 1000)),
            "connection": "keep-alive" if self._received.keep_alive else "close",
        }
        return head(self._status, {**headers, **common})

    def _record(self, outcome: str) -> None:
        with self._ledger.lock:
            self._write_down(outcome)

    def _write_down(self, outcome: str) -> None:
        if self._recorded:
            return
        self._recorded = True
        request, answer = self._request, self._answer
        tokens = bodies.Tokens.of(request, answer) if request and self._usage_told else None
        sent = self._connection.bytes_sent - self._bytes_before
        chat = self.operation == "chat"
        answered = chat and sent > 0 and self._status < 400
        self._ledger.add(
            Served(
                request_id=self.request_id,
                response_id=self.response_id if answered else None,
                operation=self.operation,
                session=request.session if request else None,
                model=request.model if request else "",
                stream=bool(request and request.stream),
                attempt=request.attempt if request else 1,
                status=self._status if sent else 0,
                outcome=outcome,
                input_tokens=tokens.input if tokens else None,
                output_tokens=tokens.output if tokens and chat else None,
                cached_tokens=tokens.cached if tokens and chat else None,
                reasoning_tokens=tokens.reasoning if tokens and chat else None,
                tool_calls=tuple(tool.name for tool in answer.tools) if answered else (),
                bytes_sent=sent,
                started_s=self._started_s,
                ended_s=time.monotonic(),
                headers=self._received.headers,
            )
        )
