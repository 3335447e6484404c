"""The ways to call a model, by client: a name, which is also the session, and a function that does it.

Every request says in its body who asks, so that the server knows the session from the caller and
not from the telemetry under test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Ways = Mapping[str, Callable[[], Any]]

MODEL = "gpt-5-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
CLAUDE = "claude-fake"
GEMINI = "gemini-3-flash"
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CROWD = 6
"""How many sessions call at the same time, in one event loop."""


def say(text: str) -> list[Any]:
    """The messages of one question."""
    return [{"role": "user", "content": text}]


def together(one: Callable[[str], Any]) -> Callable[[], Any]:
    """Calls of many sessions at once, each bound to its own."""
    from otel_genapp import bind

    async def bound(session: str) -> None:
        with bind(session_id=session):
            await one(session)

    async def crowd() -> None:
        await asyncio.gather(*(bound(f"crowd-{place}") for place in range(CROWD)))

    return crowd


def openai(url: str) -> Ways:
    """The OpenAI SDK over its own HTTP client."""
    import openai as sdk

    client = sdk.OpenAI(base_url=f"{url}/v1", api_key="none")

    def chat(session: str, **more: Any) -> Any:
        return client.chat.completions.create(model=MODEL, messages=say("Hello"), user=session, **more)

    def respond(session: str, **more: Any) -> Any:
        return client.responses.create(model=MODEL, input="Hello", user=session, **more)

    async def chat_async(session: str, **more: Any) -> Any:
        async with sdk.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as own:
            answer = await own.chat.completions.create(
                model=MODEL, messages=say("Hello"), user=session, **more
            )
            return [chunk async for chunk in answer] if more else answer

    async def respond_async(session: str, **more: Any) -> Any:
        async with sdk.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as own:
            answer: Any = await own.responses.create(model=MODEL, input="Hello", user=session, **more)
            return [event async for event in answer] if more else answer

    def refused(call: Callable[[str], Any], session: str) -> None:
        with suppress(sdk.BadRequestError):
            call(session)

    return {
        "chat": lambda: chat("chat"),
        "chat_stream": lambda: list(chat("chat_stream", **WITH_USAGE)),
        "chat_async": lambda: chat_async("chat_async"),
        "chat_async_stream": lambda: chat_async("chat_async_stream", **WITH_USAGE),
        "responses": lambda: respond("responses"),
        "responses_stream": lambda: list(respond("responses_stream", stream=True)),
        "responses_async": lambda: respond_async("responses_async"),
        "responses_async_stream": lambda: respond_async("responses_async_stream", stream=True),
        "embeddings": lambda: client.embeddings.create(
            model=EMBEDDING_MODEL, input=["red shoes"], user="embeddings"
        ),
        "retry": lambda: chat("retry"),
        "retry_stream": lambda: list(chat("retry_stream", **WITH_USAGE)),
        "retry_responses": lambda: respond("retry_responses"),
        "refused": lambda: refused(chat, "refused"),
        "refused_responses": lambda: refused(respond, "refused_responses"),
        "crowd": together(chat_async),
    }


def langchain(url: str) -> Ways:
    """ChatOpenAI and OpenAIEmbeddings of langchain."""
    import openai as sdk
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    def model(**settings: Any) -> Any:
        made: Any = ChatOpenAI
        return made(model=MODEL, base_url=f"{url}/v1", api_key="none", stream_usage=True, **settings)

    responses = {"use_responses_api": True}

    async def stream(session: str, **settings: Any) -> Any:
        return [chunk async for chunk in model(**settings).astream("Hello", user=session)]

    def refused(session: str, **settings: Any) -> None:
        with suppress(sdk.BadRequestError):
            model(**settings).invoke("Hello", user=session)

    # Without the flag it asks the internet for a tokenizer's table.
    vectors = {"check_embedding_ctx_length": False, "model_kwargs": {"user": "embeddings"}}
    embeddings: Any = OpenAIEmbeddings(model=EMBEDDING_MODEL, base_url=f"{url}/v1", api_key="none", **vectors)  # type: ignore[arg-type, unused-ignore]
    return {
        "chat": lambda: model().invoke("Hello", user="chat"),
        "chat_stream": lambda: list(model().stream("Hello", user="chat_stream")),
        "chat_async": lambda: model().ainvoke("Hello", user="chat_async"),
        "chat_async_stream": lambda: stream("chat_async_stream"),
        "responses": lambda: model(**responses).invoke("Hello", user="responses"),
        "responses_stream": lambda: list(model(**responses).stream("Hello", user="responses_stream")),
        "responses_async": lambda: model(**responses).ainvoke("Hello", user="responses_async"),
        "responses_async_stream": lambda: stream("responses_async_stream", **responses),
        "embeddings": lambda: embeddings.embed_documents(["red shoes"]),
        "retry": lambda: model().invoke("Hello", user="retry"),
        "retry_stream": lambda: list(model().stream("Hello", user="retry_stream")),
        "retry_responses": lambda: model(**responses).invoke("Hello", user="retry_responses"),
        "refused": lambda: refused("refused"),
        "refused_responses": lambda: refused("refused_responses", **responses),
        "crowd": together(lambda session: model().ainvoke("Hello", user=session)),
    }


def anthropic(url: str) -> Ways:
    """Anthropic's SDK."""
    import anthropic as sdk

    client = sdk.Anthropic(base_url=url, api_key="none")

    def asked(session: str) -> dict[str, Any]:
        return {
            "model": CLAUDE,
            "max_tokens": 100,
            "messages": say("Hello"),
            "metadata": {"user_id": session},
        }

    async def create_async(session: str, **more: Any) -> Any:
        async with sdk.AsyncAnthropic(base_url=url, api_key="none") as own:
            answer = await own.messages.create(**asked(session), **more)
            return [event async for event in answer] if more else answer

    async def stream_async() -> Any:
        async with (
            sdk.AsyncAnthropic(base_url=url, api_key="none") as own,
            own.messages.stream(**asked("managed_async_stream")) as stream,
        ):
            return await stream.get_final_message()

    def managed() -> Any:
        with client.messages.stream(**asked("managed_stream")) as stream:
            return stream.get_final_message()

    def refused() -> None:
        with suppress(sdk.BadRequestError):
            client.messages.create(**asked("refused"))

    def counted() -> None:
        client.messages.count_tokens(model=CLAUDE, messages=say("Hello"))

    return {
        "chat": lambda: client.messages.create(**asked("chat")),
        "chat_stream": lambda: list(client.messages.create(**asked("chat_stream"), stream=True)),
        "chat_async": lambda: create_async("chat_async"),
        "chat_async_stream": lambda: create_async("chat_async_stream", stream=True),
        "managed_stream": managed,
        "managed_async_stream": stream_async,
        "retry": lambda: client.messages.create(**asked("retry")),
        "retry_stream": lambda: list(client.messages.create(**asked("retry_stream"), stream=True)),
        "refused": refused,
        "counted": counted,
        "crowd": together(create_async),
    }


