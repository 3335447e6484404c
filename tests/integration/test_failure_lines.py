"""What servers and bot libraries log of an error when its request or update is over: it has the ids all the same."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from typing import Any

import pytest
from fastapi import FastAPI

from otel_genapp import bind
from otel_genapp.bootstrap.log_records import otlp_record
from otel_genapp.capture.aiogram import instrument_aiogram
from otel_genapp.fake_telegram import FakeTelegram
from otel_genapp.logs import JsonLines, configure_logging
from otel_genapp.testing import capture_telemetry
from tests.fakes import soon
from tests.fresh import in_fresh_process
from tests.serving import Client
from tests.web_fakes import uvicorn_server

SAME_ERROR = ValueError("the same object each time")
IDS = ("session_id", "correlation_id", "trace_id", "span_id")


class Kept(logging.Handler):
    """Each record as a line of JSON and as OTLP has it, made where it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[dict[str, Any], Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((json.loads(JsonLines("shop", "dev").format(record)), otlp_record(record)))

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines that begin with `event`; the OTLP records beside them have the same ids."""
        found = [(line, otlp) for line, otlp in self.kept if line["event"].startswith(event)]
        for line, otlp in found:
            assert f"{otlp.trace_id:032x}" == line["trace_id"]
            assert f"{otlp.span_id:016x}" == line["span_id"]
            assert otlp.attributes.get("session.id") == line["session_id"]
        return [line for line, _ in found]


def kept_lines() -> Kept:
    configure_logging("shop", "dev", stream=io.StringIO())
    kept = Kept()
    logging.getLogger().addHandler(kept)
    return kept


def fail_in_fastapi() -> tuple[list[str | None], list[dict[str, Any]]]:
    app = FastAPI()

    @app.get("/boom")
    def boom() -> None:
        raise SAME_ERROR

    @app.get("/bound")
    def bound() -> None:
        with bind(correlation_id="inner"):
            raise ValueError("no")

    kept = kept_lines()
    with capture_telemetry(), uvicorn_server(app, log_level="info", log_config=None) as url:
        client = Client(int(url.rpartition(":")[2]))
        for target, name in (("/boom", "c1"), ("/boom", "c2"), ("/bound", "c3")):
            client.ask(target, headers={"x-correlation-id": name, "x-session-id": f"s-{name}"})
        client.ask("/boom")
    answers = [line["trace_id"] for line in kept.lines("127.0.0.1")]
    return answers, kept.lines("Exception in ASGI application")


def test_an_asgi_servers_line_of_an_error() -> None:
    """It has the ids of its request, those bound innermost, though the object was raised in others before."""
    traces, lines = in_fresh_process(fail_in_fastapi)
    assert [line["trace_id"] for line in lines] == traces
    assert len(set(traces)) == 4
    assert all(line["span_id"] for line in lines)
    assert [(line["correlation_id"], line["session_id"]) for line in lines] == [
        ("c1", "s-c1"), ("c2", "s-c2"), ("inner", "s-c3"), (traces[3], None),
    ]  # fmt: skip


async def poll_and_fail() -> list[dict[str, Any]]:
    from aiogram import Bot, Dispatcher
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer
    from aiogram.types import Message

    dispatcher = Dispatcher()
    instrument_aiogram(dispatcher)

    async def broken_handler(message: Message) -> None:
        raise SAME_ERROR

    dispatcher.message.register(broken_handler)
    kept = kept_lines()
    with capture_telemetry(), FakeTelegram() as telegram:
        session = AiohttpSession(api=TelegramAPIServer.from_base(telegram.root_url))
        bot = Bot(telegram.token, session=session)
        polled = asyncio.create_task(dispatcher.start_polling(bot, handle_signals=False, polling_timeout=1))
        for chat in (7, 8):
            before = len(kept.lines("Cause exception"))
            telegram.write(chat_id=chat, text="hello")
            assert await soon(lambda before=before: len(kept.lines("Cause exception")) > before)  # type: ignore[misc]
        await dispatcher.stop_polling()
        await polled
    return kept.lines("Cause exception")


def fail_in_a_bot() -> list[dict[str, Any]]:
    return asyncio.run(poll_and_fail())


def test_a_bot_librarys_line_of_an_error() -> None:
    """It has the ids of its update, each time."""
    pytest.importorskip("aiogram")
    lines = in_fresh_process(fail_in_a_bot)
    assert len(lines) == 2
    assert [line["correlation_id"][:3] for line in lines] == ["tg-"] * 2
    assert [len({line[name] for line in lines} - {None}) for name in IDS] == [2] * 4


def fail_in_a_thread() -> list[dict[str, Any]]:
    kept = kept_lines()

    def work() -> None:
        try:
            with bind(session_id="s1", correlation_id="c1"):
                raise SAME_ERROR
        except ValueError:
            logging.getLogger("shop").exception("failed")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return [line for line, _ in kept.kept]


def test_any_binding_is_remembered() -> None:
    """Without telemetry too, an error logged outside of the `bind` it came from has its ids."""
    [line] = in_fresh_process(fail_in_a_thread)
    assert [line[name] for name in IDS] == ["s1", "c1", None, None]
