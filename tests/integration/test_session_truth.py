"""Session totals equal what the LLM server knows it answered, whatever the sampler does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from otel_genapp import llm_call
from otel_genapp.fake_llm import Answer, ErrorStatus, Served
from otel_genapp.testing import Captured, FakeLLMServer, capture_telemetry
from tests.serving import uvicorn_serving

CALLS = 1_000
SOAK_CALLS = 20_000
SESSIONS = 20
UNSAMPLED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}


def chat_app(base_url: str) -> FastAPI:
    """A chat service: one LLM call a request, streamed or not."""
    app = FastAPI()
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)

    @app.exception_handler(openai.APIError)
    async def upstream_failed(request: Request, error: openai.APIError) -> Response:
        # Unhandled, it would make uvicorn close the client's connection under its next request.
        return Response(status_code=502)

    @app.get("/chat")
    async def chat(request: Request) -> dict[str, str]:
        with llm_call("gpt-5-mini", provider="openai") as call:
            answer = await client.chat.completions.create(
                model="gpt-5-mini", messages=[{"role": "user", "content": str(request.query_params)}]
            )
            usage: Any = answer.usage
            call.usage(input=usage.prompt_tokens, output=usage.completion_tokens)
        return {"answer": answer.choices[0].message.content or ""}

    @app.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        text = []
        with llm_call("gpt-5-mini", provider="openai") as call:
            chunks = await client.chat.completions.create(
                model="gpt-5-mini",
                messages=[{"role": "user", "content": str(request.query_params)}],
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in call.chunks(chunks):
                if chunk.usage is not None:
                    call.usage(input=chunk.usage.prompt_tokens, output=chunk.usage.completion_tokens)
                text += [choice.delta.content or "" for choice in chunk.choices]
        return StreamingResponse(iter(text))

    return app


async def send(base_url: str, headers: dict[str, str], *, calls: int) -> None:
    """Make the calls over a few keep-alive connections."""
    limits = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=30) as client:

        async def one(number: int) -> None:
            path = "/stream" if number % 4 == 0 else "/chat"
            session = f"session-{number % SESSIONS}"
            response = await client.get(
                path, params={"q": "word " * (number % 7)}, headers={**headers, "x-session-id": session}
            )
            assert response.status_code in {200, 502}

        for start in range(0, calls, 40):
            await asyncio.gather(*(one(number) for number in range(start, start + 40)))


def by_session(ledger: tuple[Served, ...]) -> dict[str, dict[str, int]]:
    """What the server answered, in the words of the session JSON."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for served in ledger:
        sums = found[served.session or "no_session"]
        sums["total_requests"] += 1
        sums["successful_requests"] += served.succeeded
        sums["failed_requests"] += not served.succeeded
        sums["total_prompt_tokens"] += served.input_tokens or 0
        sums["total_completion_tokens"] += served.output_tokens or 0
    return {session: dict(sums) for session, sums in found.items()}


def counted(got: Captured) -> dict[str, dict[str, int]]:
    """The same sums, as the telemetry tells them."""
    keys = (
        "total_requests", "successful_requests", "failed_requests",
        "total_prompt_tokens", "total_completion_tokens",
    )  # fmt: skip
    return {
        session: {key: summary[key] for key in keys}
        for session in got.sessions.list(limit=100).ids
        if (summary := got.session(session)) is not None
    }


@pytest.fixture(
    params=[
        ("parentbased_always_on", "", {}),
        ("parentbased_traceidratio", "0.01", {}),
        ("always_off", "", {}),
        ("parentbased_always_on", "", UNSAMPLED),
    ],
    ids=["all", "one-percent", "none", "client-says-no"],
)
def sampling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A sampler configured the OpenTelemetry way, and the headers clients send."""
    sampler, argument, headers = request.param
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    if argument:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    sent: dict[str, str] = headers
    return sent


def compare(headers: dict[str, str], *, calls: int) -> None:
    """Drive the service and hold every session's sums against the server's, to the token."""
    with FakeLLMServer() as llm, capture_telemetry() as got:
        llm.script(*(Answer(fault=ErrorStatus(500)) if n % 97 == 0 else Answer() for n in range(calls)))
        app = chat_app(llm.base_url)
        with uvicorn_serving(app) as server:
            asyncio.run(send(f"http://127.0.0.1:{server.port}", headers, calls=calls))
        truth = by_session(llm.wait_for(calls))
        assert counted(got) == truth
        assert sum(sums["total_requests"] for sums in truth.values()) == calls
        assert got.value("genapp_llm_requests_total") == calls
        assert got.value("genapp_llm_tokens_total", type="input") == sum(
            sums["total_prompt_tokens"] for sums in truth.values()
        )


def test_sessions_equal_the_servers_ledger(sampling: dict[str, str]) -> None:
    """1,000 calls, streamed, failed or not: every session's sums are the server's."""
    compare(sampling, calls=CALLS)


@pytest.mark.soak
def test_sessions_equal_the_servers_ledger_for_long(sampling: dict[str, str]) -> None:
    """The same for 20,000 calls."""
    compare(sampling, calls=SOAK_CALLS)
