"""One scenario for bots of both libraries: five hundred updates, and what must be counted of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import otel_genapp
from otel_genapp import hub, init_telemetry, record_message
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.fake_telegram import FakeTelegram, Sent
from otel_genapp.records import Feedback, Message
from otel_genapp.testing import Captured
from tests.fakes import soon
from tests.integration.test_canary import collecting

ASKED, MENUS, BROKEN, VOTES, REACTIONS = 200, 60, 40, 100, 100
CHATS = 20
DEADLINE_S = 90.0


@dataclass
class BotLog:
    """What the bot under test saw itself."""

    captured: Captured | None = None
    fails_before_error_handler: list[float] = field(default_factory=list)

    def error_handled(self) -> None:
        """Called by the bot's own error handler: what is counted by then."""
        if self.captured is not None:
            failed = self.captured.value("genapp_action_count_total", name="broken_handler", status="fail")
            self.fails_before_error_handler.append(failed)


Running = Callable[[FakeTelegram, FakeLLMServer, BotLog], AbstractAsyncContextManager[Any]]
"""Starts the bot of one library: `ask …` goes to the LLM and is answered with the answer's id and a vote
keyboard, `/menu` is an action of its own name, `fail …` raises `ValueError` with the text."""


async def answer_id(llm: FakeLLMServer, question: str) -> str:
    """Ask the LLM; every second question is recorded by the bot itself."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{llm.base_url}/chat/completions",
            json={"model": "gpt-5", "messages": [{"role": "user", "content": question}]},
        )
    if int(question.split()[1]) % 2 == 0:
        record_message("telegram", "question")
    return str(answer.json()["id"])


@contextmanager
def recorded() -> Iterator[list[Any]]:
    """Every conversation record made in the block, as the hub gets them."""
    running = hub.active
    assert running is not None
    kept: list[Any] = []
    record = running.record

    def keep(fact: Any, context: Any) -> None:
        kept.append(fact)
        record(fact, context)

    running.record = keep
    yield kept
    running.record = record


async def wait_for(telegram: FakeTelegram, messages: int) -> tuple[Sent, ...]:
    """What the bot sent, without blocking its loop."""
    return await asyncio.to_thread(telegram.wait_for, messages, timeout_s=DEADLINE_S)


async def five_hundred_updates(run: Running, captured: Captured) -> None:
    """Everything is counted once, and each reaction and vote finds the call that made the answer."""
    log = BotLog(captured)
    with FakeTelegram("shop_bot") as telegram, FakeLLMServer() as llm, recorded() as facts:
        async with run(telegram, llm, log):
            for number in range(ASKED):
                telegram.write(chat_id=1000 + number % CHATS, user_id=5000 + number, text=f"ask {number}")
            for number in range(MENUS):
                telegram.write(chat_id=1000 + number % CHATS, text="/menu")
            for number in range(BROKEN):
                telegram.write(chat_id=1000 + number % CHATS, text=f"fail {number}")
            sent = await wait_for(telegram, ASKED + MENUS)
            answers = [message for message in sent if message.text.startswith("chatcmpl")]
            assert len(answers) == ASKED
            for number, message in enumerate(answers[:VOTES]):
                telegram.press(message, "👍" if number % 3 else "👎")
            for number, message in enumerate(answers[VOTES : VOTES + REACTIONS]):
                telegram.react(message, "🔥" if number % 3 else "👎")
            ratings = VOTES + REACTIONS
            assert await soon(lambda: count(facts, Feedback) == ratings and len(updates(captured)) == 500)
        check_counts(captured, log)
        check_messages(facts)
        check_feedback(captured, answers, [fact for fact in facts if isinstance(fact, Feedback)])
        check_traces(captured)


def count(facts: list[Any], kind: type[Any]) -> int:
    return sum(isinstance(fact, kind) for fact in facts)


def updates(captured: Captured) -> list[Any]:
    """The spans of updates."""
    return [span for span in captured.spans if span.name.startswith("process ")]


def check_counts(captured: Captured, log: BotLog) -> None:
    """Handlers, errors, lag."""

    def actions(name: str, status: str) -> float:
        return captured.value("genapp_action_count_total", name=name, status=status)

    assert [actions(f"{name}_handler", "success") for name in ("ask", "menu", "broken", "vote")] == [
        ASKED,
        MENUS,
        0,
        VOTES,
    ]
    assert [actions(f"{name}_handler", "fail") for name in ("ask", "menu", "broken", "vote")] == [
        0,
        0,
        BROKEN,
        0,
    ]
    assert captured.value("genapp_action_count_total") == ASKED + MENUS + BROKEN + VOTES
    assert captured.value("genapp_errors_total") == BROKEN
    assert captured.value("genapp_errors_total", error_type="ValueError") == BROKEN
    lags = captured.value("genapp_bot_update_lag_sec_count", bot="shop_bot")
    assert lags == ASKED + MENUS + BROKEN + REACTIONS  # a press has no time of its own
    assert len(log.fails_before_error_handler) == BROKEN
    assert all(
        failed >= number for number, failed in enumerate(sorted(log.fails_before_error_handler), start=1)
    )


def check_messages(facts: list[Any]) -> None:
    """One record for each handled text, with the intent the bot said or the handler's name."""
    messages = [fact for fact in facts if isinstance(fact, Message)]
    assert Counter(message.intent for message in messages) == {
        "question": ASKED // 2,
        "ask_handler": ASKED // 2,
        "menu_handler": MENUS,
    }
    assert {message.platform for message in messages} == {"telegram"}
    assert len({message.session_id for message in messages}) == CHATS
    assert len({message.correlation_id for message in messages}) == ASKED + MENUS


