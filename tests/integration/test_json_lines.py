"""Everything that is logged as lines of JSON, in processes of its own: logging is configured there for good."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from uvicorn.config import LOGGING_CONFIG

from otel_genapp import bind
from otel_genapp.logs import configure_logging, log_message_processed
from otel_genapp.records import Message
from tests.canary import CANARIES, found_in
from tests.fresh import in_fresh_process

HEAD = [
    "timestamp", "level", "service", "env", "logger", "event", "user_id", "session_id", "correlation_id",
    "trace_id", "span_id",
]  # fmt: skip
SPAN = NonRecordingSpan(SpanContext(1, 7, is_remote=False, trace_flags=TraceFlags(1)))


def written_by(act: Any) -> list[dict[str, Any]]:
    """The lines that came of it; what was there before is there again afterwards."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogRecordFactory(), structlog.is_configured())
    stream = io.StringIO()
    configure_logging("other", stream=io.StringIO())
    undo = configure_logging("shop", "prod", stream=stream)
    act()
    undo()
    undo()
    assert before == (
        root.level,
        list(root.handlers),
        logging.getLogRecordFactory(),
        structlog.is_configured(),
    )
    text = stream.getvalue()
    assert text.count("\n") == len(text.splitlines())
    assert "\x1b" not in text
    return [json.loads(line) for line in text.splitlines()]


def log_by_both() -> list[list[dict[str, Any]]]:
    def act() -> None:
        with trace.use_span(SPAN), bind(correlation_id="c1", session_id="s1", user_id="u1"):
            extra = {"amount": 7, "level": "gold"}
            logging.getLogger("shop.orders").info("paid", extra=extra)
            structlog.get_logger("shop.orders").info("paid", **extra)
        structlog.get_logger("shop.orders").info("paid %s", "twice", name="bob", args=[1], session_id="mine")

    return [written_by(act)]


def log_odd_things() -> list[dict[str, Any]]:
    endless: dict[str, Any] = {}
    endless["self"] = endless

    def act() -> None:
        logger = logging.getLogger("odd")
        logger.warning("a\nforged\r\n\x1b[31m\u2028\x85 \ud800 привет")
        logger.warning("%d", "seven")
        logger.warning("n", extra={"nan": float("nan"), "set": {1}, "deep": {(1, 2): endless}})
        logger.warning({"a": object}, extra={"when": None})

    return written_by(act)


def log_secrets() -> tuple[str, int]:
    def act() -> None:
        for canary in CANARIES[:100]:
            hidden = canary.text
            for logger in (logging.getLogger("shop"), structlog.get_logger("shop")):
                try:
                    int(hidden)
                except ValueError:
                    logger.exception(f"a {hidden}")  # noqa: G004 - the message is to hold it
            structlog.get_logger("shop").info(
                "b", said=hidden, deep=[{"x": (hidden,)}], shown=hidden.encode()
            )

    lines = written_by(act)
    return json.dumps(lines, ensure_ascii=False), len(lines)


def log_by_uvicorn() -> list[dict[str, Any]]:
    logging.config.dictConfig(LOGGING_CONFIG)

    def act() -> None:
        logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[1mstarted"})
        logging.getLogger("uvicorn.access").info(
            '%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", "/x", "1.1", 200
        )

    found = written_by(act)
    assert [len(logging.getLogger(name).handlers) for name in ("uvicorn", "uvicorn.access")] == [1, 1]
    return found


def log_a_message() -> list[dict[str, Any]]:
    message = Message(id="m1", at_ns=1,
        platform="web", intent="refund", confidence=0.5, correlation_id="mine", session_id="s9", user_id="u9",
        trace_id="ab", span_id="cd",
    )  # fmt: skip

    def act() -> None:
        with trace.use_span(SPAN), bind(correlation_id="other", session_id="other"):
            log_message_processed(message, response_time_ms=12.5, tokens=None, cost_usd=0.25)

    return written_by(act)


def test_both_write_the_same_lines() -> None:
    """A record of logging and an event of structlog have the same keys and values, in the same order."""
    [[one, other, third]] = in_fresh_process(log_by_both)
    assert list(one) == [*HEAD, "amount", "level_"]
    assert list(other) == list(one)
    assert {**one, "timestamp": ""} == {**other, "timestamp": ""}
    ids = {
        "user_id": "u1",
        "session_id": "s1",
        "correlation_id": "c1",
        "trace_id": f"{1:032x}",
        "span_id": f"{7:016x}",
    }
    assert one == {
        "timestamp": one["timestamp"], "level": "info", "service": "shop", "env": "prod", "logger": "shop.orders",
        "event": "paid", **ids, "amount": 7, "level_": "gold",
    }  # fmt: skip
    assert (third["event"], third["name"], third["args"], third["session_id"]) == (
        "paid twice",
        "bob",
        [1],
        "mine",
    )
    assert third["trace_id"] is None


def test_odd_records_are_one_line_each() -> None:
    """Line ends, colours, wrong arguments, numbers JSON has not and endless values make one line each."""
    lines = in_fresh_process(log_odd_things)
    assert [line["event"] for line in lines[:3]] == [
        "a\nforged\r\n\x1b[31m\u2028\x85 \ufffd привет", "%d ('seven',)", "n",
    ]  # fmt: skip
    assert lines[2]["nan"] == "nan"
    assert len(lines) == 4


def test_no_secret_is_in_a_line() -> None:
    """Of 100 forms of secrets in messages, values and tracebacks none is written."""
    text, number = in_fresh_process(log_secrets, deadline_s=120)
    assert number == 300
    assert found_in(text) == []


def test_servers_lines_come_once() -> None:
    """What uvicorn logs is written like everything else, once, and its handlers come back."""
    lines = in_fresh_process(log_by_uvicorn)
    assert [line["event"] for line in lines] == ["started", '1.2.3.4:5 - "GET /x HTTP/1.1" 200']
    assert all(list(line) == HEAD for line in lines)


def test_a_processed_message() -> None:
    """The event has the message's own ids, and what it took; what is unknown is null."""
    [line] = in_fresh_process(log_a_message)
    del line["timestamp"]
    assert line == {
        "level": "info", "service": "shop", "env": "prod", "logger": "otel_genapp.messages",
        "event": "message_processed", "user_id": "u9", "session_id": "s9", "correlation_id": "mine", "trace_id": "ab",
        "span_id": "cd", "platform": "web", "intent": "refund", "confidence": 0.5, "response_time_ms": 12.5,
        "ai_tokens_used": None, "cost_usd": 0.25,
    }  # fmt: skip
