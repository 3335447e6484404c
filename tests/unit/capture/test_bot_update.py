"""Updates of bots, without a library: ids, names, votes, what is remembered and what is not."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from otel_genapp import (
    action_tracking_decorator,
    bind,
    current,
    record_feedback,
    record_message,
    record_outcome,
)
from otel_genapp.capture.bot_answers import (
    hashed,
)
from otel_genapp.capture.bot_event import Incoming, incoming
from otel_genapp.capture.bot_update import Bot, Watch, action_name, handling, vote_rows
from otel_genapp.context import accepted_id
from otel_genapp.records import Feedback, Message, Outcome
from otel_genapp.testing import Captured, capture_telemetry
from tests.telegram_bots import recorded

BOT = Bot.known_by(42, "shop_bot", token="42:AAsecret")
KEY = b"k" * 32


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A telemetry."""
    with capture_telemetry() as running:
        yield running


@pytest.fixture
def facts(captured: Captured) -> Iterator[list[Any]]:
    """What is recorded of conversations."""
    with recorded() as kept:
        yield kept


def text(update_id: int = 1, **more: Any) -> Incoming:
    return Incoming(update_id, "message", chat_id=7, user_id=8, is_text=True, **more)


async def menu() -> None:
    """A handler."""


def test_an_update_is_bound_to_ids_that_are_not_the_real_ones(captured: Captured) -> None:
    """Correlation id of the update, session of the chat, the user: acceptable, and outside as before."""
    before = current()
    with Watch(record_messages=True).update(BOT, Incoming(9, "message", chat_id=-100123, user_id=456)):
        inside = current()
    assert current() == before
    assert inside.correlation_id == f"tg-{hashed(42, 'test')[:8]}-9"
    assert inside.session_id == f"tg-{hashed(-100123, 'test')}"
    assert inside.user_id == f"tg-{hashed(456, 'test')}"
    assert [accepted_id(value) for value in (inside.correlation_id, inside.session_id, inside.user_id)] == [
        inside.correlation_id,
        inside.session_id,
        inside.user_id,
    ]


def test_with_a_key_of_ones_own_the_hashes_are_others() -> None:
    """A chat's depends on the key, and a user's is the one `bind` makes of the same id anywhere."""
    with capture_telemetry(user_id_key="k" * 16):
        with Watch(record_messages=True).update(BOT, Incoming(9, "message", chat_id=7, user_id=456)):
            inside = current()
        with bind(user_id=456):
            elsewhere = current()
    assert inside.session_id == f"tg-{hashed(7, 'k' * 16)}"
    assert inside.user_id == elsewhere.user_id
    assert "456" not in (inside.user_id or "456")


def test_thousands_of_ids_are_all_accepted() -> None:
    """None of them looks like a secret, so headers and stores take them."""
    ids = [f"tg-{hashed(number, 'shop')}" for number in range(2000)]
    ids += [f"tg-{hashed(number, 'shop')[:8]}-{number * 7919}" for number in range(2000)]
    assert [one for one in ids if accepted_id(one) != one] == []
    assert len(set(ids)) == 4000


def test_apps_have_other_hashes_for_the_same_chat() -> None:
    """The app's name is part of it, and any name will do."""
    assert len({hashed(7, name) for name in ("shop", "shop2", "", "x" * 500, "\ud800")}) == 5


def test_an_action_is_named_after_its_handler() -> None:
    """An explicit name wins, a known suffix stays, everything else becomes `…_handler`."""

    async def digest_task() -> None: ...

    class Greeter:
        async def __call__(self) -> None: ...

    @action_tracking_decorator("mail_agent")
    async def send() -> None: ...

    assert [
        action_name(menu),
        action_name(menu, "start_handler"),
        action_name(digest_task),
        action_name(functools.partial(menu)),
        action_name(Greeter()),
        action_name(lambda: None),
        action_name(send),
        action_name(send, "first"),
    ] == [
        "menu_handler",
        "start_handler",
        "digest_task",
        "menu_handler",
        "Greeter_handler",
        "lambda_handler",
        "mail_agent",
        "first",
    ]


