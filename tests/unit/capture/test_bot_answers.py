"""Votes and reactions, without a library: what a button says, what emoji mean, what is remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otel_genapp.capture import bot_answers
from otel_genapp.capture.bot_answers import Newest, Vote, reaction_quality, vote_data, vote_in

KEY = b"k" * 32


def test_a_vote_is_for_the_chat_it_was_shown_in() -> None:
    """Taken to another chat, changed, or signed by another bot, the id in it counts for nothing."""
    data = vote_data(1, correlation_id="tg-1234abcd-5", chat_id=7, key=KEY)
    assert len(data.encode()) <= 64
    assert vote_in(data, chat_id=7, key=KEY) == Vote(1.0, "tg-1234abcd-5")
    assert vote_in(data, chat_id=8, key=KEY) == Vote(1.0)
    assert vote_in(data.replace("-5", "-6"), chat_id=7, key=KEY) == Vote(1.0)
    assert vote_in(data, chat_id=7, key=b"other") == Vote(1.0)


@pytest.mark.parametrize(
    "data", [None, 5, "", "menu:1", "gv:", "gv:2", "gv:x:y:z", "gv:list:2", "gv:1:next", "gv:10"]
)
def test_what_is_no_vote_is_left_alone(data: Any) -> None:
    """Buttons of the bot's own are its business."""
    assert vote_in(data, chat_id=7, key=KEY) is None


def test_a_long_correlation_id_stays_out_of_the_button() -> None:
    """The Bot API takes 64 bytes; the message is remembered all the same."""
    assert vote_data(0, correlation_id="x" * 60, chat_id=7, key=KEY) == "gv:0"


@pytest.mark.parametrize(
    ("new", "old", "quality"),
    [
        ("👍", "", 1.0),
        ("👎", "", 0.0),
        ("👎", "👍", 0.0),
        ("👍👎", "", 0.5),
        ("👍", "👍", None),
        ("", "👍", None),
        ("🤔", "", None),
    ],
)
def test_only_a_new_emoji_that_says_something_counts(new: str, old: str, quality: float | None) -> None:
    """Taken back or kept it is no second opinion."""
    shown = [[SimpleNamespace(emoji=emoji) for emoji in emojis] for emojis in (new, old)]
    assert reaction_quality(shown[0], shown[1]) == quality
    assert reaction_quality([SimpleNamespace(custom_emoji_id="1")], []) is None


def test_memory_is_bounded() -> None:
    """The oldest messages are forgotten."""
    newest: Newest[int] = Newest(3)
    for number in range(10):
        newest.keep(number % 5, number)
    assert len(newest) == 3
    assert [newest.get(key) for key in range(5)] == [None, None, 7, 8, 9]
    assert bot_answers.KEPT_MESSAGES == 10_000
