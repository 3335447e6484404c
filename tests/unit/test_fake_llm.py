"""The fake LLM server as the real OpenAI SDK sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from otel_genapp.fake_llm import (
    Answer,
    Cut,
    ErrorInStream,
    ErrorStatus,
    FakeLLMServer,
    Hang,
    LLMRequest,
    MalformedJSON,
    NoUsage,
    Served,
    ToolCall,
    Totals,
)

MODEL = "gpt-5-mini"
Messages = list[Any]


def say(text: str) -> Messages:
    return [{"role": "user", "content": text}]


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer() as running:
        yield running


@pytest.fixture
def client(server: FakeLLMServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-any", max_retries=0) as made:
        yield made


def facts(served: Served) -> dict[str, Any]:
    """An entry without ids, times, sizes and headers."""
    names = ("session", "model", "stream", "attempt", "status", "outcome", "tool_calls")
    tokens = (served.input_tokens, served.output_tokens, served.cached_tokens, served.reasoning_tokens)
    return {**{name: getattr(served, name) for name in names}, "tokens": tokens}


def expected(**changes: Any) -> dict[str, Any]:
    plain = {
        "session": None,
        "model": MODEL,
        "stream": False,
        "attempt": 1,
        "status": 200,
        "outcome": "ok",
        "tool_calls": (),
        "tokens": (None, None, None, None),
    }
    return {**plain, **changes}


def test_default_answer_is_an_echo_with_counted_words(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Without a script the last message comes back and the ledger holds what the SDK was told."""
    messages = [{"role": "system", "content": "Be brief."}, *say("where is my order")]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, extra_headers={"x-session-id": "s1"}
    )
    usage = answer.usage
    assert usage is not None
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason, usage.total_tokens) == (
        "You said: where is my order", "stop", 14 + 6,
    )  # fmt: skip
    [served] = server.ledger
    assert facts(served) == expected(session="s1", tokens=(14, 6, 0, 0))
    assert (served.response_id, served.request_id) == (answer.id, answer._request_id)
    assert served.headers["authorization"] == "[REDACTED]"
    assert 0 < served.started_s <= served.ended_s
    assert server.totals("s1").as_dict() == {
        "requests": 1, "succeeded": 1, "failed": 0, "input_tokens": 14, "output_tokens": 6,
        "cached_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "tool_calls": 0,
    }  # fmt: skip
    assert server.totals("s2") == Totals()


