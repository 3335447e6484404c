"""Telegram bots on python-telegram-bot 21 and 22: one line, and every handler, answer and refusal is seen.

    instrument_telegram(application)

The Bot API sends reactions only to who asks: `application.run_polling(allowed_updates=Update.ALL_TYPES)`.
The application's class becomes a subclass made for it, since the library has no middleware; handlers
keep their classes, only their callbacks are wrapped.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from otel_genapp import hub
from otel_genapp.capture.bot_answers import VOTE_PATTERN
from otel_genapp.capture.bot_event import incoming
from otel_genapp.capture.bot_update import Bot, Watch, action_name, handling, vote_rows
from otel_genapp.errors import MissingDependencyError
from otel_genapp.quiet import quiet

_MARK = "_otel_genapp_wrapped"
_VOTE_GROUP = -1_000_000
"""The group of our own handler, before all groups of an application."""

_guarded = quiet("capture")


def instrument_telegram(application: Any, *, record_messages: bool = True) -> None:
    """Track every handler of an application, those added later and inside of conversations too.

    Each handler is an action named `<function>_handler`, or as `action_tracking_decorator` on it says.
    Each update is bound to a correlation id, to the session of its chat and to its user, all without
    their real ids. Reactions to the bot's answers and presses of a `vote_keyboard` become feedback.
    Calling it again changes nothing; before `init_telemetry` and after it are the same.

    Args:
        application: what `Application.builder()….build()` made.
        record_messages: record each handled text message with its handler as the intent, unless the
            handler calls `record_message` itself.

    Raises:
        MissingDependencyError: python-telegram-bot is not installed.
    """
    _require()
    from telegram.ext import CallbackQueryHandler

    if hasattr(type(application), _MARK):
        return
    watch = Watch(record_messages=record_messages)
    bots = _Bots(application.bot)
    application.__class__ = _watched_application(type(application), watch, bots=bots)
    for handlers in application.handlers.values():
        for handler in handlers:
            _wrap(handler)
    for request in _requests(application.bot):
        if not hasattr(type(request), _MARK):
            request.__class__ = _watched_request(type(request), watch, bots=bots)
    application.add_handler(CallbackQueryHandler(_take_vote, pattern=VOTE_PATTERN), group=_VOTE_GROUP)


def vote_keyboard(good: str = "👍", bad: str = "👎") -> Any:
    """An inline keyboard for an answer, to be made in the handler that sends it.

    A press is feedback of quality 1 or 0 on the LLM calls made for that answer, and is answered by
    `instrument_telegram`'s own handler.

    Raises:
        MissingDependencyError: python-telegram-bot is not installed.
    """
    _require()
    from telegram import InlineKeyboardButton, InlineKeyboardMarkup

    rows = vote_rows(good, bad)
    return InlineKeyboardMarkup(
        [
            [InlineKeyboardButton(button["text"], callback_data=button["callback_data"]) for button in row]
            for row in rows
        ]
    )


class _Bots:
    """The application's bot, as soon as it knows its own name."""

    def __init__(self, bot: Any) -> None:
        self._bot = bot
        self._known: Bot | None = None

    def get(self) -> Bot:
        """The bot; its label is its id until the library has asked who it is."""
        if self._known is not None:
            return self._known
        token = self._bot.token
        try:
            username = self._bot.username
        except RuntimeError:  # not initialised yet
            return Bot.known_by(int(token.partition(":")[0]), None, token=token)
        self._known = Bot.known_by(self._bot.id, username, token=token)
        return self._known


def _watched_application(kind: type[Any], watch: Watch, *, bots: _Bots) -> type[Any]:
    async def process_update(self: Any, update: object) -> None:
        found = None
        with _guarded:
            if hub.active is not None:
                name, event = _event_of(update)
                if event is not None:
                    found = watch.update(
                        bots.get(), incoming(getattr(update, "update_id", 0), name, event=event)
                    )
        if found is None:
            await kind.process_update(self, update)
            return
        with found:
            await kind.process_update(self, update)

    def add_handler(self: Any, handler: Any, *args: Any, **options: Any) -> None:
        kind.add_handler(self, handler, *args, **options)
        with _guarded:
            _wrap(handler)

    members = {"process_update": process_update, "add_handler": add_handler}
    return _subclass(kind, members)


