"""A bot on python-telegram-bot that polls a Bot API: every handler once, every reaction on the right call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import action_tracking_decorator, current
from otel_genapp.capture.telegram_bot import instrument_telegram, vote_keyboard
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.fake_telegram import FakeTelegram
from otel_genapp.testing import capture_telemetry
from tests.fakes import soon
from tests.telegram_bots import BotLog, answer_id, five_hundred_updates, throttled_twice, token_in_sinks

pytest.importorskip("telegram")

from telegram import Update
from telegram.ext import (
    Application,
    ApplicationHandlerStop,
    BaseHandler,
    CallbackContext,
    CallbackQueryHandler,
    CommandHandler,
    ConversationHandler,
    MessageHandler,
    filters,
)

Context = CallbackContext[Any, Any, Any, Any]
App = Application[Any, Any, Any, Any, Any, Any]


def shop_bot(telegram: FakeTelegram, llm: FakeLLMServer, log: BotLog) -> App:
    """The bot of the scenario: a handler before, one after the line, one inside of a conversation."""

    async def ask(update: Update, context: Context) -> None:
        assert update.message is not None
        text = await answer_id(llm, update.message.text or "")
        await update.message.reply_text(text, reply_markup=vote_keyboard())

    @action_tracking_decorator("menu_handler")
    async def show_menu(update: Update, context: Context) -> None:
        assert update.message is not None
        await update.message.reply_text("the menu")

    async def broken_handler(update: Update, context: Context) -> int:
        assert update.message is not None
        raise ValueError(update.message.text)

    async def sorry(update: object, context: Context) -> None:
        log.error_handled()

    application: App = Application.builder().token(telegram.token).base_url(telegram.base_url).build()
    application.add_handler(MessageHandler(filters.Regex("^ask"), ask))
    instrument_telegram(application)
    instrument_telegram(application)
    application.add_handler(CommandHandler("menu", show_menu))
    application.add_handler(
        ConversationHandler([MessageHandler(filters.Regex("^fail"), broken_handler)], {}, [])
    )
    application.add_error_handler(sorry)
    return application


@asynccontextmanager
async def running(telegram: FakeTelegram, llm: FakeLLMServer, log: BotLog) -> AsyncIterator[App]:
    """The bot, polling until the block ends."""
    application = shop_bot(telegram, llm, log)
    async with polling(application):
        yield application


@asynccontextmanager
async def polling(application: App) -> AsyncIterator[None]:
    """An application that polls until the block ends."""
    async with application:
        assert application.updater is not None
        await application.start()
        await application.updater.start_polling(timeout=1, allowed_updates=Update.ALL_TYPES)
        try:
            yield
        finally:
            await application.updater.stop()
            await application.stop()


async def test_five_hundred_updates_are_counted_once() -> None:
    """Handlers, failures, messages, lag, votes and reactions of five hundred updates, to the last."""
    with capture_telemetry() as captured:
        await five_hundred_updates(running, captured)


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
async def test_a_refused_call_is_counted_once() -> None:
    """A 429 of the Bot API counts where it comes, not again where its exception passes."""
    with capture_telemetry() as captured:
        await throttled_twice(running, captured)


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
async def test_the_token_is_in_no_sink(tmp_path: Path) -> None:
    """Neither in what is exported, scraped, shown, logged nor in any file of ours."""
    found = await token_in_sinks(running, tmp_path)
    assert found == dict.fromkeys(found, 0)


def application_for(telegram: FakeTelegram) -> App:
    """An application without handlers, instrumented."""
    application: App = Application.builder().token(telegram.token).base_url(telegram.base_url).build()
    instrument_telegram(application)
    return application


def message(application: App, text: str, *, update_id: int = 1) -> Update:
    """A message as the library reads it."""
    chat = {"id": 7, "type": "private", "first_name": "Ann"}
    user = {"id": 7, "is_bot": False, "first_name": "Ann"}
    given = {"message_id": 5, "date": 1, "chat": chat, "from": user, "text": text}
    update = Update.de_json({"update_id": update_id, "message": given}, application.bot)
    assert update is not None
    return update


async def test_a_handler_in_the_background_is_tracked() -> None:
    """`block=False` runs it as a task; its failure is counted, its ids are those of the update."""
    seen: list[Any] = []

    async def slow(update: Update, context: Context) -> None:
        await asyncio.sleep(0)
        seen.append(current())
        raise ValueError("no luck")

    async def sorry(update: object, context: Context) -> None:
        seen.append(context.error)

    with capture_telemetry() as captured, FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handler(MessageHandler(filters.TEXT, slow, block=False))
        application.add_error_handler(sorry)
        async with application:
            await application.start()
            await application.process_update(message(application, "hello", update_id=17))
            assert await soon(lambda: len(seen) == 2)
            await application.stop()
        assert seen[0].correlation_id.endswith("-17")
        assert str(seen[1]) == "no luck"
        assert captured.value("genapp_action_count_total", name="slow_handler", status="fail") == 1
        assert captured.value("genapp_errors_total", error_type="ValueError") == 1


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
async def test_a_vote_that_cannot_be_confirmed_fails_nobody() -> None:
    """The Bot API refuses to confirm old presses: the bot neither hears of it nor gets the press."""
    handled: list[object] = []

    async def every(update: Update, _context: Context) -> None:
        handled.append(update)

    async def on_error(_update: object, context: Context) -> None:
        handled.append(context.error)

    with capture_telemetry() as captured, FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handler(CallbackQueryHandler(every))
        application.add_error_handler(on_error)
        telegram.throttle("answerCallbackQuery")
        async with application:
            pressed = {
                "id": "1", "from": {"id": 7, "is_bot": False, "first_name": "Ann"}, "chat_instance": "1", "data": "gv:1",
                "message": {"message_id": 9, "date": 1, "chat": {"id": 7, "type": "private"}, "text": "an answer"},
            }  # fmt: skip
            update = Update.de_json({"update_id": 1, "callback_query": pressed}, application.bot)
            await application.process_update(update)
        assert (handled, captured.value("genapp_errors_total")) == ([], 0)
        assert telegram.calls["answerCallbackQuery"] == 1


async def test_a_handler_that_calls_without_waiting_keeps_its_function() -> None:
    """One of the bot's own kind need not await what it calls: a plain function stays one."""
    called: list[object] = []

    class Plain(BaseHandler[Any, Any, Any]):
        def check_update(self, update: object) -> bool:
            return True

        async def handle_update(self, update: Any, *_: Any) -> None:
            self.callback(update, None)  # type: ignore[unused-coroutine]

    with capture_telemetry(), FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handler(Plain(lambda update, _: called.append(update)))  # type: ignore[arg-type, return-value]
        async with application:
            await application.process_update(message(application, "hello"))
    assert len(called) == 1


