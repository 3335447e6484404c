"""What a Telegram update means for telemetry, whichever library the bot is written with.

Each update has a correlation id of its own and the session of its chat, one span, its lag, and its
handlers as actions; what the bot sends meanwhile is remembered, so that reactions and votes become
feedback on the right call. `capture.aiogram` and `capture.telegram_bot` are the shells around it.

The span is of kind CONSUMER, as the messaging conventions want it for `process`: what a bot polls is
a queue of the Bot API. Within a webhook's request it is a child of the request's SERVER span.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterable
from contextvars import Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value
from opentelemetry.trace import Span, SpanKind, StatusCode

from otel_genapp import hub, semconv
from otel_genapp.capture.actions import TRACKED_AS, action_tracking
from otel_genapp.capture.bot_answers import Answered, Newest, hashed, vote_data, vote_in
from otel_genapp.capture.bot_event import Incoming
from otel_genapp.capture.conversation import record_feedback, record_handled
from otel_genapp.context import (
    bind,
    bound_in,
    correlation_id_in,
    failure_scope,
    first_report,
    forget_failures,
    leave,
    message_noted,
    message_scope,
    remember_ids,
)
from otel_genapp.hub import Hub
from otel_genapp.quiet import quiet

PLATFORM: Final = "telegram"
_UPDATE: Final = create_key("otel_genapp.bot_update")
_COUNTED: Final = "_otel_genapp_counted"
_EARLY_KEPT, _EARLY_S = 1000, 60.0
"""Reactions that wait for the Bot API to answer with the message they are about, and how long."""
_EDITS_ITS_TEXT = ("editMessageText", "editMessageCaption", "editMessageMedia")

_guarded = quiet("capture")


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as it may be shown, and a key that is derived from its token."""

    id: int
    label: str
    key: bytes = field(repr=False)

    @classmethod
    def known_by(cls, bot_id: int, username: str | None, *, token: str) -> Self:
        """The bot with that token; `label` is its user name, its id where it is not known yet."""
        key = hashlib.blake2b(
            token.encode("utf-8", "replace"), digest_size=32, person=b"genapp votes"
        ).digest()
        return cls(bot_id, username or str(bot_id), key)


def action_name(callback: Any, explicit: object = None) -> str:
    """The action's name of a handler: the explicit one, else the function's own with a known suffix."""
    name = explicit or getattr(callback, TRACKED_AS, None)
    if isinstance(name, str) and name:
        return name
    while isinstance(callback, functools.partial):
        callback = callback.func
    name = getattr(callback, "__name__", None) or type(callback).__name__
    name = "lambda" if name == "<lambda>" else str(name)
    return name if name.endswith(semconv.ACTION_SUFFIXES) else f"{name}_handler"


class Watch:
    """What one instrumented bot application remembers between updates."""

    def __init__(self, *, record_messages: bool) -> None:
        self.record_messages = record_messages
        self.answers: Newest[Answered] = Newest()
        self.votes: Newest[float] = Newest()
        self.early: Newest[tuple[float, str | None, float]] = Newest(_EARLY_KEPT)
        """(quality, user, when) of reactions to messages not known: the Bot API may still be answering."""

    def update(self, bot: Bot, event: Incoming) -> UpdateHandling:
        """A context manager around the handling of one update."""
        return UpdateHandling(self, bot, event=event)

    def sent(self, bot: Bot, method: str, *, messages: Iterable[tuple[object, object]]) -> None:
        """The Bot API has answered `method` with these (chat id, message id).

        Editing a text makes the message an answer to what is being handled now, editing its buttons
        does not.
        """
        if hub.active is None:
            return
        answered = Answered(correlation_id_in(None), bound_in(None).session_id)
        if answered.correlation_id is None:
            return
        for chat_id, message_id in messages:
            key = (bot.id, chat_id, message_id)
            if method.startswith("edit") and method not in _EDITS_ITS_TEXT:
                continue
            self.answers.keep(key, answered)
            early = self.early.take(key)
            # To a text that is there no more, or to one of long ago, it was a reaction to something else.
            if early is None or method.startswith("edit") or time.monotonic() > early[2] + _EARLY_S:
                continue
            with bind(user_id=early[1]):
                _record_feedback(early[0], answered)

    def throttled(self, bot: Bot, error: BaseException) -> None:
        """The Bot API has refused a call with 429, which the library tells by this error; counted once."""
        running = hub.active
        if running is not None and not hasattr(error, _COUNTED):
            setattr(error, _COUNTED, True)
            running.families.bot_throttled.record(1, (bot.label,))


