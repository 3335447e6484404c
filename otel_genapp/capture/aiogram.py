"""Telegram bots on aiogram 3: one line, and every handler, answer, reaction and refusal is seen.

    instrument_aiogram(dispatcher)

A bot that polls is asked for reactions and button presses as well, since aiogram asks the Bot API
for nothing that no handler takes. What a bot answers in the body of a webhook has no message id, so
reactions to it cannot be told.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from typing import Any

from opentelemetry.context import Context, attach, get_current

from otel_genapp import hub
from otel_genapp.capture.bot_answers import VOTE_PATTERN, Newest
from otel_genapp.capture.bot_event import incoming
from otel_genapp.capture.bot_update import (
    Bot,
    UpdateHandling,
    Watch,
    action_name,
    handling,
    vote_rows,
)
from otel_genapp.context import leave
from otel_genapp.errors import MissingDependencyError
from otel_genapp.quiet import quiet

_MARK = "_otel_genapp_watch"
_BOTS_KEPT = 1000
_RETURNED_KEPT = 100
_INTERNAL = frozenset({"update", "error"})

_guarded = quiet("capture")


def instrument_aiogram(dispatcher: Any, *, record_messages: bool = True) -> None:
    """Track every handler of a dispatcher and its routers, those added later too.

    Each handler is an action named `<function>_handler`; the flag `action` names it otherwise:
    `@router.message(…, flags={"action": "menu_handler"})`. Each update is bound to a correlation id, to the
    session of its chat and to its user, all without their real ids. Reactions to the bot's answers and
    presses of a `vote_keyboard` become feedback. Calling it again changes nothing, before
    `init_telemetry` and after it are the same.

    Args:
        dispatcher: aiogram's `Dispatcher`.
        record_messages: record each handled text message with its handler as the intent, unless the
            handler calls `record_message` itself.

    Raises:
        MissingDependencyError: aiogram is not installed.
    """
    _require()
    if hasattr(dispatcher, _MARK):
        return
    watching = _Watching(record_messages=record_messages)
    setattr(dispatcher, _MARK, watching)
    outer = dispatcher.update.outer_middleware
    others = list(outer)
    for middleware in others:
        outer.unregister(middleware)
    outer.register(watching.update)  # around the bot's error handler, which is a middleware itself
    for middleware in others:
        outer.register(middleware)
    for name, observer in dispatcher.observers.items():
        if name not in _INTERNAL:
            inner = list(observer.middleware)
            for middleware in inner:
                observer.middleware.unregister(middleware)
            observer.middleware.register(watching.handler)
            for middleware in inner:
                observer.middleware.register(middleware)
    dispatcher.message_reaction.register(_never, _never)
    dispatcher.callback_query.register(_take_vote, _is_vote, flags={"action": "vote_handler"})
    handlers = dispatcher.callback_query.handlers
    handlers.insert(0, handlers.pop())  # ours, before one that takes every button
    dispatcher.startup.register(watching.starting)


def vote_keyboard(good: str = "👍", bad: str = "👎") -> Any:
    """An inline keyboard for an answer, to be made in the handler that sends it.

    A press is feedback of quality 1 or 0 on the LLM calls made for that answer, and is answered by
    `instrument_aiogram`'s own handler.

    Raises:
        MissingDependencyError: aiogram is not installed.
    """
    _require()
    from aiogram.types import InlineKeyboardMarkup

    return InlineKeyboardMarkup.model_validate({"inline_keyboard": vote_rows(good, bad)})


class _Watching:
    """The middlewares of one dispatcher."""

    def __init__(self, *, record_messages: bool) -> None:
        from aiogram.dispatcher.event.bases import CancelHandler, SkipHandler
        from aiogram.exceptions import TelegramRetryAfter
        from aiogram.methods import TelegramMethod

        self._watch = Watch(record_messages=record_messages)
        self._skips, self._stops = (SkipHandler,), (CancelHandler,)
        self._refusal: type[BaseException] = TelegramRetryAfter
        self._method: type[Any] = TelegramMethod
        self._bots: Newest[Bot] = Newest(_BOTS_KEPT)
        self._returned: Newest[tuple[Any, Context]] = Newest(_RETURNED_KEPT)

    async def starting(self, dispatcher: Any = None, *, bots: Any = (), bot: Any = None, **_: Any) -> None:
        """Called by aiogram before it polls."""
        with _guarded:
            for each in bots or (bot,):
                if each is not None:
                    self._watch_requests(each)
            for router in dispatcher.chain_tail if dispatcher is not None else ():
                for name, observer in router.observers.items():
                    for handler in () if name in _INTERNAL else observer.handlers:
                        if handler.callback is not _never:
                            hub.announce_action(action_name(handler.callback, handler.flags.get("action")))

    async def update(self, handler: Any, event: Any, data: dict[str, Any]) -> Any:
        """Around everything that is done with an update."""
        found: UpdateHandling | None = None
        with _guarded:
            if hub.active is not None:
                bot = data["bot"]
                self._watch_requests(bot)
                kind, inner = _event_of(event)
                found = self._watch.update(self._bot(bot), incoming(event.update_id, kind, event=inner))
        if found is None:
            return await handler(event, data)
        with found:
            answer = await handler(event, data)
            with _guarded:
                if isinstance(answer, self._method):  # aiogram sends it when we are gone
                    self._returned.keep(id(answer), (answer, get_current()))
            return answer

    async def handler(self, handler: Any, event: Any, data: dict[str, Any]) -> Any:
        """Around a handler whose filters have let the event pass."""
        if hub.active is None or "handler" not in data:
            return await handler(event, data)
        registered = data["handler"]
        explicit = registered.flags.get("action")
        with handling(registered.callback, explicit=explicit, skips=self._skips, stops=self._stops):
            return await handler(event, data)

    async def request(self, make_request: Any, bot: Any, method: Any) -> Any:
        """Around one call of the Bot API."""
        if hub.active is None:
            return await make_request(bot, method)
        returned: tuple[Any, Context] | None = None
        with _guarded:
            returned = self._returned.take(id(method))
        token = attach(returned[1]) if returned is not None else None
        try:
            answer = await make_request(bot, method)
            self._note(bot, method, answer=answer)
            return answer
        except self._refusal as refusal:
            with _guarded:
                self._watch.throttled(self._bot(bot), refusal)
            raise
        finally:
            if token is not None and returned is not None:
                leave(token, returned[1])

    def _note(self, bot: Any, method: Any, *, answer: Any) -> None:
        with _guarded:
            messages = answer if isinstance(answer, list) else [answer]
            found = [
                (message.chat.id, message.message_id)
                for message in messages
                if hasattr(message, "message_id") and hasattr(message, "chat")
            ]
            if found:
                self._watch.sent(self._bot(bot), method.__api_method__, messages=found)

    def _watch_requests(self, bot: Any) -> None:
        middlewares = bot.session.middleware
        if self.request not in middlewares:
            middlewares.register(self.request)

    def _bot(self, bot: Any) -> Bot:
        me = getattr(bot, "_me", None)  # known to a bot that polls; asking would be a call of the Bot API
        username = getattr(me, "username", None)
        found = self._bots.get((bot.id, username))
        if found is None:
            found = Bot.known_by(bot.id, username, token=bot.token)
            self._bots.keep((bot.id, username), found)
        return found


def _event_of(update: Any) -> tuple[str, Any]:
    """The kind and event of an update; a kind this aiogram does not know has no event."""
    with_event = {name for name in update.model_fields_set if name != "update_id"}
    for name in sorted(with_event):
        event = getattr(update, name, None)
        if event is not None:
            return name, event
    return "unknown", None


async def _take_vote(query: Any) -> None:
    """Let the button come to rest; the vote itself is taken wherever the update goes."""
    from aiogram.exceptions import TelegramAPIError

    with suppress(TelegramAPIError):  # an old one needs no rest, and it is not the application that asked
        await query.answer()


def _is_vote(query: Any) -> bool:
    return isinstance(query.data, str) and VOTE_PATTERN.match(query.data) is not None


async def _never(_event: Any) -> bool:
    """A filter nothing passes: it stands there for aiogram to ask the Bot API for reactions."""
    return False


def _require() -> None:
    if importlib.util.find_spec("aiogram") is None:
        raise MissingDependencyError("aiogram", "aiogram")