def test_the_lag_is_from_sending_to_handling(captured: Captured) -> None:
    """A message sent 30 seconds ago, by a clock that may be ahead of ours."""
    watch = Watch(record_messages=False)
    for moment in (time.time() - 30, time.time() + 5):
        with watch.update(BOT, text(sent_at_s=moment)):
            pass
    assert captured.value("genapp_bot_update_lag_sec_count", bot="shop_bot") == 2
    assert 30 <= captured.value("genapp_bot_update_lag_sec_sum", bot="shop_bot") < 31


async def test_a_failure_is_counted_once_and_passes(captured: Captured) -> None:
    """Through handler and update: one failed action, one error, the span an error, the exception itself."""
    error = ValueError("no luck")
    with (
        pytest.raises(ValueError, match="no luck") as raised,
        Watch(record_messages=True).update(BOT, text()),
        handling(menu),
    ):
        raise error
    assert raised.value is error
    assert captured.value("genapp_action_count_total", name="menu_handler", status="fail") == 1
    assert captured.value("genapp_errors_total") == 1
    (span,) = captured.spans
    assert (span.name, span.status.status_code.name) == ("process message menu_handler", "ERROR")
    assert [event.name for event in span.events] == ["exception"]


async def test_a_failure_outside_of_handlers_is_counted(captured: Captured) -> None:
    """A filter or middleware that raises is an error of the bot too."""
    with pytest.raises(KeyError), Watch(record_messages=True).update(BOT, text()):
        raise KeyError("filter")
    assert captured.value("genapp_errors_total", error_type="KeyError") == 1
    assert captured.value("genapp_action_count_total") == 0


async def test_a_cancellation_passes(captured: Captured, facts: list[Any]) -> None:
    """It fails the action, is no error and no message."""
    with (
        pytest.raises(asyncio.CancelledError),
        Watch(record_messages=True).update(BOT, text()),
        handling(menu),
    ):
        raise asyncio.CancelledError
    assert captured.value("genapp_action_count_total", name="menu_handler", status="fail") == 1
    assert captured.value("genapp_errors_total") == 0
    assert facts == []


def test_a_handler_that_skips_leaves_the_message_to_the_next(captured: Captured, facts: list[Any]) -> None:
    """One that stops the others has handled it; neither has failed."""
    with Watch(record_messages=True).update(BOT, text()):
        with pytest.raises(LookupError), handling(menu, skips=(LookupError,)):
            raise LookupError
        with (
            pytest.raises(InterruptedError),
            handling(menu, explicit="stop_handler", stops=(InterruptedError,)),
        ):
            raise InterruptedError
    assert captured.value("genapp_action_count_total", status="success") == 2
    assert captured.value("genapp_action_count_total", status="fail") == 0
    assert captured.value("genapp_errors_total") == 0
    assert [fact.intent for fact in facts] == ["stop_handler"]


@pytest.mark.parametrize(
    ("record_messages", "is_text", "says_so", "intents"),
    [
        (True, True, False, ["menu_handler"]),
        (True, True, True, ["own"]),
        (True, False, False, []),
        (False, True, False, []),
        (False, True, True, ["own"]),
    ],
)
def test_a_message_is_recorded_once(
    facts: list[Any], *, record_messages: bool, is_text: bool, says_so: bool, intents: list[str]
) -> None:
    """By the handler itself, else by us where that is wanted, never by both."""
    event = Incoming(1, "message", chat_id=7, is_text=is_text)
    with Watch(record_messages=record_messages).update(BOT, event), handling(menu):
        if says_so:
            record_message("telegram", "own")
    assert [fact.intent for fact in facts] == intents
    assert all(isinstance(fact, Message) for fact in facts)


def test_what_a_handler_says_of_its_message_comes_after_it(facts: list[Any]) -> None:
    """The message came before its handler ran, though it is recorded when that has ended."""
    with Watch(record_messages=True).update(BOT, text(1)), handling(menu):
        record_feedback(csat=1)
        record_outcome(resolved=False)
    message, feedback, outcome = sorted(facts, key=lambda fact: fact.at_ns)
    assert [type(fact) for fact in (message, feedback, outcome)] == [Message, Feedback, Outcome]
    assert message.correlation_id == feedback.correlation_id == outcome.correlation_id is not None


