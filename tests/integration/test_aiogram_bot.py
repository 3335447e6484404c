"""A bot on aiogram that polls a Bot API: every handler once, every reaction on the right call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.capture.aiogram import instrument_aiogram, vote_keyboard
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.fake_telegram import FakeTelegram
from otel_genapp.testing import capture_telemetry
from tests.fakes import soon
from tests.telegram_bots import BotLog, answer_id, five_hundred_updates, throttled_twice, token_in_sinks

pytest.importorskip("aiogram")

from aiogram import Bot, Dispatcher, F, Router
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command
from aiogram.types import CallbackQuery, ErrorEvent
from aiogram.types import Message as TelegramMessage


def shop_bot(llm: FakeLLMServer, log: BotLog) -> Dispatcher:
    """The bot of the scenario: a router inside of a router, instrumented before it is finished."""
    dispatcher = Dispatcher()
    outer, inner = Router(), Router()
    instrument_aiogram(dispatcher)
    dispatcher.include_router(outer)
    outer.include_router(inner)
    instrument_aiogram(dispatcher)

    @inner.message(F.text.startswith("ask"))
    async def ask(message: TelegramMessage) -> None:
        text = await answer_id(llm, message.text or "")
        await message.answer(text, reply_markup=vote_keyboard())

    @dispatcher.message(Command("menu"), flags={"action": "menu_handler"})
    async def show_menu(message: TelegramMessage) -> Any:
        return message.answer("the menu")

    @outer.message(F.text.startswith("fail"))
    async def broken_handler(message: TelegramMessage) -> None:
        raise ValueError(message.text)

    @dispatcher.errors()
    async def sorry(event: ErrorEvent) -> bool:
        log.error_handled()
        return True

    return dispatcher


@asynccontextmanager
async def running(telegram: FakeTelegram, llm: FakeLLMServer, log: BotLog) -> AsyncIterator[Dispatcher]:
    """The bot, polling until the block ends."""
    dispatcher = shop_bot(llm, log)
    async with polling(dispatcher, telegram):
        yield dispatcher


@asynccontextmanager
async def polling(dispatcher: Dispatcher, telegram: FakeTelegram) -> AsyncIterator[Bot]:
    """A dispatcher that polls until the block ends."""
    api = TelegramAPIServer.from_base(telegram.root_url)
    bot = Bot(telegram.token, session=AiohttpSession(api=api))
    polled = asyncio.create_task(dispatcher.start_polling(bot, handle_signals=False, polling_timeout=1))
    try:
        yield bot
    finally:
        await dispatcher.stop_polling()
        await polled


async def test_five_hundred_updates_are_counted_once() -> None:
    """Handlers, failures, messages, lag, votes and reactions of five hundred updates, to the last."""
    with capture_telemetry() as captured:
        await five_hundred_updates(running, captured)


async def test_a_refused_call_is_counted_once() -> None:
    """A 429 of the Bot API counts where it comes, not again where its exception passes."""
    with capture_telemetry() as captured:
        await throttled_twice(running, captured)


async def test_the_token_is_in_no_sink(tmp_path: Path) -> None:
    """Neither in what is exported, scraped, shown, logged nor in any file of ours."""
    found = await token_in_sinks(running, tmp_path)
    assert found == dict.fromkeys(found, 0)


def press(data: str) -> dict[str, Any]:
    """A press of a button under message 100."""
    chat = {"id": 7, "type": "private"}
    user = {"id": 7, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 100, "date": 1, "chat": chat, "text": "an answer"}
    query = {"id": "1", "from": user, "chat_instance": "1", "data": data, "message": message}
    return {"update_id": 1, "callback_query": query}


async def test_votes_are_kept_from_a_handler_that_takes_every_button() -> None:
    """Ours come to rest by themselves; the bot's own buttons reach its handler, which may skip them."""
    dispatcher = Dispatcher()
    taken: list[str | None] = []

    @dispatcher.callback_query()
    async def skipping(query: CallbackQuery) -> None:
        taken.append(query.data)
        raise SkipHandler

    @dispatcher.callback_query()
    async def every(query: CallbackQuery) -> None:
        taken.append(query.data)

    instrument_aiogram(dispatcher)
    with capture_telemetry() as captured, FakeTelegram() as telegram:
        session = AiohttpSession(api=TelegramAPIServer.from_base(telegram.root_url))
        async with Bot(telegram.token, session=session) as bot:
            for data in ("gv:1", "more"):
                await dispatcher.feed_raw_update(bot, press(data))
        assert taken == ["more", "more"]
        assert telegram.calls == {"answerCallbackQuery": 1}
        names = ("vote_handler", "skipping_handler", "every_handler")
        assert [
            captured.value("genapp_action_count_total", name=name, status="success") for name in names
        ] == [1, 1, 1]
        assert captured.value("genapp_errors_total") == 0