def gemini(url: str) -> Ways:
    """Google's SDK."""
    from google import genai  # type: ignore[attr-defined, import-untyped, unused-ignore]
    from google.genai import errors, types  # type: ignore[import-untyped, unused-ignore]

    def config(session: str) -> Any:
        return types.GenerateContentConfig(
            http_options=types.HttpOptions(extra_body={"labels": {"session_id": session}})
        )

    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url))

    def asked(session: str) -> dict[str, Any]:
        return {"model": GEMINI, "contents": "Hello", "config": config(session)}

    async def chat_async(session: str) -> Any:
        return await client.aio.models.generate_content(**asked(session))

    async def stream_async() -> Any:
        stream = await client.aio.models.generate_content_stream(**asked("chat_async_stream"))
        return [chunk async for chunk in stream]

    def refused() -> None:
        with suppress(errors.ClientError):
            client.models.generate_content(**asked("refused"))

    return {
        "chat": lambda: client.models.generate_content(**asked("chat")),
        "chat_stream": lambda: list(client.models.generate_content_stream(**asked("chat_stream"))),
        "chat_async": lambda: chat_async("chat_async"),
        "chat_async_stream": stream_async,
        "refused": refused,
        "counted": lambda: client.models.count_tokens(model=GEMINI, contents="Hello"),
        "crowd": together(chat_async),
    }


def httpx(url: str) -> Ways:
    """Plain posts over httpx."""
    import httpx as library

    return _posts(library, url)


def httpx2(url: str) -> Ways:
    """Plain posts over httpx2."""
    import httpx2 as library

    return _posts(library, url)


def _posts(library: Any, url: str) -> Ways:
    def chat(session: str) -> tuple[str, dict[str, Any]]:
        return f"{url}/v1/chat/completions", {"model": MODEL, "messages": say("Hello"), "user": session}

    def respond(session: str) -> tuple[str, dict[str, Any]]:
        return f"{url}/v1/responses", {"model": MODEL, "input": "Hello", "user": session}

    def post(target: tuple[str, dict[str, Any]], **more: Any) -> None:
        library.post(target[0], json={**target[1], **more})

    def stream(target: tuple[str, dict[str, Any]], **more: Any) -> None:
        with library.stream("POST", target[0], json={**target[1], **more}) as response:
            for _ in response.iter_lines():
                pass

    async def post_async(target: tuple[str, dict[str, Any]]) -> None:
        async with library.AsyncClient() as client:
            await client.post(target[0], json=target[1])

    async def stream_async(target: tuple[str, dict[str, Any]], **more: Any) -> None:
        async with (
            library.AsyncClient() as client,
            client.stream("POST", target[0], json={**target[1], **more}) as response,
        ):
            async for _ in response.aiter_lines():
                pass

    def again() -> None:
        post(chat("retry"))
        post(chat("retry"))

    vectors = {"model": EMBEDDING_MODEL, "input": ["red shoes"], "user": "embeddings"}
    return {
        "chat": lambda: post(chat("chat")),
        "chat_stream": lambda: stream(chat("chat_stream"), **WITH_USAGE),
        "chat_async": lambda: post_async(chat("chat_async")),
        "chat_async_stream": lambda: stream_async(chat("chat_async_stream"), **WITH_USAGE),
        "responses": lambda: post(respond("responses")),
        "responses_stream": lambda: stream(respond("responses_stream"), stream=True),
        "responses_async": lambda: post_async(respond("responses_async")),
        "responses_async_stream": lambda: stream_async(respond("responses_async_stream"), stream=True),
        "embeddings": lambda: post((f"{url}/v1/embeddings", vectors)),
        "retry": again,
        "refused": lambda: post(chat("refused")),
        "crowd": together(lambda session: post_async(chat(session))),
    }
