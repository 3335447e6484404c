"""Lines of JSON and structlog's events: whatever is logged is written, and nothing raises into whoever logs it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from otel_genapp.logs import JsonLines, configure_logging
from tests.conftest import OwnError


class Mute:
    """What cannot be shown."""

    def __repr__(self) -> str:
        raise LookupError("planted")


class Chatty:
    """Logs itself while it is shown."""

    shown = 0

    def __repr__(self) -> str:
        self.shown += 1
        logging.getLogger("chatty").warning("shown", extra={"me": self})
        return "<a chatty one>"


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    found = json.loads(JsonLines("shop", "prod").format(record))
    assert isinstance(found, dict)
    return found


def a_record(**fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": "hello", **fields})


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was written since `configure_logging`, which is taken back afterwards."""
    written = io.StringIO()
    before = structlog.get_config() if structlog.is_configured() else None
    undo = configure_logging("shop", "prod", stream=written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    undo()
    assert (structlog.get_config() if structlog.is_configured() else None) == before


@pytest.mark.parametrize("created", [math.nan, math.inf, -math.inf, 1e300, -1e300, "soon", None])
def test_any_time_is_a_time(created: Any) -> None:
    """A record whose time is none is written with the time it is."""
    line = line_of(a_record(created=created))
    assert (line["event"], line["timestamp"][:2], line["timestamp"][-1]) == ("hello", "20", "Z")


def test_arguments_that_do_not_fit_are_kept() -> None:
    """The message and its arguments are written as they were given."""
    said = [
        ("%d", ("a",)),
        ("%s %s", (1, "b")),
        ("%(a)d", {"a": "b"}),
        ("%(b)s", {"a": 1}),
        ("%s", (1, 2)),
        ("%!", (1,)),
    ]
    lines = [line_of(a_record(msg=msg, args=args))["event"] for msg, args in said]
    assert lines == ["%d ('a',)", "1 b", "%(a)d {'a': 'b'}", "%(b)s {'a': 1}", "%s (1, 2)", "%! (1,)"]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_half_a_character_is_replaced(ascii_only: bool) -> None:
    """Strict readers take every line: U+FFFD stands for a lone surrogate, and all else is as it was."""
    error = (ValueError, ValueError("\udfff!"), None)
    half = {"a\udc00": ["\ud800", {"\udbff": "x\ud800y"}], "odd": {("\ud800",): 1}}
    whole = {"pair": "\ud83d\ude00 \U0001f600", "text": r"\ud800 \\udc00", "word": "привет\u2028"}
    record = a_record(msg="lone \ud800\ud800\udc00", name="shop\ud800", exc_info=error, **half, **whole)
    text = JsonLines("shop", "prod", ascii_only=ascii_only).format(record)
    text.encode("ascii" if ascii_only else "utf-8")
    line = json.loads(text)
    json.dumps(line, ensure_ascii=False).encode()
    assert (line["event"], line["logger"]) == ("lone \ufffd\U00010000", "shop\ufffd")
    assert (line["a\ufffd"], list(line["odd"].values())) == (["\ufffd", {"\ufffd": "x\ufffdy"}], [1])
    assert line["exception"].endswith("ValueError: \ufffd!")
    assert {name: line[name] for name in whole} == {**whole, "pair": "\U0001f600 \U0001f600"}


@pytest.mark.expected_own_errors
def test_what_cannot_be_shown_hides_nothing_else(own_errors: list[OwnError]) -> None:
    """Of a message, its arguments and values only those whose repr fails are missing."""
    records = [
        a_record(msg="a %s %s", args=("b", Mute())),
        a_record(msg=Mute()),
        a_record(extra=Mute(), deep={"list": [Mute(), 1]}),
    ]
    lines = [line_of(record) for record in records]
    assert [line["event"] for line in lines] == ["a %s %s ('b', <Mute>)", "<Mute>", "hello"]
    assert (lines[2]["extra"], lines[2]["deep"]) == ("<Mute>", {"list": ["<Mute>", 1]})
    assert {own.site for own in own_errors} == {"context"}


@pytest.mark.expected_own_errors
def test_structlog_never_raises(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Wrong arguments, failing texts and odd keywords of structlog are lines, not errors of the application."""
    log = structlog.get_logger("shop")
    log.info("x %d", "a")
    log.info("x %d", 1)
    log.info("x %(a)s", {"a": 2})
    log.info("100 %")
    log.info("x %s", Mute(), n=1)
    log.info(Mute(), n=Mute())
    log.info("x", positional_args=3, stacklevel="high")
    written = [line for line in lines() if line["logger"] == "shop"]
    said = [line["event"] for line in written]
    assert said == ["x %d ('a',)", "x 1", "x 2", "100 %", "x %s (<Mute>,)", "<Mute>", "x"]
    assert [written[at].get("n") for at in (4, 5)] == [1, "<Mute>"]
    assert (written[6]["positional_args"], written[6]["stacklevel"]) == (3, "high")


def test_structlog_has_all_its_methods(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """What structlog's own default logger can do works on."""
    log = structlog.get_logger("shop")
    default = structlog.make_filtering_bound_logger(logging.INFO)
    assert [name for name in dir(default) if not hasattr(log.bind(), name)] == []
    log.msg("one", n=1)
    log.bind(a=2).msg("two %s", "more")

    async def act() -> None:
        await log.amsg("three")
        await log.awarn("four", n=4)

    asyncio.run(act())
    assert (log.is_enabled_for(logging.DEBUG), log.get_effective_level()) == (False, logging.INFO)
    written = [line for line in lines() if line["logger"] == "shop"]
    assert [(line["event"], line["level"]) for line in written] == [
        ("one", "info"), ("two more", "info"), ("three", "info"), ("four", "warning"),
    ]  # fmt: skip
    assert [written[at].get(name) for at, name in ((0, "n"), (1, "a"), (3, "n"))] == [1, 2, 4]


def test_a_value_that_logs_itself_comes_to_an_end(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A repr that logs the same object again is not followed for ever, and each record is written."""
    chatty = Chatty()
    logging.getLogger("shop").warning("hello", extra={"me": chatty})
    said = [line["event"] for line in lines()]
    assert said[-1] == "hello"
    assert chatty.shown == len(said) - 1 < 100


class Waiting:
    """Waits, while it is shown, for another thread that logs."""

    def __init__(self) -> None:
        self.waited_in_vain = False

    def __repr__(self) -> str:
        other = threading.Thread(target=logging.getLogger("other").warning, args=("meanwhile",), daemon=True)
        other.start()
        other.join(5)
        self.waited_in_vain = other.is_alive()
        return "<waiting>"


def test_nothing_is_shown_under_the_lock(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A repr that waits for another thread's record does not wait for ever."""
    waiting = Waiting()
    logging.getLogger("shop").warning("hello", extra={"it": waiting})
    assert not waiting.waited_in_vain
    assert {line["event"] for line in lines()} == {"hello", "meanwhile"}


def test_the_handler_is_like_others(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Its filters and its level hold."""
    [ours] = [one for one in logging.getLogger().handlers if isinstance(one.formatter, JsonLines)]
    ours.addFilter(lambda record: record.msg != "unwanted")
    for msg in ("unwanted", "wanted"):
        logging.getLogger("shop").warning(msg)
    ours.setLevel("ERROR")
    logging.getLogger("shop").warning("too low")
    assert [line["event"] for line in lines()] == ["wanted"]


def test_a_stream_that_fails_is_no_leak(capsys: pytest.CaptureFixture[str]) -> None:
    """What logging reports of a line that could not be written is the line, without its secret."""
    stream, secret = io.StringIO(), "hunter" + str(2)  # its report quotes this file
    stream.close()
    undo = configure_logging("shop", "prod", stream=stream)
    try:
        logging.getLogger("shop").warning("password=%s", secret)
    finally:
        undo()
    reported = capsys.readouterr().err
    assert "I/O operation on closed file" in reported
    assert ("[REDACTED]" in reported, "hunter2" in reported) == (True, False)
