"""`FakeLLMServer`: the listening socket, its thread, and who decides what is answered."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from otel_genapp.fake_llm import openai, wire
from otel_genapp.fake_llm.addresses import Address, TokenCount, count, find, read_request
from otel_genapp.fake_llm.answers import CONTROL_HEADER, Answer, Fault, answers_from_json
from otel_genapp.fake_llm.delivery import Delivery
from otel_genapp.fake_llm.requests import BadRequestError, LLMRequest
from otel_genapp.fake_llm.responses import RESPONSES
from otel_genapp.fake_llm.served import Ledger, Served, Totals
from otel_genapp.fake_llm.wire import BadHTTPError, ClientGoneError, Connection, Received

Respond = Callable[[LLMRequest], Answer | Fault]

_BACKLOG = 1024
_STORED_LIMIT = 1000
_STORED = "/responses/"


class FakeLLMServer:
    """An LLM provider on a loopback socket, in a thread of its own: OpenAI, Azure, Anthropic and Gemini.

    Use it as a context manager, or call `start()` and `close()`; started again, it comes back at
    the same address with the same ledger. For each request it takes, in this order: the answer the
    request brings in its `x-fake-answer` header (see `answers_from_json`; the list's n-th entry
    is for the client's n-th attempt), the next scripted answer, what `respond` returns, an echo.

    Args:
        respond: decides the answer to a request. It runs on the server's thread, so it must not
            wait; `Answer.delay_s` does that. If it raises, the client gets status 500.
        port: where to listen on 127.0.0.1; 0 takes a free port.
        ledger_path: a file that gets each ledger entry as a line of JSON, for other processes.
    """

    def __init__(
        self,
        respond: Respond | None = None,
        *,
        port: int = 0,
        ledger_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.port = port
        self._respond = respond
        self._ledger = Ledger(ledger_path)
        self._script: deque[Answer] = deque()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._requests_seen = 0
        self._stored: OrderedDict[str, tuple[LLMRequest, Answer]] = OrderedDict()
        # Ids differ between servers: telemetry under test may take an answer seen twice for one.
        self._token = secrets.token_hex(4)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The URL to give to OpenAI's SDK as its `base_url`."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """The same without `/v1`: Azure's endpoint, and the `base_url` of Anthropic's and Google's SDKs."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ledger(self) -> tuple[Served, ...]:
        """What was answered so far, in the order it was finished, across restarts."""
        return self._ledger.entries()

    def take_ledger(self) -> tuple[Served, ...]:
        """The ledger, which starts anew: for a server that runs long."""
        return self._ledger.take()

    def wait_for(self, requests: int, *, timeout_s: float = 5.0) -> tuple[Served, ...]:
        """The ledger as soon as it has that many entries.

        An answer read to its end is in the ledger already; this is for the others: requests that
        hang, and clients that left.

        Raises:
            TimeoutError: there are fewer after `timeout_s`.
        """
        return self._ledger.wait_for(requests, timeout_s=timeout_s)

    def totals(self, session: str | None = None) -> Totals:
        """Sums over the ledger, or over the entries of one session."""
        return Totals.of(served for served in self.ledger if session is None or served.session == session)

    def script(self, *answers: Answer | Fault) -> None:
        """Queue answers for the coming requests, one each, in the order these arrive."""
        self._script.extend(_as_answer(answer) for answer in answers)

    def start(self) -> Self:
        """Listen; on return requests are answered. Does nothing on a running server.

        Raises:
            OSError: the port cannot be had or the ledger's file not written.
        """
        if self._thread is None:
            self._ledger.open()
            started: deque[OSError | None] = deque()
            ready = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(ready, started), name="fake-llm", daemon=True
            )
            self._thread.start()
            ready.wait()
            failure = started.popleft()
            if failure is not None:
                self._thread.join()
                self._thread = None
                self._ledger.close()
                raise failure
        return self

    def close(self) -> None:
        """Stop listening and cut what is under way, which the ledger shows as `closed`."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        self._thread = None
        self._ledger.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, ready: threading.Event, started: deque[OSError | None]) -> None:
        asyncio.run(self._listen(ready, started))

    async def _listen(self, ready: threading.Event, started: deque[OSError | None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            listener = await self._loop.create_server(
                lambda: Connection(self._opened), "127.0.0.1", self.port, backlog=_BACKLOG
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        self.port = listener.sockets[0].getsockname()[1]
        started.append(None)
        ready.set()
        await self._stop.wait()
        listener.close()
        under_way = dict(self._connections)
        for conversation in under_way.values():
            conversation.cancel()
        await asyncio.gather(*under_way.values(), return_exceptions=True)
        for connection in under_way:
            connection.abort()
        await asyncio.sleep(0)  # what `abort` began ends in the loop's next turn

    def _opened(self, connection: Connection) -> None:
        conversation = asyncio.get_running_loop().create_task(self._converse(connection))
        self._connections[connection] = conversation
        conversation.add_done_callback(lambda _: self._connections.pop(connection))

    async def _converse(self, connection: Connection) -> None:
        try:
            while (received := await connection.read()) is not None:
                if not await self._answer(connection, received):
                    break
        except BadHTTPError as error:
            body = openai.error(error.status, str(error))
            start = wire.head(error.status, {"content-length": str(len(body)), "connection": "close"})
            await connection.send(start + body)
        except ClientGoneError:
            pass
        await connection.close()

    async def _answer(self, connection: Connection, received: Received) -> bool:
        address = find(received.path, received.query) if received.method == "POST" else None
        if not isinstance(address, Address):
            return await self._answer_else(connection, received, counter=address)
        self._requests_seen += 1
        number = self._requests_seen
        delivery = Delivery(
            connection,
            self._ledger,
            received=received,
            protocol=address.protocol,
            tag=f"{self._token}{number:06d}",
        )
        try:
            request = read_request(address, received.body, number=number, headers=received.headers)
            brought = _brought(request)
        except BadRequestError as error:
            return await delivery.reject(400, str(error))
        # As a result, whoever wrote `respond` sees its error at the client.
        [decided] = await asyncio.gather(self._decide(request, brought), return_exceptions=True)
        if isinstance(decided, BaseException):
            message = f"respond raised {type(decided).__name__}: {decided}"
            return await delivery.reject(500, message, request=request)
        if address.protocol is RESPONSES and request.body.get("store") is not False:
            self._stored[delivery.response_id] = request, decided
            if len(self._stored) > _STORED_LIMIT:
                self._stored.popitem(last=False)
        return await delivery.deliver(request, decided)

    async def _answer_else(
        self, connection: Connection, received: Received, *, counter: TokenCount | None
    ) -> bool:
        """Answer what is no inference; none of it enters the ledger."""
        path = received.path.removeprefix("/v1")
        stored = self._stored.get(path.removeprefix(_STORED)) if path.startswith(_STORED) else None
        if counter is not None:
            status, body = count(counter, received.body)
        elif path == "/models" and received.method == "GET":
            status, body = 200, openai.models()
        elif stored is not None and received.method == "GET":
            status, body = 200, RESPONSES.whole(*stored, response_id=path.removeprefix(_STORED)).data
        else:
            status, body = 404, openai.error(404, f"Unknown request URL: {received.method} {received.path}.")
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        await connection.send(wire.head(status, headers) + body)
        return received.keep_alive

    async def _decide(self, request: LLMRequest, brought: Answer | None) -> Answer:
        if brought is not None:
            return brought
        if self._script:
            return self._script.popleft()
        return Answer() if self._respond is None else _as_answer(self._respond(request))


def _brought(request: LLMRequest) -> Answer | None:
    text = request.headers.get(CONTROL_HEADER)
    if text is None:
        return None
    try:
        answers = answers_from_json(text)
    except ValueError as error:
        raise BadRequestError(f"{CONTROL_HEADER}: {error}") from None
    return answers[min(request.attempt, len(answers)) - 1]


def _as_answer(answer: Answer | Fault) -> Answer:
    return answer if isinstance(answer, Answer) else Answer(fault=answer)