async def test_stopping_the_other_handlers_is_no_failure() -> None:
    """`ApplicationHandlerStop` ends the handling as the bot wants it to."""
    handled: list[str] = []

    async def first(update: Update, context: Context) -> None:
        handled.append("first")
        raise ApplicationHandlerStop

    async def second(update: Update, context: Context) -> None:
        handled.append("second")

    with capture_telemetry() as captured, FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handlers(
            {1: [MessageHandler(filters.TEXT, first)], 2: [MessageHandler(filters.TEXT, second)]}
        )
        async with application:
            await application.process_update(message(application, "hello"))
        assert handled == ["first"]
        assert captured.value("genapp_action_count_total", name="first_handler", status="success") == 1
        assert captured.value("genapp_action_count_total", status="fail") == 0
        assert captured.value("genapp_errors_total") == 0
        assert captured.value("genapp_messages_total", intent="first_handler") == 1


async def test_telemetry_may_start_later_and_stop() -> None:
    """The same application runs before, with and after telemetry; only then it is counted."""
    handled: list[str] = []

    async def hear(update: Update, context: Context) -> None:
        assert update.message is not None
        handled.append(update.message.text or "")

    with FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handler(MessageHandler(filters.TEXT, hear))
        async with application:
            await application.process_update(message(application, "before"))
            with capture_telemetry() as captured:
                await application.process_update(message(application, "with"))
                await application.process_update("no update at all")
            await application.process_update(message(application, "after"))
    assert handled == ["before", "with", "after"]
    assert captured.value("genapp_action_count_total", name="hear_handler", status="success") == 1


async def test_a_cancellation_passes() -> None:
    """It leaves the application as it was raised."""

    async def cancelled(update: Update, context: Context) -> None:
        raise asyncio.CancelledError

    with capture_telemetry() as captured, FakeTelegram() as telegram:
        application = application_for(telegram)
        application.add_handler(MessageHandler(filters.TEXT, cancelled))
        async with application:
            with pytest.raises(asyncio.CancelledError):
                await application.process_update(message(application, "hello"))
        assert captured.value("genapp_action_count_total", name="cancelled_handler", status="fail") == 1
        assert captured.value("genapp_errors_total") == 0


def test_an_application_stays_what_it_was() -> None:
    """Instrumented twice it has one subclass, one handler of ours, and its name."""
    application = application_for(FakeTelegram())
    kind = type(application)
    instrument_telegram(application)
    assert type(application) is kind
    assert isinstance(application, Application)
    assert kind.__name__ == "Application"
    assert [len(handlers) for handlers in application.handlers.values()] == [1]
