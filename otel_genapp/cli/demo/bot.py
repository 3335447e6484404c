"""The shop's Telegram bot: handlers as a user of this package would write them, and customers who write to it.

The Bot API is a fake one on a loopback socket. aiogram runs the bot where it is installed, else
python-telegram-bot; without either `TelegramDemo.problem` says so and nothing runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import openai

from otel_genapp import current, record_message, record_outcome
from otel_genapp.capture import aiogram as watched_aiogram
from otel_genapp.capture import telegram_bot as watched_telegram
from otel_genapp.fake_telegram import FakeTelegram, Sent

USERNAME = "genapp_shop_bot"
PERSON, THANKS = "/person", "Thank you, that helps!"
_INTENTS = {"open": "opening_hours", "ship": "shipping", "present": "gifts", "berlin": "shops"}
_QUESTIONS = (
    "When are you open?",
    "Do you ship to Norway?",
    "Will you wrap it as a present?",
    "Is there a shop in Berlin?",
    "Which of your people knows about climbing?",
)
_GREETING = "Welcome to the outdoor shop! Ask me anything, or write /person to talk to somebody."
_START_TIMEOUT_S, _ANSWER_TIMEOUT_S = 20.0, 30.0
_LIBRARIES = (("aiogram", "aiogram"), ("telegram", "python-telegram-bot"))


class Send(Protocol):
    """Sends a text, with a vote under it where asked for."""

    async def __call__(self, text: str, *, vote: bool = False) -> None: ...


class ShopDesk:
    """What the bot does, whichever library brings the messages."""

    def __init__(self, llm_url: str) -> None:
        # Loopback only: proxies of the machine's environment are none of the demo's business.
        self._llm = openai.AsyncOpenAI(
            base_url=llm_url,
            api_key="demo",
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )

    async def close(self) -> None:
        """Close the connections to the model."""
        await self._llm.close()

    async def start(self, send: Send) -> None:
        """Greet somebody new."""
        await send(_GREETING)

    async def person(self, send: Send) -> None:
        """Hand the conversation over to a person."""
        record_message("telegram", "talk_to_a_person", confidence=1.0)
        record_outcome(escalated=True, platform="telegram")
        await send("One of us will write to you in a moment.")

    async def chat(self, text: str, send: Send) -> None:
        """Ask the model, and ask for a vote on its answer; thanks end the conversation well."""
        intent = next((name for word, name in _INTENTS.items() if word in text.lower()), None)
        if text == THANKS:
            record_message("telegram", "thanks", confidence=1.0)
            record_outcome(resolved=True, platform="telegram")
            await send("With pleasure.")
            return
        completion = await self._llm.chat.completions.create(
            model="gpt-5-mini",
            messages=[{"role": "user", "content": text}],
            metadata={"session_id": current().session_id or ""},
        )
        record_message("telegram", intent or "something_else", confidence=0.9 if intent else 0.3)
        if intent is not None:
            record_outcome(intent_correct=True, platform="telegram")
        await send(completion.choices[0].message.content or "I could not find that out.", vote=True)


def _aiogram_bot(desk: ShopDesk, telegram: FakeTelegram) -> Callable[[asyncio.Event], Awaitable[None]]:
    from aiogram import Bot, Dispatcher
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer
    from aiogram.filters import Command
    from aiogram.types import Message

    dispatcher = Dispatcher()
    watched_aiogram.instrument_aiogram(dispatcher)

    def sender(message: Message) -> Send:
        async def send(text: str, *, vote: bool = False) -> None:
            await message.answer(text, reply_markup=watched_aiogram.vote_keyboard() if vote else None)

        return send

    async def start(message: Message) -> None:
        await desk.start(sender(message))

    async def person(message: Message) -> None:
        await desk.person(sender(message))

    async def chat(message: Message) -> None:
        await desk.chat(message.text or "", sender(message))

    dispatcher.message.register(start, Command("start"))
    dispatcher.message.register(person, Command("person"))
    dispatcher.message.register(chat)

    async def run(stop: asyncio.Event) -> None:
        api = TelegramAPIServer.from_base(telegram.root_url)
        bot = Bot(telegram.token, session=AiohttpSession(api=api))
        polling = asyncio.create_task(dispatcher.start_polling(bot, handle_signals=False, polling_timeout=1))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((polling, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not polling.done():
            await dispatcher.stop_polling()
        stopping.cancel()
        await polling

    return run


def _telegram_bot(desk: ShopDesk, telegram: FakeTelegram) -> Callable[[asyncio.Event], Awaitable[None]]:
    from telegram import Update
    from telegram.ext import Application, CommandHandler, MessageHandler, filters
    from telegram.request import HTTPXRequest

    def request() -> HTTPXRequest:
        return HTTPXRequest(httpx_kwargs={"trust_env": False})

    builder = Application.builder().token(telegram.token).base_url(telegram.base_url)
    application: Any = builder.request(request()).get_updates_request(request()).build()
    watched_telegram.instrument_telegram(application)

    def sender(update: Any) -> Send:
        async def send(text: str, *, vote: bool = False) -> None:
            keyboard = watched_telegram.vote_keyboard() if vote else None
            await update.effective_message.reply_text(text, reply_markup=keyboard)

        return send

    async def start(update: Any, _context: Any) -> None:
        await desk.start(sender(update))

    async def person(update: Any, _context: Any) -> None:
        await desk.person(sender(update))

    async def chat(update: Any, _context: Any) -> None:
        await desk.chat(update.effective_message.text, sender(update))

    application.add_handler(CommandHandler("start", start))
    application.add_handler(CommandHandler("person", person))
    application.add_handler(MessageHandler(filters.TEXT & ~filters.COMMAND, chat))

    async def run(stop: asyncio.Event) -> None:
        async with application:
            await application.start()
            await application.updater.start_polling(timeout=1, allowed_updates=Update.ALL_TYPES)
            await stop.wait()
            await application.updater.stop()
            await application.stop()

    return run


class TelegramDemo:
    """The bot, its Bot API and its customers, from `start()` to `close()`, or as a context manager.

    Args:
        llm_url: the model's, as OpenAI's SDK takes it.
        library: `aiogram` or `telegram`; the first that is installed unless given.
        seed: of what the customers say.
    """

    def __init__(self, llm_url: str, *, library: str | None = None, seed: int = 1) -> None:
        self.telegram = FakeTelegram(USERNAME)
        self.library = library or _first_installed()
        self.problem = "" if self.library else _missing()
        self._llm_url = llm_url
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._threads: list[threading.Thread] = []
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    def start(self, customers: int | None = None) -> Self:
        """Start the bot and its customers, so many one after the other, or for ever; returns at once.

        Does nothing where no library is installed. Call it once, after `init_telemetry`.
        """
        if self.library is None:
            return self
        self.telegram.start()
        self._run(self._run_bot, "demo-telegram-bot")
        self._ready.wait(_START_TIMEOUT_S)
        self._run(lambda: self._visit(customers), "demo-telegram-customers")
        return self

    def wait(self, timeout_s: float) -> bool:
        """Whether the customers have all left within that time; only those counted out do."""
        if self._threads:
            self._threads[-1].join(timeout_s)
            return not self._threads[-1].is_alive()
        return True

    def close(self) -> None:
        """Stop the customers, then the bot, then the Bot API."""
        self._stop.set()
        loop, ending = self._loop, self._ending
        if loop is not None and ending is not None:
            with suppress(RuntimeError):  # the bot has ended by itself
                loop.call_soon_threadsafe(ending.set)
        for thread in reversed(self._threads):
            thread.join(_START_TIMEOUT_S)
        self._threads.clear()
        self.telegram.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_bot(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        desk = ShopDesk(self._llm_url)
        make = _aiogram_bot if self.library == "aiogram" else _telegram_bot
        try:
            run = make(desk, self.telegram)
            self._ready.set()
            await run(self._ending)
        finally:
            self._ready.set()
            await desk.close()

    def _visit(self, customers: int | None) -> None:
        number = 0
        while not self._stop.is_set() and (customers is None or number < customers):
            number += 1
            with suppress(TimeoutError):  # a bot that is being stopped answers nobody
                self._talk(700_000_000 + number, number)
            self._stop.wait(self._random.uniform(0.0, 0.1) if customers else self._random.uniform(1.0, 4.0))

    def _talk(self, chat_id: int, number: int) -> None:
        """One conversation; every fourth customer wants a person, every fifth dislikes an answer."""
        self._say(chat_id, "/start")
        for place, question in enumerate(self._random.sample(_QUESTIONS, k=2)):
            answer = self._say(chat_id, question)
            if answer is None:
                return
            is_good = number % 5 != 0
            if place == 0 and "👍" in answer.buttons:
                self.telegram.press(answer, "👍" if is_good else "👎")
            else:
                self.telegram.react(answer, "❤" if is_good else "👎")
        self._say(chat_id, PERSON if number % 4 == 0 else THANKS)

    def _say(self, chat_id: int, text: str) -> Sent | None:
        """Write to the bot and wait for its answer; None when the demo is being stopped."""
        if self._stop.is_set():
            return None
        before = len(self.telegram.sent)
        self.telegram.write(chat_id=chat_id, text=text)
        return self.telegram.wait_for(before + 1, timeout_s=_ANSWER_TIMEOUT_S)[-1]


def _first_installed() -> str | None:
    return next((name for name, _ in _LIBRARIES if importlib.util.find_spec(name) is not None), None)


def _missing() -> str:
    names = " nor ".join(name for _, name in _LIBRARIES)
    return f"no Telegram bot: neither {names} is installed. Run: pip install 'otel-genapp[aiogram,aiohttp]'"