async def test_a_vote_that_cannot_be_confirmed_fails_nobody() -> None:
    """The Bot API refuses to confirm old presses: that is no failure of the bot."""
    dispatcher = Dispatcher()
    failed: list[object] = []

    @dispatcher.errors()
    async def on_error(event: object) -> None:
        failed.append(event)

    instrument_aiogram(dispatcher)
    with capture_telemetry() as captured, FakeTelegram() as telegram:
        telegram.throttle("answerCallbackQuery")
        session = AiohttpSession(api=TelegramAPIServer.from_base(telegram.root_url))
        async with Bot(telegram.token, session=session) as bot:
            await dispatcher.feed_raw_update(bot, press("gv:1"))
        assert (failed, captured.value("genapp_errors_total")) == ([], 0)
        assert telegram.calls == {"answerCallbackQuery": 1}


async def test_telemetry_may_start_later_and_stop() -> None:
    """The same dispatcher runs before, with and after telemetry; only then it is counted."""
    dispatcher = Dispatcher()
    instrument_aiogram(dispatcher)
    handled: list[str | None] = []

    @dispatcher.callback_query()
    async def every(query: CallbackQuery) -> None:
        handled.append(query.data)

    bot = Bot(f"42:AA{'x' * 33}")
    await dispatcher.feed_raw_update(bot, press("before"))
    with capture_telemetry() as captured:
        await dispatcher.feed_raw_update(bot, press("with"))
    await dispatcher.feed_raw_update(bot, press("after"))
    assert handled == ["before", "with", "after"]
    assert captured.value("genapp_action_count_total", name="every_handler", status="success") == 1
    await bot.session.close()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("no luck")])
async def test_what_a_handler_raises_passes_untouched(error: BaseException) -> None:
    """The very object leaves the dispatcher, cancellations too."""
    dispatcher = Dispatcher()
    instrument_aiogram(dispatcher)

    @dispatcher.callback_query()
    async def broken(query: CallbackQuery) -> None:
        raise error

    bot = Bot(f"42:AA{'x' * 33}")
    with capture_telemetry() as captured:
        with pytest.raises(type(error)) as raised:
            await dispatcher.feed_raw_update(bot, press("any"))
        assert raised.value is error
        assert captured.value("genapp_action_count_total", name="broken_handler", status="fail") == 1
        assert captured.value("genapp_errors_total") == isinstance(error, Exception)
    await bot.session.close()


async def test_handlers_are_shown_from_the_start() -> None:
    """Both statuses of every handler stand at 0 before its first update."""
    with capture_telemetry() as captured, FakeTelegram() as telegram, FakeLLMServer() as llm:
        async with running(telegram, llm, BotLog()):
            assert await soon(lambda: telegram.calls.get("getUpdates", 0) > 0)
            body = captured.telemetry.exposition()[0].decode()
    for name in ("ask_handler", "menu_handler", "broken_handler", "vote_handler"):
        assert f'genapp_action_count_total{{name="{name}",status="fail",env="dev",app="test"}} 0' in body
