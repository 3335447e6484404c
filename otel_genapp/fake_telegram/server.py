"""`FakeTelegram`: the listening socket, its threads, and what users do to the bot."""

from __future__ import annotations

import json
import secrets
import socket
import string
import threading
import time
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from otel_genapp.fake_telegram.state import BotState, Sent, chat, unauthorized, user

_DASHED = string.ascii_letters + string.digits + "-_"
_BODY_LIMIT_BYTES = 16 * 1024 * 1024


class FakeTelegram:
    """A Bot API for one bot, in threads of its own: long polling, sending, editing, refusals on demand.

    Use it as a context manager, or call `start()` and `close()`. Its token has the form of a real one
    and is another each time. As at Telegram, reactions reach only a bot that asks for them
    (`allowed_updates`).

    Args:
        username: the bot's.
        port: where to listen on 127.0.0.1; 0 takes a free port.
    """

    def __init__(self, username: str = "genapp_demo_bot", *, port: int = 0) -> None:
        self.port = port
        self.token = f"{7_700_000_000 + secrets.randbelow(10**8)}:AA{_random_text(33)}"
        self.username = username
        self._state = BotState(self.token, username)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def root_url(self) -> str:
        """The URL to give to aiogram's `TelegramAPIServer.from_base`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The URL to give to python-telegram-bot's `base_url`."""
        return f"{self.root_url}/bot"

    @property
    def sent(self) -> tuple[Sent, ...]:
        """What the bot has sent and edited so far, in order."""
        return self._state.sent()

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each method of the Bot API was called, refused calls too."""
        return dict(self._state.calls)

    def write(
        self, *, chat_id: int, text: str, user_id: int | None = None, sent_at_s: float | None = None
    ) -> int:
        """A user writes to the bot; returns the update's id. `sent_at_s` is Unix time, now unless given."""
        message: dict[str, Any] = {
            "message_id": self._state.new_message_id(),
            "date": int(time.time() if sent_at_s is None else sent_at_s),
            "chat": chat(chat_id),
            "from": user(chat_id if user_id is None else user_id),
            "text": text,
        }
        if text.startswith("/"):
            command = text.partition(" ")[0]
            message["entities"] = [{"type": "bot_command", "offset": 0, "length": len(command)}]
        return self._state.add_update("message", message)

    def press(self, message: Sent, button: str, *, user_id: int | None = None) -> int:
        """A user presses a button under a message of the bot; returns the update's id.

        Raises:
            KeyError: the message has no such button.
        """
        presser = user(message.chat_id if user_id is None else user_id)
        shown = {
            "message_id": message.message_id,
            "date": int(time.time()),
            "chat": chat(message.chat_id),
            "from": self._state.me(),
            "text": message.text,
        }
        query = {
            "id": secrets.token_hex(8),
            "from": presser,
            "chat_instance": str(message.chat_id),
            "data": message.buttons[button],
            "message": shown,
        }
        return self._state.add_update("callback_query", query)

    def react(
        self, message: Sent, emoji: str, *, before: str | None = None, user_id: int | None = None
    ) -> int:
        """A user reacts to a message of the bot, with `before` until now; returns the update's id.

        An empty `emoji` takes the reaction back.
        """
        reaction = {
            "chat": chat(message.chat_id),
            "message_id": message.message_id,
            "user": user(message.chat_id if user_id is None else user_id),
            "date": int(time.time()),
            "old_reaction": [{"type": "emoji", "emoji": before}] if before else [],
            "new_reaction": [{"type": "emoji", "emoji": emoji}] if emoji else [],
        }
        return self._state.add_update("message_reaction", reaction)

    def post(self, kind: str, event: dict[str, Any]) -> int:
        """Any other update, as the Bot API would show it; returns its id."""
        return self._state.add_update(kind, event)

    def throttle(self, method: str = "sendMessage", *, times: int = 1, retry_after_s: int = 1) -> None:
        """Answer the next `times` calls of `method` with 429 and `retry_after`."""
        self._state.refuse(method, times=times, retry_after_s=retry_after_s)

    def wait_for(self, messages: int, *, timeout_s: float = 30.0) -> tuple[Sent, ...]:
        """What the bot has sent, as soon as that are so many messages.

        Raises:
            TimeoutError: there are fewer after `timeout_s`.
        """
        return self._state.wait_for(messages, timeout_s)

    def wait_until_read(self, *, timeout_s: float = 30.0) -> None:
        """Return when the bot has read every update; it may still be handling the last ones.

        Raises:
            TimeoutError: it has not after `timeout_s`.
        """
        self._state.wait_until_read(timeout_s)

    def start(self) -> Self:
        """Listen; on return calls are answered. Does nothing on a running server.

        Raises:
            OSError: the port cannot be had.
        """
        if self._server is None:
            self._server = _Server(self._state, self.port)
            self.port = self._server.server_address[1]
            self._state.reopen()
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.05,), name="fake-telegram", daemon=True
            )
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening and cut the connections."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._state.close()
        server.shutdown()
        thread.join()
        server.server_close()
        server.cut()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, state: BotState, port: int) -> None:
        self.state = state
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def cut(self) -> None:
        """End the connections that clients keep open."""
        for connection in tuple(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if self.headers.get("transfer-encoding") is not None:
            body = self._read_chunks()
        else:
            body = self.rfile.read(min(length, _BODY_LIMIT_BYTES))
        self._answer(_fields(self.headers.get("content-type") or "", body))

    def do_GET(self) -> None:
        self._answer(dict(parse_qsl(self.path.partition("?")[2])))

    def _answer(self, given: Mapping[str, Any]) -> None:
        token, _, method = self.path.partition("?")[0].removeprefix("/bot").rpartition("/")
        state = self.server.state
        if token.replace("%3A", ":") == state.token:
            status, answer = state.call(method, given)
        else:
            status, answer = unauthorized()
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""


def _fields(content_type: str, body: bytes) -> dict[str, Any]:
    """What a call was given, however its library sends it."""
    if content_type.startswith("application/json"):
        found: dict[str, Any] = json.loads(body or b"{}")
        return found
    if content_type.startswith("multipart/form-data"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + body)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_content()
            for part in form.iter_parts()
        }
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_DASHED) for _ in range(length))