class UpdateHandling:
    """One update, from before its first filter to after the bot's error handler."""

    def __init__(self, watch: Watch, bot: Bot, *, event: Incoming) -> None:
        self.bot = bot
        self.event = event
        self._watch = watch
        self._running: Hub | None = None
        self._bind: bind | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None
        self._span: Span | None = None
        self._has_scope = False
        self._started_s = 0.0
        self._came_at_ns = 0
        self._handlers = 0
        self._intent: str | None = None
        self._failure: BaseException | None = None
        self._is_over = False
        self._is_recorded = False

    def __enter__(self) -> Self:
        with _guarded:
            running = hub.active
            if running is not None:
                self._running = running
                self._start(running)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        with _guarded:
            self._is_over = True
            self._end(running, error)
        context, self._context = self._context, None  # it holds this object: no cycle
        if error is not None:
            with _guarded:
                remember_ids(error, context)
        if self._token is not None and context is not None:
            with _guarded:
                if self._has_scope:
                    forget_failures(context)
                leave(self._token, context)
        if self._bind is not None:
            self._bind.__exit__(None, None, None)

    def _start(self, running: Hub) -> None:
        event, key = self.event, running.settings.user_id_key
        app = running.settings.app
        chat = event.chat_id if event.chat_id is not None else event.user_id
        user = event.user_id
        self._started_s, self._came_at_ns = time.perf_counter(), time.time_ns()
        self._bind = bind(
            correlation_id=f"tg-{hashed(self.bot.id, app)[:8]}-{event.update_id}",
            session_id=None if chat is None else f"tg-{hashed(chat, key or app)}",
            # With a key `bind` makes the hash it makes of any user id.
            user_id=user if user is None or key else f"tg-{hashed(user, app)}",
        )
        self._bind.__enter__()
        self._span = running.tracer.start_span(f"process {event.kind}", kind=SpanKind.CONSUMER)
        scope = failure_scope()
        self._has_scope = scope is not None
        context = trace.set_span_in_context(self._span, scope or get_current())
        self._context = set_value(_UPDATE, self, message_scope(context))
        self._token = attach(self._context)
        running.families.bot_throttled.announce((self.bot.label,))
        if event.sent_at_s is not None:
            lag_s = max(0.0, time.time() - event.sent_at_s)
            running.families.bot_update_lag.record(lag_s, (self.bot.label,))
        self._take_feedback()

    def _take_feedback(self) -> None:
        """Record a reaction to an answer, or a vote, as feedback on what it answers."""
        event, watch = self.event, self._watch
        about = (self.bot.id, event.chat_id, event.message_id)
        answered = watch.answers.get(about)
        vote = vote_in(event.data, chat_id=event.chat_id, key=self.bot.key)
        if vote is None:
            quality = event.quality
        else:
            quality = vote.quality
            if answered is None and vote.correlation_id is not None:
                answered = Answered(vote.correlation_id, bound_in(None).session_id)
            # Of inline answers only the button tells which it is about.
            pressed = (about, vote.correlation_id, event.user_id)
            if watch.votes.get(pressed) == quality:
                return  # pressed again
            watch.votes.keep(pressed, quality)
        if quality is None:
            return
        if answered is None:
            watch.early.keep(about, (quality, bound_in(None).user_id, time.monotonic()))
        else:
            _record_feedback(quality, answered)

    def _end(self, running: Hub, error: BaseException | None) -> None:
        span = self._span
        if isinstance(error, Exception) and first_report(error):
            running.families.errors.record(1, (type(error).__qualname__, running.settings.app))
            self._show(error)
        failed = error or self._failure
        self._failure = None
        self._record_message()
        if span is not None:
            if failed is not None:
                span.set_attribute(semconv.ERROR_TYPE, type(failed).__qualname__)
            if isinstance(failed, Exception):
                span.set_status(StatusCode.ERROR)
            if self._intent is not None:
                span.update_name(f"process {self.event.kind} {self._intent}")
            span.end()

    def handler_started(self) -> None:
        """A handler begins; several may run, one after the other or at once."""
        self._handlers += 1

    def handler_ended(self, name: str, error: BaseException | None, *, passed_on: bool) -> None:
        """A handler has ended; `passed_on` when it left the update to others."""
        self._handlers -= 1
        if passed_on:
            return
        if self._intent is None:
            self._intent = name
        if error is not None:
            self._is_recorded = True  # a message that was not handled is none
            if self._failure is None:
                self._failure = None if self._is_over else error
            self._show(error)
        elif self._is_over:
            self._record_message()  # of a handler that ran on by itself

    def _show(self, error: BaseException) -> None:
        if self._span is not None and self._span.is_recording() and isinstance(error, Exception):
            self._span.record_exception(error)

    def _record_message(self) -> None:
        """Record the user's message, once, unless the bot has: its handlers say how it was understood."""
        if self._is_recorded or self._handlers or self._intent is None:
            return
        if self._watch.record_messages and self.event.is_text and not message_noted(get_current()):
            elapsed_ms = (time.perf_counter() - self._started_s) * 1000
            record_handled(
                PLATFORM,
                self._intent,
                response_time_ms=round(elapsed_ms, 3),
                came_at_ns=self._came_at_ns,
            )
        self._is_recorded = True

    def vote_data(self, quality: int) -> str:
        """The callback data of a vote on what is being answered here."""
        return vote_data(
            quality,
            correlation_id=correlation_id_in(None),
            chat_id=self.event.chat_id,
            key=self.bot.key,
        )