def _watched_request(kind: type[Any], watch: Watch, *, bots: _Bots) -> type[Any]:
    from telegram.error import RetryAfter

    async def post(self: Any, url: str, *args: Any, **options: Any) -> Any:
        try:
            answer = await kind.post(self, url, *args, **options)
        except RetryAfter as refusal:
            with _guarded:
                watch.throttled(bots.get(), refusal)
            raise
        if hub.active is not None:
            with _guarded:
                messages = list(_messages(answer))
                if messages:
                    watch.sent(bots.get(), url.rpartition("/")[2], messages=messages)
        return answer

    return _subclass(kind, {"post": post})


def _subclass(kind: type[Any], members: dict[str, Any]) -> type[Any]:
    """A class an object of `kind` can turn into: the same name and layout."""
    own = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), {**own, "__doc__": kind.__doc__, _MARK: True, **members})


def _wrap(handler: Any) -> None:
    """Track the calls of a handler, and of those inside a conversation."""
    inner = [*getattr(handler, "entry_points", ()), *getattr(handler, "fallbacks", ())]
    for handlers in getattr(handler, "states", {}).values():
        inner += handlers
    for each in inner:
        _wrap(each)
    callback = getattr(handler, "callback", None)
    if not inner and callable(callback) and not hasattr(callback, _MARK) and _is_awaited(handler, callback):
        handler.callback = _tracked(callback)


def _is_awaited(handler: Any, callback: Any) -> bool:
    """Whether the handler awaits what its callback returns; one of the application's own may just call it."""
    from telegram.ext import BaseHandler

    calls = (callback, getattr(callback, "__call__", None))  # noqa: B004 - an object's may be a coroutine function
    return type(handler).handle_update is BaseHandler.handle_update or any(
        map(inspect.iscoroutinefunction, calls)
    )


def _tracked(callback: Any) -> Any:
    from telegram.ext import ApplicationHandlerStop

    stops = (ApplicationHandlerStop,)

    async def tracked(*args: Any, **options: Any) -> Any:
        if hub.active is None:
            return await callback(*args, **options)
        with handling(callback, stops=stops):
            return await callback(*args, **options)

    with _guarded:
        hub.announce_action(action_name(callback))
    wrapped: Any = functools.update_wrapper(tracked, callback)
    setattr(wrapped, _MARK, True)
    return wrapped


def _event_of(update: Any) -> tuple[str, Any]:
    """The kind and event of an update; none for what an application has put into its queue itself."""
    from telegram import Update

    if isinstance(update, Update):
        for name in Update.ALL_TYPES:
            event = getattr(update, name, None)
            if event is not None:
                return name, event
    return "unknown", None


def _messages(answer: Any) -> Iterable[tuple[object, object]]:
    """(chat id, message id) of the messages in an answer of the Bot API."""
    for message in answer if isinstance(answer, list) else (answer,):
        if isinstance(message, dict) and "message_id" in message and "chat" in message:
            yield message["chat"].get("id"), message["message_id"]


def _requests(bot: Any) -> tuple[Any, ...]:
    both = getattr(bot, "_request", None)  # one for getUpdates, one for the rest
    return tuple(both) if isinstance(both, tuple | list) else (bot.request,)


async def _take_vote(update: Any, _context: Any) -> None:
    """Let the button come to rest, and keep the press from the application's own handlers."""
    from telegram.error import TelegramError
    from telegram.ext import ApplicationHandlerStop

    with suppress(TelegramError):  # an old one needs no rest, and it is not the application that asked
        await update.callback_query.answer()
    raise ApplicationHandlerStop


_take_vote.__name__ = "vote_handler"


def _require() -> None:
    if importlib.util.find_spec("telegram") is None:
        raise MissingDependencyError("telegram", "telegram")