async def test_a_handler_that_outlives_its_update_records_its_message(facts: list[Any]) -> None:
    """Handlers may run as tasks of their own; what they record counts."""
    going = asyncio.Event()

    async def background(*, says_so: bool) -> None:
        await going.wait()
        with handling(menu):
            if says_so:
                record_message("telegram", "own")

    tasks = []
    for number, says_so in enumerate((True, False)):
        with Watch(record_messages=True).update(BOT, text(number)):
            tasks.append(asyncio.create_task(background(says_so=says_so)))
    going.set()
    await asyncio.gather(*tasks)
    assert [(fact.intent, fact.correlation_id[-1]) for fact in facts] == [("own", "0"), ("menu_handler", "1")]


def test_a_decorated_handler_is_counted_by_its_decorator(captured: Captured) -> None:
    """Not a second time by the bot's."""

    @action_tracking_decorator("mail_agent")
    def send() -> None: ...

    with Watch(record_messages=True).update(BOT, text()), handling(send):
        send()
    assert captured.value("genapp_action_count_total") == 1
    assert captured.value("genapp_action_count_total", name="mail_agent", status="success") == 1


def reaction(update_id: int, message_id: int, quality: float | None) -> Incoming:
    return Incoming(update_id, "message_reaction", chat_id=7, message_id=message_id, quality=quality)


def test_a_reaction_finds_what_it_is_about(facts: list[Any]) -> None:
    """The ids in force when the message was sent, a bot's own `bind` too; unknown messages are nobody's."""
    watch = Watch(record_messages=False)
    with watch.update(BOT, text(1)):
        watch.sent(BOT, "sendMessage", messages=[(7, 100)])
        session = current().session_id
        with bind(correlation_id="order-17"):
            watch.sent(BOT, "sendMessage", messages=[(7, 101)])
    for event in (
        reaction(2, 101, 1.0),
        reaction(3, 100, 0.0),
        reaction(4, 999, 1.0),
        reaction(5, 100, None),
    ):
        with watch.update(BOT, event):
            pass
    assert [(fact.correlation_id, fact.session_id, fact.quality) for fact in facts] == [
        ("order-17", session, 1.0),
        (f"tg-{hashed(42, 'test')[:8]}-1", session, 0.0),
    ]


def test_a_reaction_may_come_before_the_bot_knows_what_it_sent(facts: list[Any]) -> None:
    """The Bot API's answer may be slower than the user."""
    watch = Watch(record_messages=False)
    with watch.update(BOT, text(1)):
        with watch.update(BOT, reaction(2, 100, 1.0)):
            pass
        assert facts == []
        watch.sent(BOT, "sendMessage", messages=[(7, 100)])
    assert [(fact.correlation_id[-2:], fact.quality) for fact in facts] == [("-1", 1.0)]


@pytest.mark.parametrize(("method", "seconds"), [("editMessageText", 1), ("sendMessage", 61)])
def test_a_reaction_to_something_else_waits_for_nothing(
    facts: list[Any], monkeypatch: pytest.MonkeyPatch, method: str, seconds: int
) -> None:
    """To what a message said before it was edited, or so long ago that nobody sends it any more."""
    watch, now_s = Watch(record_messages=False), time.monotonic()
    with watch.update(BOT, reaction(1, 100, 1.0)):
        pass
    monkeypatch.setattr(time, "monotonic", lambda: now_s + seconds)
    with watch.update(BOT, text(2)):
        watch.sent(BOT, method, messages=[(7, 100)])
    assert facts == []


def test_an_edited_text_is_a_new_answer_and_edited_buttons_are_not(facts: list[Any]) -> None:
    """A regenerated answer is rated as such, a keyboard taken away changes nothing."""
    watch = Watch(record_messages=False)
    for update_id, method in ((1, "sendMessage"), (2, "editMessageText"), (3, "editMessageReplyMarkup")):
        with watch.update(BOT, text(update_id)):
            watch.sent(BOT, method, messages=[(7, 100)])
    with watch.update(BOT, reaction(4, 100, 1.0)):
        pass
    assert [fact.correlation_id[-2:] for fact in facts] == ["-2"]