class handling:  # noqa: N801 - reads as a statement: `with handling(callback):`
    """A handler's call, counted as an action unless its own decorator does so already.

    Args:
        callback: the handler's function, which names the action.
        explicit: a name that wins over it.
        skips: exceptions by which a handler leaves the update to others.
        stops: exceptions by which it keeps the update from others; neither are failures.
    """

    __slots__ = ("_name", "_skips", "_stops", "_tracking", "_update")

    def __init__(
        self,
        callback: Any,
        *,
        explicit: object = None,
        skips: tuple[type[BaseException], ...] = (),
        stops: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._name = ""
        self._skips = skips
        self._stops = stops
        self._tracking: action_tracking | None = None
        self._update: UpdateHandling | None = None
        with _guarded:
            self._update = current_update()
            if hub.active is not None:
                self._name = action_name(callback, explicit)
                if not hasattr(callback, TRACKED_AS):
                    self._tracking = action_tracking(self._name)

    def __enter__(self) -> None:
        if self._tracking is not None:
            self._tracking.__enter__()
        if self._update is not None:
            self._update.handler_started()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        passed_on = isinstance(error, self._skips)
        if passed_on or isinstance(error, self._stops):
            kind = error = trace = None
        if self._tracking is not None:
            self._tracking.__exit__(kind, error, trace)
        if self._update is not None:
            with _guarded:
                self._update.handler_ended(self._name, error, passed_on=passed_on)


def current_update() -> UpdateHandling | None:
    """The update that is being handled here."""
    found = get_value(_UPDATE)
    return found if isinstance(found, UpdateHandling) else None


def vote_rows(good: str, bad: str) -> list[list[dict[str, str]]]:
    """The rows of an inline keyboard with a vote on the answer that is being sent here."""
    row = []
    for text, quality in ((good, 1), (bad, 0)):
        data = vote_data(quality, correlation_id=None, chat_id=None, key=None)
        with _guarded:
            update = current_update()
            data = update.vote_data(quality) if update is not None else data
        row.append({"text": text, "callback_data": data})
    return [row]


def _record_feedback(quality: float, answered: Answered) -> None:
    record_feedback(
        quality=quality,
        platform=PLATFORM,
        session_id=answered.session_id,
        correlation_id=answered.correlation_id,
    )
