"""The stand-in for Telegram refuses what the real one does."""

from __future__ import annotations

import pytest

from tests.telegram_api import CHAT, TOKEN, RefusedError, TelegramApi, shown, units

PATH = f"/bot{TOKEN}/sendMessage"


def answered(path: str = PATH, **said: object) -> str:
    """The text taken, or the refusal."""
    api = TelegramApi(0)
    message = {"chat_id": str(CHAT), "parse_mode": "HTML", "text": "hi", **said}
    try:
        return str(api.take(path, message)["result"]["text"])
    except RefusedError as refusal:
        return f"{refusal.code} {refusal}"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"text": "<b>1 &lt; 2 &amp; 3</b> &#39;&quot; &nosuch; &"}, "1 < 2 & 3 '\" &nosuch; &"),
        ({"text": '<a href="x">l</a><code>c</code>'}, "lc"),
        ({"text": "1 < 2"}, "400 Bad Request: can't parse entities: Unsupported start tag at byte offset 2"),
        ({"text": "<p>x</p>"}, "400 Bad Request: can't parse entities: Unsupported start tag at byte offset 0"),
        ({"text": "<b>x"}, "400 Bad Request: can't parse entities: Can't find end tag corresponding to start tag b"),
        ({"text": "<b><i>x</b></i>"}, "400 Bad Request: can't parse entities: Unmatched end tag at byte offset 7"),
        ({"text": "<b> </b>\n"}, "400 Bad Request: message text is empty"),
        ({"text": "🧨" * 2049}, "400 Bad Request: message is too long"),
        ({"text": "&lt;" * 4096}, "<" * 4096),
        ({"text": "<p>", "parse_mode": ""}, "<p>"),
        ({"chat_id": 1}, "400 Bad Request: chat not found"),
        ({"path": "/bot1:x/sendMessage"}, "401 Unauthorized"),
    ],
)  # fmt: skip
def test_it_judges_as_telegram_does(said: dict, answer: str) -> None:
    """Texts are measured after their entities, tags must be known and balanced, chat and token right."""
    assert answered(**said) == answer


def test_it_throttles_when_told() -> None:
    """The next requests get 429 and how long to wait."""
    api = TelegramApi(0, throttle_next=1)
    message = {"chat_id": CHAT, "text": "hi"}
    with pytest.raises(RefusedError) as refused:
        api.take(PATH, message)
    assert refused.value.answer["parameters"] == {"retry_after": 1}
    assert api.take(PATH, message)["ok"] is True


def test_it_counts_as_telegram_does() -> None:
    """A pair of surrogates is two units, anything else one."""
    assert (units("aЖ🧨"), shown("&amp;lt;")) == (4, "&lt;")
