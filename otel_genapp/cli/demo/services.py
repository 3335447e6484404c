"""The two services of the demo, written as an application of this package's users would be.

Nothing in here says a word of LLM calls: they are seen on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import flask
import httpx
import openai
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from otel_genapp import action_tracking, bind
from otel_genapp.cli.demo.desk import add_desk, customer_of, note

_SYSTEM = (
    "You are the assistant of an outdoor shop. Be brief and friendly. Look products and orders up with "
    "your tools and never invent a price, a delivery date or an order. If a tool fails, say so."
)
_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("search_products", "order_status")
]
_PRODUCTS = {
    "shoes": ("Red Runner, 89 €", "Trail Fox, 119 €"),
    "jacket": ("Storm Shell, 149 €",),
    "hat": ("Wool Cap, 25 €", "Fur Ear, 39 €"),
    "tent": ("Family Dome, 249 €", "Ridge Four, 279 €"),
    "boots": ("Leather Peak, 199 €",),
}
_SESSIONS_REMEMBERED, _MESSAGES_REMEMBERED, _TOOL_ROUNDS = 1000, 8, 3


class Question(BaseModel):
    """What a customer sends to `/chat`."""

    session: str
    message: str


def make_catalogue() -> flask.Flask:
    """The service that knows products and orders. Orders that end in 7 are in a broken warehouse."""
    app = flask.Flask("catalogue")

    @app.get("/search")
    def search() -> Any:
        with action_tracking("search_products_task") as tracker:
            found = _PRODUCTS.get(flask.request.args.get("q", ""), ())
            tracker.size(len(found))
            return {"products": found}

    @app.get("/orders/<number>")
    def order_status(number: str) -> Any:
        with action_tracking("order_status_task") as tracker:
            if number.endswith("7"):
                tracker.to_fail()
                return {"error": "the warehouse does not answer"}, 503
            if number.endswith("3"):
                return {"error": f"there is no order {number}"}, 404
            return {"order": number, "status": "sent", "arrives": "tomorrow"}

    return app


class ShopBot:
    """The conversation with the model, one short history for each session."""

    def __init__(self, *, llm_url: str, catalogue_url: str) -> None:
        # Loopback only: proxies of the machine's environment are none of the demo's business.
        self._llm = openai.AsyncOpenAI(
            base_url=llm_url,
            api_key="demo",
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )
        self._catalogue = httpx.AsyncClient(base_url=catalogue_url, trust_env=False)
        self._histories: OrderedDict[str, list[Any]] = OrderedDict()

    async def close(self) -> None:
        """Close the connections to the model and the catalogue."""
        await self._llm.close()
        await self._catalogue.aclose()

    async def answer(self, question: Question) -> str:
        """The model's answer, with the tools it asked for on the way."""
        messages = self._remember(question.session, {"role": "user", "content": question.message})
        for _ in range(_TOOL_ROUNDS):
            completion = await self._ask(question, messages)
            message = completion.choices[0].message
            if not message.tool_calls:
                self._remember(question.session, {"role": "assistant", "content": message.content})
                return message.content or ""
            messages.append(message.model_dump(exclude_none=True))
            for wanted in message.tool_calls:
                if wanted.type == "function":
                    found = await self._look_up(wanted.function.name, wanted.function.arguments)
                    messages.append({"role": "tool", "tool_call_id": wanted.id, "content": found})
        return "I could not find that out."

    async def stream(self, question: Question) -> AsyncIterator[str]:
        """The model's answer piece by piece."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        # The call lives in a task of its own: its span must not stay attached while we yield.
        producing = asyncio.create_task(self._produce(question, pieces))
        producing.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
        finally:
            producing.cancel()
            await asyncio.wait((producing,))

    async def _produce(self, question: Question, pieces: asyncio.Queue[str | None]) -> None:
        messages = self._remember(question.session, {"role": "user", "content": question.message})
        model = _model_for(question)
        whom = bind(session_id=question.session, user_id=customer_of(question.session))
        with whom, action_tracking("stream_handler") as tracker:
            try:
                stream = await self._llm.chat.completions.create(
                    model=model,
                    messages=[{"role": "system", "content": _SYSTEM}, *messages],
                    stream=True,
                    stream_options={"include_usage": True},
                    metadata={"session_id": question.session},
                )
                async with stream:
                    async for chunk in stream:
                        piece = "".join(choice.delta.content or "" for choice in chunk.choices)
                        tracker.size(len(piece))
                        pieces.put_nowait(piece)
                note(question.message)
            except openai.OpenAIError:
                tracker.to_fail()
                pieces.put_nowait(" … (the model is not available)")

    async def _ask(self, question: Question, messages: list[Any]) -> ChatCompletion:
        return await self._llm.chat.completions.create(
            model=_model_for(question),
            messages=[{"role": "system", "content": _SYSTEM}, *messages],
            tools=_TOOLS,
            metadata={"session_id": question.session},
        )

    async def _look_up(self, tool: str, arguments: str) -> str:
        given = json.loads(arguments)
        if tool == "search_products":
            found = await self._catalogue.get("/search", params={"q": given["query"]})
        else:
            found = await self._catalogue.get(f"/orders/{given['order']}")
        return found.text

    def _remember(self, session: str, message: dict[str, Any]) -> list[Any]:
        history = [*self._histories.pop(session, ()), message][-_MESSAGES_REMEMBERED:]
        self._histories[session] = history
        while len(self._histories) > _SESSIONS_REMEMBERED:
            self._histories.popitem(last=False)
        return list(history)


def make_bot(*, llm_url: str, catalogue_url: str) -> FastAPI:
    """The chat service."""
    bot = ShopBot(llm_url=llm_url, catalogue_url=catalogue_url)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await bot.close()

    app = FastAPI(title="shop-bot", lifespan=lifespan)

    @app.post("/chat")
    async def chat(question: Question) -> dict[str, str]:
        whom = bind(session_id=question.session, user_id=customer_of(question.session))
        with whom, action_tracking("chat_handler") as tracker:
            try:
                answer = await bot.answer(question)
            except openai.OpenAIError:
                tracker.to_fail()
                raise HTTPException(502, "The model is not available.") from None
            tracker.size(len(answer))
            note(question.message)
            return {"answer": answer}

    @app.post("/chat/stream")
    async def chat_stream(question: Question) -> StreamingResponse:
        return StreamingResponse(bot.stream(question), media_type="text/plain")

    add_desk(app)
    return app


def _model_for(question: Question) -> str:
    return "gpt-5" if "compare" in question.message.lower() else "gpt-5-mini"
