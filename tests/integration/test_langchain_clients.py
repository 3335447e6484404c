"""langchain's `ChatOpenAI` with our clients: the answers stay, and streams tell their usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
from langchain_openai import ChatOpenAI

from otel_genapp import bind
from otel_genapp.clients import LLMHttpClient, SyncLLMHttpClient
from otel_genapp.fake_llm import Answer, ErrorStatus, FakeLLMServer, ToolCall
from otel_genapp.testing import Captured, capture_telemetry

ASKED = "Where is order 7?"
ANSWERS = (
    Answer("It left the shop today", input_tokens=31, cached_tokens=16),
    Answer("", tool_calls=[ToolCall("find_order", {"id": 7})], input_tokens=12),
)
BACKENDS = ("httpx2", "httpx")
STYLES = ("sync", "async")
Client = Callable[..., Any]


def model_with(server: FakeLLMServer, **clients: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5-mini", base_url=server.base_url, api_key="none", **clients)  # type: ignore[arg-type]  # pydantic makes a secret of it


async def told(server: FakeLLMServer, style: str, **clients: Any) -> list[tuple[Any, ...]]:
    """What the caller sees of every answer: whole, then piece by piece."""
    model = model_with(server, **clients)
    seen = []
    for answer in ANSWERS:
        server.script(answer, answer)
        if style == "sync":
            seen.append(told_of(model.invoke(ASKED)))
            seen.append(tuple(told_of(chunk) for chunk in model.stream(ASKED)))
        else:
            seen.append(told_of(await model.ainvoke(ASKED)))
            seen.append(tuple([told_of(chunk) async for chunk in model.astream(ASKED)]))
    return seen


def told_of(message: Any) -> tuple[Any, ...]:
    """A message without its ids, which differ between answers."""
    calls = [{**call, "id": None} for call in message.tool_calls]
    pieces = [{**piece, "id": None} for piece in getattr(message, "tool_call_chunks", [])]
    said = {key: value for key, value in message.response_metadata.items() if key != "id"}
    return message.content, calls, pieces, said, message.usage_metadata


def ours(style: str, backend: str) -> dict[str, Any]:
    if style == "sync":
        return {"http_client": SyncLLMHttpClient(verify=False, backend=backend)}
    return {"http_async_client": LLMHttpClient(verify=False, backend=backend)}


def theirs(style: str, backend: str) -> dict[str, Any]:
    module: Any = {"httpx": httpx, "httpx2": httpx2}[backend]
    if style == "sync":
        return {"http_client": module.Client(verify=False)}
    return {"http_async_client": module.AsyncClient(verify=False)}


def tokens(got: Captured, session_id: str) -> tuple[Any, ...]:
    session = got.session(session_id)
    assert session is not None
    names = ("total_requests", "unknown_usage_requests", "total_prompt_tokens", "total_completion_tokens")
    return (*(session[name] for name in names), session["cached_tokens"], session["requests_with_tools"])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_the_answers_stay_and_the_tokens_are_known(style: str, backend: str) -> None:
    """With the library's own client streams tell nothing; with ours everything, and no caller sees it."""
    with FakeLLMServer() as server, capture_telemetry() as got:
        plain = await told(server, style, **theirs(style, backend))
        untold = [served.outcome for served in server.take_ledger()]
        with bind(session_id="anna"):
            seen = await told(server, style, **ours(style, backend))
        ledger, totals = server.ledger, server.totals()
        counted = tokens(got, "anna")
    assert seen == plain
    assert untold == ["ok", "no_usage"] * 2
    assert [(served.stream, served.outcome) for served in ledger] == [(False, "ok"), (True, "ok")] * 2
    assert [served.input_tokens for served in ledger] == [31, 31, 12, 12]
    assert counted == (4, 0, totals.input_tokens, totals.output_tokens, totals.cached_tokens, 2)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_retry_asks_as_well(style: str, backend: str) -> None:
    """The SDK's second attempt is a request like the first, and the call is counted once."""
    with FakeLLMServer() as server, capture_telemetry() as got:
        model = model_with(server, **ours(style, backend))
        server.script(ErrorStatus(503, retry_after_s=0), ANSWERS[0])
        with bind(session_id="anna"):
            if style == "sync":
                text = "".join(str(chunk.content) for chunk in model.stream(ASKED))
            else:
                text = "".join([str(chunk.content) async for chunk in model.astream(ASKED)])
        [failed, served] = server.ledger
        counted = tokens(got, "anna")
    assert (text, failed.status, served.outcome) == ("It left the shop today", 503, "ok")
    assert counted == (1, 0, served.input_tokens, served.output_tokens, 16, 0)


async def test_who_asks_by_hand_is_told() -> None:
    """`stream_usage=True` brings the usage to the caller, with our client as without."""
    with FakeLLMServer() as server:
        server.script(ANSWERS[0])
        model = model_with(server, http_async_client=LLMHttpClient(), stream_usage=True)
        usages = [chunk.usage_metadata async for chunk in model.astream(ASKED)]
        [served] = server.ledger
    found = [(usage["input_tokens"], usage["output_tokens"]) for usage in usages if usage]
    assert found == [(served.input_tokens, served.output_tokens)]
