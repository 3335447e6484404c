"""What a fake Bot API knows: updates that wait to be read, what the bot sent, refusals to come."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BOT_NAME = "Fake bot"
_ON_REQUEST_ONLY = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
"""Updates the Bot API leaves out unless a bot asks for them by name."""
_UPDATES_A_CALL = 100
_POLL_LIMIT_S = 60.0
_FIRST_UPDATE, _FIRST_MESSAGE = 4000, 100

Result = tuple[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message the bot sent. `buttons` are the callback data of its inline keyboard, by their text."""

    method: str
    chat_id: int
    message_id: int
    text: str
    buttons: Mapping[str, str] = field(default_factory=dict)


class BotState:
    """One bot's updates and messages; every method may be called from any thread."""

    def __init__(self, token: str, username: str) -> None:
        self.token = token
        self.bot_id = int(token.partition(":")[0])
        self.username = username
        self.calls: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._updates: list[dict[str, Any]] = []
        self._sent: list[Sent] = []
        self._refusals: Counter[str] = Counter()
        self._retry_after_s = 1
        self._allowed: frozenset[str] | None = None
        self._next_update = _FIRST_UPDATE
        self._next_message = _FIRST_MESSAGE
        self._closed = False

    def add_update(self, kind: str, event: dict[str, Any]) -> int:
        """Queue an update for the bot; returns its id."""
        with self._changed:
            update_id = self._next_update
            self._next_update += 1
            self._updates.append({"update_id": update_id, kind: event})
            self._changed.notify_all()
        return update_id

    def new_message_id(self) -> int:
        """An id no message has had."""
        with self._changed:
            self._next_message += 1
            return self._next_message

    def sent(self) -> tuple[Sent, ...]:
        """What the bot has sent, in order."""
        with self._changed:
            return tuple(self._sent)

    def wait_for(self, messages: int, timeout_s: float) -> tuple[Sent, ...]:
        """What the bot has sent as soon as that are `messages`, or a `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sent) >= messages, timeout_s):
                raise TimeoutError(
                    f"the bot sent {len(self._sent)} messages in {timeout_s:g} s, not {messages}"
                )
            return tuple(self._sent)

    def wait_until_read(self, timeout_s: float) -> None:
        """Wait until the bot has confirmed every update, or raise a `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._updates, timeout_s):
                raise TimeoutError(f"{len(self._updates)} updates were not read in {timeout_s:g} s")

    def refuse(self, method: str, *, times: int, retry_after_s: int) -> None:
        """Answer the next `times` calls of `method` with 429."""
        with self._changed:
            self._refusals[method] += times
            self._retry_after_s = retry_after_s

    def close(self) -> None:
        """Wake whoever polls."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def reopen(self) -> None:
        """Let polls wait again."""
        with self._changed:
            self._closed = False

    def call(self, method: str, given: Mapping[str, Any]) -> Result:
        """The status and body of the answer to one call of the Bot API."""
        with self._changed:
            self.calls[method] += 1
            if self._refusals[method] > 0:
                self._refusals[method] -= 1
                return _refused(429, "Too Many Requests: retry later", retry_after=self._retry_after_s)
        if method == "getMe":
            return _result(self.me())
        if method == "getUpdates":
            return _result(self._read(given))
        if method.startswith("send") and method != "sendChatAction":
            return _result(self._send(method, given))
        if method.startswith("editMessage"):
            return _result(self._edit(method, given))
        if method.startswith(("answer", "set", "delete", "sendChatAction", "log", "close")):
            return _result(True)
        return _refused(404, "Not Found: method not found")

    def me(self) -> dict[str, Any]:
        """The bot as a user."""
        return {"id": self.bot_id, "is_bot": True, "first_name": BOT_NAME, "username": self.username}

    def _read(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        offset = int(given.get("offset") or 0)
        wait_s = min(float(given.get("timeout") or 0), _POLL_LIMIT_S)
        asked = _json(given.get("allowed_updates"))
        with self._changed:
            if asked is not None:
                self._allowed = frozenset(asked) or None
            self._updates = [update for update in self._updates if update["update_id"] >= offset]
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._wanted(), wait_s)
            return self._wanted()[:_UPDATES_A_CALL]

    def _wanted(self) -> list[dict[str, Any]]:
        """What waits; updates of a kind the bot did not ask for are let go, as the Bot API does."""
        self._updates = [update for update in self._updates if self._is_allowed(update)]
        return self._updates

    def _is_allowed(self, update: Mapping[str, Any]) -> bool:
        kind = next(name for name in update if name != "update_id")
        return kind in self._allowed if self._allowed is not None else kind not in _ON_REQUEST_ONLY

    def _send(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        message_id = self.new_message_id()
        return self._keep(method, given, message_id=message_id)

    def _edit(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._keep(method, given, message_id=int(given["message_id"])) | {
            "edit_date": int(time.time())
        }

    def _keep(self, method: str, given: Mapping[str, Any], *, message_id: int) -> dict[str, Any]:
        chat_id = int(given["chat_id"])
        text = str(given.get("text") or given.get("caption") or "")
        keyboard = (_json(given.get("reply_markup")) or {}).get("inline_keyboard", ())
        buttons = {button["text"]: button.get("callback_data", "") for row in keyboard for button in row}
        with self._changed:
            self._sent.append(Sent(method, chat_id, message_id, text, buttons))
            self._changed.notify_all()
        return {
            "message_id": message_id,
            "date": int(time.time()),
            "chat": chat(chat_id),
            "from": self.me(),
            "text": text,
        }


def chat(chat_id: int) -> dict[str, Any]:
    """A chat as the Bot API shows it: private, or a group where the id is negative."""
    if chat_id < 0:
        return {"id": chat_id, "type": "supergroup", "title": "A group"}
    return {"id": chat_id, "type": "private", "first_name": "Ann"}


def user(user_id: int) -> dict[str, Any]:
    """A user as the Bot API shows one."""
    return {"id": user_id, "is_bot": False, "first_name": "Ann", "language_code": "en"}


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value else value


def _result(value: Any) -> Result:
    return 200, {"ok": True, "result": value}


def _refused(status: int, description: str, *, retry_after: int | None = None) -> Result:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if retry_after is not None:
        body["parameters"] = {"retry_after": retry_after}
    return status, body


def unauthorized() -> Result:
    """The answer to a call with another token."""
    return _refused(401, "Unauthorized")
