"""langchain's `ChatOpenAI` with our client: it answers as ever, and its streams tell their usage."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_genapp import bind
from otel_genapp.clients import LLMHttpClient, SyncLLMHttpClient
from otel_genapp.fake_llm import Answer, ErrorStatus, FakeLLMServer, Served, ToolCall
from otel_genapp.testing import Captured, capture_telemetry

langchain_openai = pytest.importorskip("langchain_openai")

# langchain's own warnings are not ours to fail on.
pytestmark = pytest.mark.filterwarnings("ignore:::langchain_openai", "ignore:::langchain_core")

TEXT = "Grüße aus dem Laden"


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer(lambda _: Answer(TEXT, input_tokens=11, output_tokens=4, cached_tokens=3)) as running:
        yield running


@pytest.fixture
def got(server: FakeLLMServer) -> Iterator[Captured]:
    with capture_telemetry() as captured:
        yield captured


def model(server: FakeLLMServer, **clients: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        model="gpt-5-mini", base_url=server.base_url, api_key="none", max_retries=2, **clients
    )


@asynccontextmanager
async def async_model(server: FakeLLMServer, backend: str = "httpx2") -> AsyncIterator[Any]:
    async with LLMHttpClient(verify=False, backend=backend) as client:
        yield model(server, http_async_client=client)


def check(server: FakeLLMServer, got: Captured, *, calls: int) -> tuple[Served, ...]:
    """The server told its usage each time, and the session's numbers are the ledger's."""
    ledger, totals = server.ledger, server.totals()
    session = got.session("anna")
    assert session is not None
    assert {served.outcome for served in ledger} == {"ok"}
    assert {
        "calls": session["total_requests"],
        "succeeded": session["successful_requests"],
        "input": session["total_prompt_tokens"],
        "output": session["total_completion_tokens"],
        "cached": session["cached_tokens"],
        "unknown": session["unknown_usage_requests"],
    } == {
        "calls": calls,
        "succeeded": calls,
        "input": totals.input_tokens,
        "output": totals.output_tokens,
        "cached": totals.cached_tokens,
        "unknown": 0,
    }
    assert totals.input_tokens > 0
    return ledger


@pytest.mark.parametrize("backend", ["httpx2", "httpx"])
def test_sync(server: FakeLLMServer, got: Captured, backend: str) -> None:
    """`http_client`: one whole answer and one streamed, each call counted with the server's numbers."""
    with SyncLLMHttpClient(verify=False, backend=backend) as client, bind(session_id="anna"):
        chat = model(server, http_client=client)
        whole = chat.invoke("Hello")
        pieces = list(chat.stream("Hello"))
    assert (whole.content, "".join(piece.content for piece in pieces)) == (TEXT, TEXT)
    assert whole.usage_metadata["input_tokens"] == 11
    assert [served.stream for served in check(server, got, calls=2)] == [False, True]


@pytest.mark.parametrize("backend", ["httpx2", "httpx"])
async def test_async(server: FakeLLMServer, got: Captured, backend: str) -> None:
    """`http_async_client`: the same, awaited."""
    async with async_model(server, backend) as chat:
        with bind(session_id="anna"):
            whole = await chat.ainvoke("Hello")
            pieces = [piece async for piece in chat.astream("Hello")]
    assert (whole.content, "".join(piece.content for piece in pieces)) == (TEXT, TEXT)
    assert [served.stream for served in check(server, got, calls=2)] == [False, True]


async def test_a_stream_that_asks_itself_gets_its_usage(server: FakeLLMServer, got: Captured) -> None:
    """Where the caller wants the usage, it is the caller's."""
    async with async_model(server) as chat:
        with bind(session_id="anna"):
            pieces = [piece async for piece in chat.astream("Hello", stream_usage=True)]
    told = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert [(usage["input_tokens"], usage["output_tokens"]) for usage in told] == [(11, 4)]
    check(server, got, calls=1)


async def test_tool_calls_come_through(server: FakeLLMServer, got: Captured) -> None:
    """A streamed tool call is put together as without us."""
    server.script(Answer(tool_calls=(ToolCall("search", '{"q": "tea"}'),), input_tokens=5))
    async with async_model(server) as chat:
        with bind(session_id="anna"):
            pieces = [piece async for piece in chat.astream("Hello")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("search", {"q": "tea"})]
    assert check(server, got, calls=1)[0].tool_calls == ("search",)


async def test_a_retried_stream_asks_each_time(server: FakeLLMServer, got: Captured) -> None:
    """The SDK's second attempt is another copy, and one call."""
    server.script(ErrorStatus(429, retry_after_s=0), Answer(TEXT, input_tokens=9))
    async with async_model(server) as chat:
        with bind(session_id="anna"):
            pieces = [piece async for piece in chat.astream("Hello")]
    session = got.session("anna")
    assert session is not None
    assert "".join(piece.content for piece in pieces) == TEXT
    assert [served.outcome for served in server.ledger] == ["error", "ok"]
    assert (session["total_requests"], session["total_prompt_tokens"]) == (1, 9)


async def told(chat: Any) -> list[tuple[Any, ...]]:
    """All that a caller sees of an answer's pieces, but for the ids that differ between answers."""
    return [
        (
            piece.content,
            [{**call, "id": None} for call in piece.tool_call_chunks],
            {name: value for name, value in piece.response_metadata.items() if name != "id"},
            piece.usage_metadata,
        )
        async for piece in chat.astream("Hello")
    ]


@pytest.mark.parametrize("backend", ["httpx2", "httpx"])
async def test_a_caller_sees_what_a_plain_client_shows(server: FakeLLMServer, backend: str) -> None:
    """Piece by piece the same; but only our client has the server tell its usage."""
    library = importlib.import_module(backend)
    answers = (Answer(TEXT), Answer(tool_calls=(ToolCall("search", '{"q": "tea"}'),)))
    server.script(*answers, *answers)
    async with library.AsyncClient() as client, async_model(server, backend) as ours:
        plain = model(server, http_async_client=client)
        expected = [await told(plain) for _ in answers]
        found = [await told(ours) for _ in answers]
    assert found == expected
    assert [served.outcome for served in server.ledger] == ["no_usage", "no_usage", "ok", "ok"]
