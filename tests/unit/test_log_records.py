"""What a record of `logging` is over OTLP: encodable whatever it holds, clean, and never larger than it may be."""

from __future__ import annotations

import json
import logging
import math
import time
import tracemalloc
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_genapp.bootstrap.log_records import RECORD_CHARS, TEXT_CHARS, otlp_record, weight_of_record
from otel_genapp.pipeline.redact import CUT_MARK
from otel_genapp.secrets import REDACTED
from tests.canary import CANARIES, SECRETS, Canary, found_in
from tests.conftest import OwnError

LONE = "a\ud800b"
WHOLE = "a\ufffdb"
RESOURCE, LIMITS = Resource({}), LogRecordLimits()


class Mute:
    """What cannot be shown."""

    def __repr__(self) -> str:
        raise LookupError("planted")


def a_record(**fields: Any) -> logging.LogRecord:
    plain = {"name": "shop", "levelno": logging.INFO, "levelname": "INFO", "msg": "hello", "pathname": "p.py"}
    return logging.makeLogRecord({**plain, **fields})


def raised(error: Exception) -> Any:
    """What `exc_info` is while `error` is handled."""
    try:
        raise error
    except type(error):
        return (type(error), error, error.__traceback__)


def sent(record: logging.LogRecord) -> Any:
    """The record as a collector reads it."""
    found = ReadableLogRecord(log_record=otlp_record(record), resource=RESOURCE)
    request = type(encode_logs([found])).FromString(encode_logs([found]).SerializeToString())
    return request.resource_logs[0].scope_logs[0].log_records[0]


def values_of(record: Any) -> dict[str, Any]:
    found = {}
    for pair in record.attributes:
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return found


def own_values(**extra: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in values_of(sent(a_record(**extra))).items()
        if not name.startswith("code.")
    }


def test_lone_surrogates_are_replaced_everywhere() -> None:
    """U+FFFD stands for them in the body, in names and values, in paths, levels and exceptions."""
    record = a_record(
        msg=f"{LONE} %s", args=(LONE,), levelname=LONE, pathname=LONE, funcName=LONE, session_id=LONE
    )
    record.exc_info = raised(ValueError(LONE))
    vars(record).update({f"x{LONE}": LONE, "deep": {LONE: [LONE]}})
    found = sent(record)
    values = values_of(found)
    assert (found.body.string_value, found.severity_text) == (f"{WHOLE} {WHOLE}", WHOLE)
    assert {name: values[name] for name in ("code.file.path", "code.function.name", "session.id", f"x{WHOLE}")} == {
        "code.file.path": WHOLE, "code.function.name": WHOLE, "session.id": WHOLE, f"x{WHOLE}": WHOLE,
    }  # fmt: skip
    assert json.loads(values["deep"]) == {WHOLE: [WHOLE]}
    assert values["exception.message"] == WHOLE
    assert f"ValueError: {WHOLE}" in values["exception.stacktrace"]


@pytest.mark.parametrize("canary", CANARIES[:50], ids=lambda canary: canary.form)
def test_no_secret_is_in_an_exception(canary: Canary) -> None:
    """No form of secret is in the message of an exception, those of URLs neither."""
    record = a_record(exc_info=raised(ValueError(f"bad {canary.text} at https://h/x?q={canary.text}")))
    assert found_in(repr(values_of(sent(record)))) == []


def test_an_exceptions_message_has_no_query() -> None:
    """URLs in it are cleaned as they are everywhere."""
    record = a_record(exc_info=raised(ValueError("no answer of https://h/x?id=7&name=ann (404)")))
    assert values_of(sent(record))["exception.message"] == "no answer of https://h/x (404)"


def test_arguments_that_do_not_fit_are_kept() -> None:
    """The message and its arguments are sent as they were given, without a numeric secret among them."""
    assert sent(a_record(msg="%d", args=("a",))).body.string_value == "%d ('a',)"
    named = sent(a_record(msg="%(password)d", args={"password": 48151623}))
    assert named.body.string_value == f"%(password)d {{'password': '{REDACTED}'}}"


@pytest.mark.expected_own_errors
def test_what_cannot_be_shown_hides_nothing_else(own_errors: list[OwnError]) -> None:
    """Of message and values only those whose repr fails are missing."""
    record = a_record(msg="a %s", args=(Mute(),), it=Mute(), n=1)
    found = sent(record)
    assert found.body.string_value == "a %s (<Mute>,)"
    assert (values_of(found)["it"], values_of(found)["n"]) == ("<Mute>", 1)
    assert {own.site for own in own_errors} == {"context"}


