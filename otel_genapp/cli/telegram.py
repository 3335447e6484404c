"""Sending a message by Telegram's Bot API; the token is in no message and no log."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.config import COMMAND_ENVIRONMENT, said_by_environment
from otel_genapp.errors import ConfigError, GenappError

API = "https://api.telegram.org"
_ANSWER_S = 15.0
_ANSWER_BYTES = 64 * 1024


class SendError(GenappError):
    """The message was not taken; says what Telegram answered."""


@dataclass(frozen=True, slots=True)
class Telegram:
    """A chat that a bot may write to."""

    chat: str
    token: str = field(repr=False)
    api: str = API

    @classmethod
    def of(cls, chat: str | None) -> Telegram:
        """The chat of the option or the environment, and the bot of the environment.

        Raises:
            ConfigError: one of them is missing, or the address is none.
        """
        chat = chat or said_by_environment("telegram_chat")
        token = said_by_environment("telegram_token")
        api = said_by_environment("telegram_api") or API
        if not token or not token.isascii() or not token.isprintable() or "/" in token or " " in token:
            raise ConfigError(f"set {COMMAND_ENVIRONMENT['telegram_token']} to the token of the bot")
        if not chat:
            raise ConfigError(f"whom to send it: give --chat or set {COMMAND_ENVIRONMENT['telegram_chat']}")
        if not api.startswith(("http://", "https://")):
            raise ConfigError(f"{COMMAND_ENVIRONMENT['telegram_api']} must begin with http:// or https://")
        return cls(chat, token, api.rstrip("/"))

    def send(self, text: str) -> int:
        """Send an HTML text; 0, the exit code of what is done.

        Raises:
            SendError: it was not taken.
        """
        body = json.dumps({"chat_id": self.chat, "text": text, "parse_mode": "HTML"}).encode("ascii")
        asked = urllib.request.Request(  # noqa: S310 - http or https
            f"{self.api}/bot{self.token}/sendMessage", data=body, headers={"content-type": "application/json"}
        )
        problem = ""
        try:
            with urllib.request.urlopen(asked, timeout=_ANSWER_S) as answer:  # noqa: S310 - as above
                if _said(answer).get("ok") is True:
                    return 0
                problem = "it did not say ok"
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {self._plain(_said(error).get('description', ''))}".rstrip()
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = type(error).__name__
        # Outside of the handler: an error of urllib may carry the address, and that the token.
        raise SendError(f"Telegram did not take the digest: {problem}")

    def _plain(self, text: object) -> str:
        return "".join(letter for letter in str(text)[:200] if letter.isprintable()).replace(
            self.token, "***"
        )


def _said(answer: Any) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(answer.read(_ANSWER_BYTES))
        if isinstance(found, dict):
            return found
    return {}
