"""A stand-in for Telegram's Bot API: takes `sendMessage`, refuses what the real one would refuse."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

TOKEN = "123456:test-token"
CHAT = -1001234567890
TEXT_MAX_UNITS = 4096

_PLAIN_TAGS = (
    "b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote", "tg-spoiler",
)  # fmt: skip
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)((?:\s[^<>]*)?)>")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});")


class RefusedError(Exception):
    """What the API answers instead of taking a message."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.answer: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
        if parameters:
            self.answer["parameters"] = parameters


def units(text: str) -> int:
    """UTF-16 code units, as Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def shown(html: str) -> str:
    """The text without its tags and entities.

    Raises:
        RefusedError: a tag that is not known, or not balanced.
    """
    parts: list[str] = []
    opened: list[str] = []
    at = 0
    while at < len(html):
        if html[at] == "<":
            tag = _TAG.match(html, at)
            if tag is None or not _allowed(tag):
                raise _unparsed(f"Unsupported start tag at byte offset {len(html[:at].encode())}")
            name = tag[2].lower()
            if not tag[1]:
                opened.append(name)
            elif not opened or opened.pop() != name:
                raise _unparsed(f"Unmatched end tag at byte offset {len(html[:at].encode())}")
            at = tag.end()
            continue
        entity = _ENTITY.match(html, at)
        parts.append(unescape(entity[0]) if entity else html[at])
        at = entity.end() if entity else at + 1
    if opened:
        raise _unparsed(f"Can't find end tag corresponding to start tag {opened[-1]}")
    return "".join(parts)


def _allowed(tag: re.Match[str]) -> bool:
    closing, name, attributes = tag[1], tag[2].lower(), tag[3].strip()
    if closing:
        return not attributes
    if name in _PLAIN_TAGS:
        return not attributes or (name, attributes) == ("blockquote", "expandable")
    return name == "a" and re.fullmatch(r'href="[^"]*"', attributes) is not None


def _unparsed(why: str) -> RefusedError:
    return RefusedError(400, f"Bad Request: can't parse entities: {why}")


@dataclass
class TelegramApi:
    """What arrived, and how to have the next requests refused for coming too fast."""

    port: int
    texts: list[str] = field(default_factory=list)
    """The texts as they are shown, in the order of their arrival."""
    sources: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals by description."""
    throttle_next: int = 0
    """So many of the next requests are answered 429."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, said: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            RefusedError: the real API would not take it.
        """
        if path != f"/bot{TOKEN}/sendMessage":
            known = path.startswith(f"/bot{TOKEN}/")
            raise RefusedError(404, "Not Found") if known else RefusedError(401, "Unauthorized")
        with self._lock:
            if self.throttle_next > 0:
                self.throttle_next -= 1
                raise RefusedError(429, "Too Many Requests: retry after 1", retry_after=1)
        if str(said.get("chat_id")) != str(CHAT):
            raise RefusedError(400, "Bad Request: chat not found")
        source = said.get("text")
        if not isinstance(source, str) or said.get("parse_mode") not in {None, "", "HTML"}:
            raise RefusedError(400, "Bad Request: unsupported parse_mode")
        text = shown(source) if said.get("parse_mode") == "HTML" else source
        if not text.strip():
            raise RefusedError(400, "Bad Request: message text is empty")
        if units(text) > TEXT_MAX_UNITS:
            raise RefusedError(400, "Bad Request: message is too long")
        with self._lock:
            self.texts.append(text)
            self.sources.append(source)
            number = len(self.texts)
        chat = {"id": CHAT, "type": "supergroup", "title": "alerts"}
        return {"ok": True, "result": {"message_id": number, "date": 1, "chat": chat, "text": text}}

    def refuse(self, refusal: RefusedError) -> None:
        """Count a refusal."""
        with self._lock:
            self.refused[str(refusal)] += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: TelegramApi

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        is_json = "json" in self.headers.get("content-type", "")
        code = 200
        try:
            answer = self.api.take(self.path, json.loads(body) if is_json else dict(parse_qsl(body)))
        except RefusedError as refusal:
            self.api.refuse(refusal)
            code, answer = refusal.code, refusal.answer
        sent = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that is killed leaves broken connections behind; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def telegram_api() -> Iterator[TelegramApi]:
    """The API on a free port of loopback."""
    handler = type("_Bound", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        handler.api = TelegramApi(server.server_port)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield handler.api  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join(10)