def test_a_vote_survives_a_restart_and_counts_once(facts: list[Any]) -> None:
    """The button says what it is about; pressed again it says nothing new, pressed otherwise it does."""
    with Watch(record_messages=False).update(BOT, text(1)):
        ((good, bad),) = vote_rows("yes", "no")
    watch = Watch(record_messages=False)
    for number, button in enumerate((good, good, bad)):
        press = Incoming(
            number, "callback_query", chat_id=7, user_id=8, message_id=100, data=button["callback_data"]
        )
        with watch.update(BOT, press):
            pass
    assert [(fact.correlation_id[-2:], fact.quality) for fact in facts] == [("-1", 1.0), ("-1", 0.0)]
    assert all(isinstance(fact, Feedback) and fact.session_id for fact in facts)


def test_votes_on_inline_answers_are_told_apart(facts: list[Any]) -> None:
    """They name no message: the button alone says which answer it is about."""
    watch = Watch(record_messages=False)
    buttons = []
    for number in (1, 2):
        with watch.update(BOT, Incoming(number, "inline_query", user_id=8)):
            ((good, _),) = vote_rows("yes", "no")
            buttons.append(good["callback_data"])
    for number, data in enumerate((*buttons, buttons[0]), 3):
        with watch.update(BOT, Incoming(number, "callback_query", user_id=8, data=data)):
            pass
    assert [fact.correlation_id[-2:] for fact in facts] == ["-1", "-2"]


def test_edited_buttons_of_an_unknown_message_make_it_no_answer(facts: list[Any]) -> None:
    """One sent before a restart was made by another update than the one that takes its keyboard away."""
    watch = Watch(record_messages=False)
    with watch.update(BOT, text(1)):
        watch.sent(BOT, "editMessageReplyMarkup", messages=[(7, 100)])
    with watch.update(BOT, reaction(2, 100, 1.0)):
        pass
    assert facts == []


def test_an_update_is_read_alike_from_both_libraries() -> None:
    """The attributes both name the same."""
    chat, user = SimpleNamespace(id=7), SimpleNamespace(id=8)
    sent = datetime(2026, 1, 2, tzinfo=UTC)
    message = SimpleNamespace(
        chat=chat, from_user=user, message_id=5, date=sent, edit_date=None, text="hi", data=None
    )
    assert incoming(1, "message", event=message) == Incoming(
        1, "message", chat_id=7, user_id=8, message_id=5, sent_at_s=sent.timestamp(), is_text=True
    )
    query = SimpleNamespace(from_user=user, message=message, data="gv:1")
    assert incoming(2, "callback_query", event=query) == Incoming(
        2, "callback_query", chat_id=7, user_id=8, message_id=5, data="gv:1"
    )
    assert incoming(3, "unknown", event=None) == Incoming(3, "unknown")


def test_a_refusal_is_counted_once(captured: Captured) -> None:
    """However many layers see its error pass."""
    refusals = (RuntimeError(), RuntimeError())
    for refusal in (*refusals, refusals[0]):
        Watch(record_messages=False).throttled(BOT, refusal)
    assert captured.value("genapp_bot_api_throttled_total", bot="shop_bot") == 2


def test_a_bot_does_not_show_its_key() -> None:
    """Neither token nor key is in its repr."""
    assert repr(BOT) == "Bot(id=42, label='shop_bot')"
    assert Bot.known_by(42, None, token="42:AAsecret").label == "42"


def test_without_telemetry_nothing_happens() -> None:
    """Handlers run, errors pass, buttons are plain."""
    watch = Watch(record_messages=True)
    with pytest.raises(ValueError, match="no luck"), watch.update(BOT, text()), handling(menu):
        raise ValueError("no luck")
    watch.sent(BOT, "sendMessage", messages=[(7, 100)])
    watch.throttled(BOT, RuntimeError())
    assert len(watch.answers) == 0
    assert vote_rows("yes", "no")[0][0]["callback_data"] == "gv:1"