@pytest.mark.parametrize("created", [math.nan, math.inf, 1e300, -1.0, 1e11, "soon"])
def test_any_time_is_a_time(created: Any) -> None:
    """A record whose time cannot be sent has the time it is."""
    before_ns = time.time_ns()
    assert before_ns <= sent(a_record(created=created)).time_unix_nano <= time.time_ns()


@pytest.mark.parametrize("ids", [("f" * 40, "1"), ("1", "f" * 20), ("-1", "1"), ("x", "y"), (7, None)])
def test_ids_of_the_applications_own(ids: tuple[Any, Any]) -> None:
    """Ids that are none of a trace's are left out, and the record is sent."""
    found = sent(a_record(trace_id=ids[0], span_id=ids[1]))
    assert (found.body.string_value, len(found.span_id)) == ("hello", 0)


@pytest.mark.expected_own_errors
def test_numbers_of_any_size() -> None:
    """What is too large for OTLP is text."""
    values = own_values(large=2**64, huge=10**5000, nan=math.nan, deep=[10**5000])
    assert (values["large"], values["huge"]) == (str(2**64), "<int>")
    assert math.isnan(values["nan"])
    assert values["deep"]


LONG = "word " * 400_000


def test_long_texts_are_cut() -> None:
    """Message, arguments, values and exceptions end after 32 KiB, and say so."""
    failure = raised(ValueError(LONG))
    record = a_record(msg="%s and %(x)s", said=LONG, exc_info=failure)
    record.msg, record.args = "%s!", (LONG,)
    values = values_of(sent(record))
    texts = [
        sent(record).body.string_value,
        values["said"],
        values["exception.message"],
        values["exception.stacktrace"],
    ]
    assert [(len(text), text.endswith(CUT_MARK)) for text in texts] == [
        (TEXT_CHARS + len(CUT_MARK), True)
    ] * 4


def test_long_values_are_cut_wherever_they_are() -> None:
    """Lists, mappings, objects and arguments by name are read as far as they are sent."""
    deep = {"messages": [{"content": LONG}] * 3}
    record = a_record(
        msg="%(deep)s", args=({"deep": deep},), deep=deep, many=list(range(10**6)), raw=LONG.encode()
    )
    found = sent(record)
    sizes = [len(found.body.string_value), *(len(values_of(found)[name]) for name in ("deep", "many", "raw"))]
    assert max(sizes) <= TEXT_CHARS + len(CUT_MARK)
    assert min(sizes) > TEXT_CHARS // 2
    assert all(
        CUT_MARK in text
        for text in (found.body.string_value, values_of(found)["deep"], values_of(found)["raw"])
    )


def test_a_record_has_a_size() -> None:
    """However many values there are, a record is not larger than a few long texts."""
    record = a_record(msg=LONG, **{f"v{number}": LONG for number in range(50)})
    assert RECORD_CHARS < sent(record).ByteSize() < 2 * RECORD_CHARS


def test_cutting_shows_no_half_of_a_secret() -> None:
    """A secret on the border of what is sent is gone as a whole."""
    secret = SECRETS[0]
    for inside in range(1, len(secret), 5):
        text = "x" * (TEXT_CHARS - inside - 1) + " " + secret + " end" * 100
        assert secret[:8] not in sent(a_record(msg=text)).body.string_value


def test_long_texts_take_no_time() -> None:
    """The caller's time does not grow with the length of what it logs."""
    huge = "word " * 4_000_000
    record = a_record(msg=huge, said=huge, deep=[huge])
    began_s = time.perf_counter()
    otlp_record(record)
    assert time.perf_counter() - began_s < 1.0


@pytest.mark.parametrize(("number", "length"), [(0, 20), (5, 50), (30, 300), (1, 30_000)])
def test_weight_is_near_the_truth(number: int, length: int) -> None:
    """What a queue of records is said to cost is what it costs, give or take a half."""
    tracemalloc.start()
    made = [
        queued(f"{at}".ljust(length), **{f"k{n}": f"{at} {n}".ljust(length) for n in range(number)})
        for at in range(100)
    ]
    real, said = tracemalloc.get_traced_memory()[0], sum(weight_of_record(one.log_record) for one in made)
    tracemalloc.stop()
    assert 0.5 <= said / real <= 2.0, said / real


def queued(msg: str, **extra: Any) -> ReadableLogRecord:
    """A record as it waits in the queue."""
    scope = InstrumentationScope("shop")
    limited = ReadWriteLogRecord(otlp_record(a_record(msg=msg, **extra)), RESOURCE, scope, LIMITS)
    return ReadableLogRecord(limited.log_record, RESOURCE, scope, LIMITS)
