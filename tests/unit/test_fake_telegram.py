"""The fake Bot API by itself: what a bot is told, and what users see of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from otel_genapp.fake_telegram import FakeTelegram


def call(telegram: FakeTelegram, method: str, **given: Any) -> httpx.Response:
    return httpx.post(f"{telegram.base_url}{telegram.token}/{method}", data=given, trust_env=False)


def test_a_message_is_read_once_it_is_confirmed() -> None:
    """An update comes again until the bot asks for what follows it."""
    with FakeTelegram() as telegram:
        update_id = telegram.write(chat_id=7, text="/start")
        for _ in range(2):
            (update,) = call(telegram, "getUpdates").json()["result"]
            assert (update["update_id"], update["message"]["text"]) == (update_id, "/start")
        assert call(telegram, "getUpdates", offset=update_id + 1).json()["result"] == []
        telegram.wait_until_read(timeout_s=0)


@pytest.mark.parametrize("shape", ["form", "multipart", "json"])
def test_what_the_bot_sends_is_kept_however_it_is_sent(shape: str) -> None:
    """Form, multipart and JSON bodies all make the same message."""
    given = {"chat_id": "7", "text": "hello"}
    with FakeTelegram() as telegram:
        url = f"{telegram.base_url}{telegram.token}/sendMessage"
        bodies: dict[str, dict[str, Any]] = {
            "form": {"data": given},
            "multipart": {"files": {name: (None, value) for name, value in given.items()}},
            "json": {"json": given},
        }
        httpx.post(url, **bodies[shape], trust_env=False)
        (sent,) = telegram.wait_for(1, timeout_s=0)
        assert (sent.method, sent.chat_id, sent.text) == ("sendMessage", 7, "hello")


def test_reactions_reach_only_who_asks_for_them() -> None:
    """Without `allowed_updates` a reaction is let go."""
    with FakeTelegram() as telegram:
        call(telegram, "sendMessage", chat_id=7, text="hello")
        (sent,) = telegram.sent
        telegram.react(sent, "👍")
        assert call(telegram, "getUpdates").json()["result"] == []
        call(telegram, "getUpdates", allowed_updates='["message_reaction"]')
        telegram.react(sent, "👍")
        (update,) = call(telegram, "getUpdates").json()["result"]
        assert update["message_reaction"]["new_reaction"] == [{"type": "emoji", "emoji": "👍"}]


def test_a_throttled_call_says_when_to_come_again() -> None:
    """429 with `retry_after`, as often as asked for."""
    with FakeTelegram() as telegram:
        telegram.throttle(times=1, retry_after_s=3)
        refused = call(telegram, "sendMessage", chat_id=7, text="hello")
        assert (refused.status_code, refused.json()["parameters"]) == (429, {"retry_after": 3})
        assert call(telegram, "sendMessage", chat_id=7, text="hello").status_code == 200


def test_another_token_is_refused() -> None:
    """The answer is 401 and tells nothing."""
    with FakeTelegram() as telegram:
        answer = httpx.post(f"{telegram.base_url}1:AAwrong/getMe", trust_env=False)
        assert (answer.status_code, answer.json()["description"]) == (401, "Unauthorized")


def test_a_poll_ends_when_the_server_closes() -> None:
    """Nobody waits for a server that is gone."""
    telegram = FakeTelegram().start()
    telegram.close()
    with pytest.raises(httpx.TransportError):
        call(telegram, "getMe")