def check_feedback(captured: Captured, answers: list[Sent], feedback: list[Feedback]) -> None:
    """The spans of the LLM calls say which correlation id the answer in each message has."""
    calls = {
        span.attributes["gen_ai.response.id"]: span.attributes
        for span in captured.spans
        if span.attributes and "gen_ai.response.id" in span.attributes
    }
    assert len(calls) == ASKED
    expected = Counter(
        (calls[message.text]["correlation.id"], calls[message.text]["session.id"], float(number % 3 > 0))
        for part in (answers[:VOTES], answers[VOTES : VOTES + REACTIONS])
        for number, message in enumerate(part)
    )
    assert Counter((fact.correlation_id, fact.session_id, fact.quality) for fact in feedback) == expected


def check_traces(captured: Captured) -> None:
    """A correlation id finds the handler, the LLM call and the call of the Bot API in one trace."""
    handled = updates(captured)
    assert Counter(span.name for span in handled) == {
        "process message ask_handler": ASKED,
        "process message menu_handler": MENUS,
        "process message broken_handler": BROKEN,
        "process callback_query vote_handler": VOTES,
        "process message_reaction": REACTIONS,
    }
    one = next(span for span in handled if span.name.endswith("ask_handler"))
    trace_id = one.context.trace_id
    spans: list[Any] = [span for span in captured.spans if span.context and span.context.trace_id == trace_id]
    assert {span.attributes["correlation.id"] for span in spans} == {one.attributes["correlation.id"]}
    assert one.attributes["correlation.id"].startswith("tg-")
    assert {span.name for span in spans} == {"process message ask_handler", "chat gpt-5", "POST"}
    failed = [span for span in handled if span.name.endswith("broken_handler")]
    assert {(span.status.status_code.name, span.attributes["error.type"]) for span in failed} == {
        ("ERROR", "ValueError")
    }


@contextmanager
def logged() -> Iterator[list[str]]:
    """What a plain handler on the root logger writes at level INFO."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Keep(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def throttled_twice(run: Running, captured: Captured) -> None:
    """Two refused calls of the Bot API are counted two times, by the bot's name; the handlers have failed."""
    with FakeTelegram("shop_bot") as telegram, FakeLLMServer() as llm:
        telegram.throttle(times=2, retry_after_s=1)
        async with run(telegram, llm, BotLog()):
            for number in range(3):
                telegram.write(chat_id=7, text=f"ask {number}")
            await wait_for(telegram, 1)
            assert await soon(lambda: len(updates(captured)) == 3)
    assert captured.value("genapp_bot_api_throttled_total", bot="shop_bot") == 2
    assert captured.value("genapp_bot_api_throttled_total") == 2
    assert captured.value("genapp_action_count_total", name="ask_handler", status="fail") == 2
    assert captured.value("genapp_errors_total") == 2


async def token_in_sinks(run: Running, folder: Path) -> dict[str, int]:
    """Sink -> how often the bot's token stands there, after answers, failures, refusals and an outage."""
    with collecting() as collector, FakeTelegram("shop_bot") as telegram, FakeLLMServer() as llm:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
        token = telegram.token
        with logged() as lines:
            telemetry = init_telemetry("bots", env="dev", internal_auth="letmein", state_dir=str(folder))
            try:
                async with run(telegram, llm, BotLog()):
                    for number in range(10):
                        telegram.write(chat_id=7, text=f"ask {number}")
                        telegram.write(chat_id=7, text=f"fail {telegram.base_url}{token}/getMe")
                    sent = await wait_for(telegram, 10)
                    telegram.react(sent[0], "👍")
                    telegram.press(sent[1], "👎")
                    telegram.throttle()
                    telegram.write(chat_id=7, text="ask 11")
                    await asyncio.to_thread(telegram.wait_until_read)
                    assert await soon(lambda: telegram.calls["sendMessage"] >= 11)
                    telegram.close()
                    assert await soon(lambda: any("rror" in line for line in lines))
                assert telemetry.flush(10)
                exposition = telemetry.exposition()[0]
                traces = telemetry.traces.recent(1000).traces
                kept = [telemetry.traces.by_correlation_id(trace.correlation_id) for trace in traces]
                status = str(telemetry.status())
            finally:
                otel_genapp.shutdown()
    sinks = {
        "otlp": b"".join(collector.bodies),
        "prometheus": exposition,
        "traces": repr(kept).encode(),
        "status": status.encode(),
        "logs": "\n".join(lines).encode(),
        "state": b"".join(files_in(folder).values()),
    }
    assert all(len(sink) > 300 for sink in sinks.values()), {name: len(sink) for name, sink in sinks.items()}
    assert b"process message ask_handler" in sinks["otlp"]
    assert b"process message ask_handler" in sinks["traces"]
    secret = token.partition(":")[2].encode()
    return {name: sink.count(secret) for name, sink in sinks.items()}