def test_scripted_tokens_and_tools_arrive_whole(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Every number and tool of a scripted answer is what the SDK parses and what the ledger says."""
    search = ToolCall("search", json.dumps({"query": "red shoes"}))
    script = Answer(
        tool_calls=(search, "stock"), input_tokens=120, output_tokens=40, cached_tokens=100, reasoning_tokens=30
    )  # fmt: skip
    server.script(script)
    answer = client.chat.completions.create(
        model=MODEL, messages=say("shoes?"), user="u7", metadata={"session_id": "m1"}
    )
    message = answer.choices[0].message
    calls = [call.model_dump()["function"] for call in message.tool_calls or ()]
    assert (message.content, answer.choices[0].finish_reason, calls) == (
        None,
        "tool_calls",
        [{"name": "search", "arguments": '{"query": "red shoes"}'}, {"name": "stock", "arguments": "{}"}],
    )
    told = answer.usage.model_dump(exclude_none=True) if answer.usage else {}
    assert told == {
        "prompt_tokens": 120,
        "completion_tokens": 40,
        "total_tokens": 160,
        "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 30,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert [facts(served) for served in server.ledger] == [
        expected(session="m1", tool_calls=("search", "stock"), tokens=(120, 40, 100, 30))
    ]


@pytest.mark.parametrize("asked", [True, False])
def test_stream_tells_usage_only_when_asked(
    server: FakeLLMServer, client: openai.OpenAI, asked: bool
) -> None:
    """The usage chunk has no choices and comes last, and the ledger knows whether it was sent."""
    server.script(Answer("It is here.\n", tool_calls=("search",), output_tokens=9, input_tokens=5))
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    chunks: list[ChatCompletionChunk] = list(
        client.chat.completions.create(model=MODEL, messages=say("hi"), stream=True, **options)
    )
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    tools = [tool for choice in choices for tool in choice.delta.tool_calls or ()]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "It is here.\n"
    assert [(tool.function.name, tool.id is not None) for tool in tools if tool.function] == [
        ("search", True), (None, False), (None, False),
    ]  # fmt: skip
    assert "".join((tool.function and tool.function.arguments) or "" for tool in tools) == "{}"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    told = [(chunk.usage.prompt_tokens, len(chunk.choices)) for chunk in chunks if chunk.usage]
    assert told == ([(5, 0)] if asked else [])
    assert [facts(served) for served in server.ledger] == [
        expected(stream=True, tool_calls=("search",), tokens=(5, 9, 0, 0))
        if asked
        else expected(stream=True, tool_calls=("search",), outcome="no_usage")
    ]


def test_alternatives_share_one_usage(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """With `n`, each alternative arrives and the usage counts them all."""
    whole = client.chat.completions.create(model=MODEL, messages=say("hi"), n=2)
    streamed = client.chat.completions.create(
        model=MODEL, messages=say("hi"), n=2, stream=True, stream_options={"include_usage": True}
    )
    ended = [choice.index for chunk in streamed for choice in chunk.choices if choice.finish_reason]
    assert ([choice.index for choice in whole.choices], ended) == ([0, 1], [0, 1])
    assert [served.output_tokens for served in server.ledger] == [6, 6]


async def test_async_client_streams_and_waits(server: FakeLLMServer) -> None:
    """The async SDK gets whole and streamed answers over kept-alive connections."""
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any") as client:
        whole = await client.chat.completions.create(model=MODEL, messages=say("one"))
        stream = await client.chat.completions.create(
            model=MODEL, messages=say("two"), stream=True, stream_options={"include_usage": True}
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert (whole.choices[0].message.content, text) == ("You said: one", "You said: two")
    assert [facts(served) for served in server.ledger] == [
        expected(tokens=(5, 3, 0, 0)),
        expected(stream=True, tokens=(5, 3, 0, 0)),
    ]


def test_refused_request_is_retried_at_once(server: FakeLLMServer) -> None:
    """After 429 with a wait of 0 the SDK's retry finds the next answer of the script."""
    server.script(ErrorStatus(429, retry_after_s=0), ErrorStatus(503, retry_after_s=0.01), Answer("ok"))
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=2) as client:
        answer = client.chat.completions.create(model=MODEL, messages=say("hi"))
    assert answer.choices[0].message.content == "ok"
    assert [facts(served) for served in server.ledger] == [
        expected(status=429, outcome="error"),
        expected(status=503, outcome="error", attempt=2),
        expected(tokens=(5, 1, 0, 0), attempt=3),
    ]
    assert server.ledger[2].ended_s - server.ledger[0].started_s < 0.4  # its own back-off is longer


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
def test_error_status_raises_in_the_sdk(
    server: FakeLLMServer, client: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """Each status becomes the SDK's own exception with the message of the script."""
    server.script(ErrorStatus(status, message="not today"))
    with pytest.raises(error, match="not today") as raised:
        client.chat.completions.create(model=MODEL, messages=say("hi"))
    assert raised.value.request_id == server.ledger[0].request_id
    assert facts(server.ledger[0]) == expected(status=status, outcome="error")


@pytest.mark.parametrize("reset", [True, False])
def test_cut_stream_raises_after_the_chunks_sent(
    server: FakeLLMServer, client: openai.OpenAI, reset: bool
) -> None:
    """A stream cut after three chunks gives the SDK these three and then an error."""
    server.script(Answer("one two three four", fault=Cut(after_chunks=3, reset=reset)))
    stream = client.chat.completions.create(model=MODEL, messages=say("hi"), stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "one", " two"]
    with pytest.raises(openai.APIConnectionError):
        next(stream)
    assert facts(server.ledger[0]) == expected(stream=True, outcome="cut")


def test_cut_after_usage_still_told_it(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Tokens count as told once their chunk is out, even when the end never comes."""
    server.script(Answer("x", input_tokens=3, output_tokens=4, fault=Cut(after_chunks=99)))
    stream = client.chat.completions.create(
        model=MODEL, messages=say("hi"), stream=True, stream_options={"include_usage": True}
    )
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert facts(server.ledger[0]) == expected(stream=True, outcome="cut", tokens=(3, 4, 0, 0))


def test_cut_body_raises(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """A body cut at its half is a connection error to the SDK."""
    server.script(Cut())
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model=MODEL, messages=say("hi"))
    assert facts(server.ledger[0]) == expected(outcome="cut")


@pytest.mark.parametrize("stream", [True, False])
def test_no_usage_is_a_complete_answer(server: FakeLLMServer, client: openai.OpenAI, stream: bool) -> None:
    """The answer arrives whole without tokens, although they were asked for."""
    server.script(NoUsage())
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer: Any = client.chat.completions.create(model=MODEL, messages=say("hi"), **options)
    assert [part.usage for part in (answer if stream else [answer]) if part.usage] == []
    assert facts(server.ledger[0]) == expected(stream=stream, outcome="no_usage")


def test_error_inside_a_stream_raises(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """An error object in a 200 stream raises in the SDK with the message of the script."""
    server.script(Answer("one two", fault=ErrorInStream(after_chunks=2, message="overloaded")))
    stream = client.chat.completions.create(model=MODEL, messages=say("hi"), stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        list(stream)
    assert facts(server.ledger[0]) == expected(stream=True, outcome="error_in_stream")


@pytest.mark.parametrize("stream", [True, False])
def test_malformed_json_raises(server: FakeLLMServer, client: openai.OpenAI, stream: bool) -> None:
    """JSON that ends too early raises a decoding error out of the SDK."""
    server.script(MalformedJSON())
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        list(client.chat.completions.create(model=MODEL, messages=say("hi"), stream=stream))
    assert facts(server.ledger[0]) == expected(stream=stream, outcome="malformed_json")


@pytest.mark.parametrize(("after_chunks", "stream", "status"), [(0, False, 0), (0, True, 0), (2, True, 200)])
async def test_hang_lasts_until_the_client_leaves(
    server: FakeLLMServer, after_chunks: int, stream: bool, status: int
) -> None:
    """A client with a read timeout gives up, and the ledger says how far the answer had come."""
    server.script(Hang(after_chunks))
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:

        async def read_whole() -> None:
            answer: Any = await client.chat.completions.create(
                model=MODEL, messages=say("hi"), stream=stream, timeout=0.2
            )
            async for _ in answer:
                pass

        with pytest.raises((openai.APITimeoutError, openai.APIConnectionError)):
            await read_whole()
    [served] = await asyncio.to_thread(server.wait_for, 1)
    assert facts(served) == expected(stream=stream, status=status, outcome="hang")


def test_client_that_leaves_mid_stream_is_gone(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Closing a stream before its end is an answer nobody took, whose tokens were not told."""
    server.script(Answer("one two three", chunk_delay_s=0.03))
    options: Any = {"stream_options": {"include_usage": True}}
    stream = client.chat.completions.create(model=MODEL, messages=say("hi"), stream=True, **options)
    next(stream)
    stream.close()
    [served] = server.wait_for(1)
    assert facts(served) == expected(stream=True, outcome="gone")


def test_respond_decides_by_the_request(client: openai.OpenAI, server: FakeLLMServer) -> None:
    """A callable sees who asks what for the how-manieth time, after the script is used up."""
    asked: list[tuple[int, str | None, int, str]] = []

    def respond(request: LLMRequest) -> Answer | ErrorStatus:
        asked.append((request.number, request.session, request.attempt, request.text))
        return Answer("fine") if request.attempt > 1 else ErrorStatus(500, retry_after_s=0)

    with FakeLLMServer(respond) as deciding:
        deciding.script(Answer("scripted"))
        own = client.with_options(base_url=deciding.base_url, max_retries=1)
        texts = [
            own.chat.completions.create(
                model=MODEL, messages=say(text), extra_headers={"x-session-id": "s"}
            ).choices[0].message.content
            for text in ("a", "b")
        ]  # fmt: skip
    assert (texts, asked) == (["scripted", "fine"], [(2, "s", 1, "b"), (3, "s", 2, "b")])


def test_respond_that_raises_is_a_500(client: openai.OpenAI) -> None:
    """The error of a broken callable reaches whoever wrote it, at the client."""

    def respond(request: LLMRequest) -> Answer:
        raise KeyError(request.text)

    with FakeLLMServer(respond) as broken, pytest.raises(openai.InternalServerError, match="KeyError: 'hi'"):
        client.with_options(base_url=broken.base_url).chat.completions.create(model=MODEL, messages=say("hi"))
    assert [facts(served) for served in broken.ledger] == [expected(status=500, outcome="error")]


def test_request_may_bring_its_answers(server: FakeLLMServer) -> None:
    """The control header holds one answer for each attempt, the last for all further ones."""
    answers = [
        {"fault": {"kind": "error", "status": 429, "retry_after_s": 0}},
        {"text": "ok", "tool_calls": ["a", {"name": "b", "arguments": "{}"}], "input_tokens": 1},
    ]
    headers = {"x-fake-answer": json.dumps(answers)}
    with openai.OpenAI(base_url=server.base_url, api_key="any") as client:
        client.chat.completions.create(model=MODEL, messages=say("hi"), extra_headers=headers)
        for wrong, named in (
            ('{"fault": "explode"}', "a fault's kind must be one of error, cut"),
            ('{"txt": ""}', "Answer has no 'txt'"),
            ("[]", "empty list"),
            ("7", "must be a JSON object"),
        ):
            with pytest.raises(openai.BadRequestError, match=named):
                client.chat.completions.create(
                    model=MODEL, messages=say("hi"), extra_headers={"x-fake-answer": wrong}
                )
    assert [facts(served) for served in server.ledger[:2]] == [
        expected(status=429, outcome="error"),
        expected(attempt=2, tool_calls=("a", "b"), tokens=(1, 5, 0, 0)),
    ]


def test_embeddings_and_models(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Vectors follow from the text whatever their encoding, and only the input has tokens."""
    model = "text-embedding-3-small"
    packed = client.embeddings.create(model=model, input=["red shoes", "blue hat now"])
    plain = client.embeddings.create(model=model, input=["red shoes"], encoding_format="float")
    counted = client.embeddings.create(model=model, input=[1, 2, 3])
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert [answer.usage.total_tokens for answer in (packed, plain, counted)] == [5, 2, 3]
    assert model in [listed.id for listed in client.models.list()]
    assert [(served.operation, facts(served)) for served in server.ledger] == [
        ("embeddings", expected(model=model, tokens=(tokens, None, None, None))) for tokens in (5, 2, 3)
    ]


async def test_thousand_concurrent_calls_are_all_in_the_ledger(server: FakeLLMServer) -> None:
    """A thousand calls, a hundred at a time, are answered and written down once each."""
    gate = asyncio.Semaphore(100)
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:

        async def call(number: int) -> int:
            async with gate:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=say("w " * (number % 7)), user=f"s{number % 10}"
                )
            return answer.usage.total_tokens if answer.usage else 0

        told = await asyncio.gather(*(call(number) for number in range(1000)))
    totals = server.totals()
    assert (totals.requests, totals.input_tokens + totals.output_tokens) == (1000, sum(told))
    assert [server.totals(f"s{place}").requests for place in range(10)] == [100] * 10
