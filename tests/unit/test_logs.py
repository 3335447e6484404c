from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from uvicorn.logging import AccessFormatter

from otel_genapp.context import bind
from otel_genapp.logs import RedactSecrets, add_context, install_logging, redact_secrets
from otel_genapp.secrets import REDACTED
from tests.canary import CANARIES, HEX_KEYS, SECRETS, Canary, found_in
from tests.conftest import OwnError
from tests.fakes import WireServer

SECRET = SECRETS[0]
TRACE_HEX = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = NonRecordingSpan(SpanContext(int(TRACE_HEX, 16), 7, is_remote=False, trace_flags=TraceFlags(1)))
IDS = {"correlation_id": "order-1", "session_id": "s1", "trace_id": TRACE_HEX, "span_id": "0000000000000007"}
NO_IDS = dict.fromkeys(IDS, "")


@pytest.fixture
def installed() -> Iterator[Callable[[], None]]:
    """Logging as `init_telemetry` installs it, taken back afterwards."""
    undo = install_logging()
    yield undo
    undo()


def events(*processors: Any) -> tuple[Any, io.StringIO]:
    """A structlog logger through these processors to JSON, and what it wrote."""
    written = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(written), processors=[*processors, structlog.processors.JSONRenderer()]
    )
    return logger, written


def said_by(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in IDS}


def a_record(**fields: Any) -> logging.LogRecord:
    plain = {"name": "shop", "levelno": logging.INFO, "levelname": "INFO", "msg": "hello", "args": ()}
    return logging.makeLogRecord({**plain, **fields})


def failed_with(text: str) -> ValueError:
    """An exception that was raised and caught."""
    try:
        int(text)
    except ValueError as error:
        return error
    raise AssertionError(text)


def through_filter(record: logging.LogRecord) -> str:
    """What a handler with the filter on it writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(RedactSecrets())
    handler.handle(record)
    return written.getvalue()


def test_events_carry_the_ids_in_force() -> None:
    """Inside a span and a `bind` an event has all four ids, outside it has none."""
    logger, written = events(add_context)
    logger.info("before")
    with trace.use_span(SPAN), bind(correlation_id="order-1", session_id="s1"):
        logger.info("inside", n=1)
    with bind(session_id="s1"):
        logger.info("session only")
    assert [json.loads(line) for line in written.getvalue().splitlines()] == [
        {"event": "before"},
        {"event": "inside", "n": 1, **IDS},
        {"event": "session only", "session_id": "s1"},
    ]


def test_what_an_event_says_itself_is_kept() -> None:
    """An id given to the event wins over the one in force; the trace id stands in for a correlation id."""
    with trace.use_span(SPAN), bind(session_id="s1"):
        event = add_context(None, "info", {"event": "a", "session_id": "mine"})
    assert event == {"event": "a", **IDS, "session_id": "mine", "correlation_id": TRACE_HEX}


@pytest.mark.parametrize("canary", CANARIES[:50], ids=lambda canary: canary.form)
def test_no_secret_passes_structlog(canary: Canary) -> None:
    """No form of secret is in the rendered event, wherever the event had it."""
    logger, written = events(structlog.processors.format_exc_info, redact_secrets)
    text = canary.text
    said = f"failed {text}"
    failure = failed_with(f"bad {text}")
    logger.error(
        said, url=f"https://h/x?a={text}", deep={"list": [("x", {text: f"a {text}"})]},
        raw=f"a {text}".encode(), kept=failure, shown=SimpleNamespace(said=text), exc_info=failure,
    )  # fmt: skip
    assert found_in(written.getvalue()) == []
    assert json.loads(written.getvalue())["exception"].startswith("Traceback")


def test_names_hide_their_values_and_the_rest_stays() -> None:
    """Values beside telling names go, ids keep their hexadecimal, and clean values keep their identity."""
    clean = {"list": [1, "a"], "pair": ("a", 2)}
    event = redact_secrets(None, "info", {
        "event": "login", "password": "x7?", "headers": {"X-Api-Key": "x7?", "accept": "*/*"}, "token": "world",
        "trace_id": TRACE_HEX, "key": HEX_KEYS[0], "n": 7, "nothing": None, "clean": clean, "pair": ("a", SECRET),
    })  # fmt: skip
    assert event == {
        "event": "login", "password": REDACTED, "headers": {"X-Api-Key": REDACTED, "accept": "*/*"}, "token": "world",
        "trace_id": TRACE_HEX, "key": REDACTED, "n": 7, "nothing": None, "clean": clean, "pair": ("a", REDACTED),
    }  # fmt: skip
    assert event["clean"] is clean


def test_nesting_has_a_bottom() -> None:
    """An event that holds itself is cut off, not followed for ever."""
    endless: dict[str, Any] = {"n": 1}
    endless["self"] = endless
    event = redact_secrets(None, "info", {"event": "a", "body": endless})
    assert json.dumps(event).count(REDACTED) == 1


@pytest.mark.expected_own_errors
def test_what_cannot_be_cleaned_is_not_shown(own_errors: list[OwnError]) -> None:
    """A value that cannot be read hides the event, one whose repr fails itself; both are counted, and raise nothing."""

    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("planted")

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("planted")

    event = redact_secrets(None, "info", {"event": f"a {SECRET}", "mute": Mute()})
    assert event == {"event": f"a {REDACTED}", "mute": "<Mute>"}
    event = redact_secrets(None, "info", {"event": f"a {SECRET}", "broken": Broken(a=1)})
    record = a_record(msg=f"a {SECRET}", extra_field=Broken(a=1), args=None)
    assert event == {"event": REDACTED}
    assert through_filter(record) == f"{REDACTED}\n"
    assert [own.site for own in own_errors] == ["context", "context", "context"]


def test_records_carry_the_ids_in_force(
    installed: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Every record has the four attributes, empty where there is nothing, and formats can use them."""
    logging.getLogger("shop").warning("outside")
    with trace.use_span(SPAN), bind(correlation_id="order-1", session_id="s1"):
        logging.getLogger("shop").warning("inside %d", 1)
    outside, inside = caplog.records
    assert (said_by(outside), said_by(inside)) == (NO_IDS, IDS)
    form = logging.Formatter("%(message)s [%(correlation_id)s %(session_id)s %(trace_id)s %(span_id)s]")
    assert form.format(inside) == f"inside 1 [order-1 s1 {TRACE_HEX} 0000000000000007]"
    brace = logging.Formatter("{message} {session_id}", style="{")
    assert (brace.format(inside), brace.format(outside)) == ("inside 1 s1", "outside ")


def test_an_application_may_use_the_names(
    installed: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """`extra` with our names is no error and wins, as it would without us."""
    with bind(session_id="s1"):
        logging.getLogger("shop").warning("a", extra={"session_id": "mine", "trace_id": "t"})
    [record] = caplog.records
    assert said_by(record) == {**NO_IDS, "session_id": "mine", "trace_id": "t"}
    taken = {"message": "b"}
    with pytest.raises(KeyError, match="overwrite 'message'"):
        logging.getLogger("shop").warning("a", extra=taken)


def test_records_travel(installed: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """A record can be copied, and pickled for a process that has never heard of this package."""
    with bind(session_id="s1"):
        logging.getLogger("shop").warning("a")
    [record] = caplog.records
    pickled = pickle.dumps(record)
    assert b"otel_genapp" not in pickled
    for twin in (copy.copy(record), pickle.loads(pickled)):  # noqa: S301 - our own bytes
        assert vars(twin) == vars(record)
        assert said_by(twin)["session_id"] == "s1"


def test_taking_it_back() -> None:
    """Undo puts the factory and the filters back as they were, once and again."""
    before = logging.getLogRecordFactory()
    filters = {name: list(logging.getLogger(name).filters) for name in ("httpx", "httpx2")}
    undo = install_logging()
    assert logging.getLogRecordFactory() is not before
    undo()
    undo()
    assert logging.getLogRecordFactory() is before
    assert {name: list(logging.getLogger(name).filters) for name in filters} == filters


def test_taking_it_back_from_below(caplog: pytest.LogCaptureFixture) -> None:
    """With a factory of somebody else's on top undo leaves that one, and ours passes records through."""
    before = logging.getLogRecordFactory()
    undo = install_logging()
    ours = logging.getLogRecordFactory()

    def theirs(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = ours(*args, **kwargs)
        record.theirs = True
        return record

    logging.setLogRecordFactory(theirs)
    try:
        logging.getLogger("shop").warning("with")
        undo()
        assert logging.getLogRecordFactory() is theirs
        logging.getLogger("shop").warning("without")
    finally:
        logging.setLogRecordFactory(before)
    seen = [(vars(record)["theirs"], hasattr(record, "session_id")) for record in caplog.records]
    assert seen == [(True, True), (True, False)]


def test_installing_twice_and_taking_back_in_any_order() -> None:
    """Two installations leave nothing behind, whichever ends first."""
    before = logging.getLogRecordFactory()
    for order in ((0, 1), (1, 0)):
        undos = [install_logging(), install_logging()]
        for position in order:
            undos[position]()
        assert logging.getLogRecordFactory() is before


def test_a_factory_before_ours_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """What an earlier factory puts on records stays, our names included."""
    before = logging.getLogRecordFactory()

    def earlier(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.session_id = "theirs"
        return record

    logging.setLogRecordFactory(earlier)
    undo = install_logging()
    try:
        with bind(session_id="s1", correlation_id="order-1"):
            logging.getLogger("shop").warning("a")
    finally:
        undo()
        assert logging.getLogRecordFactory() is earlier
        logging.setLogRecordFactory(before)
    [record] = caplog.records
    assert said_by(record) == {**NO_IDS, "session_id": "theirs", "correlation_id": "order-1"}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_http_libraries_log_clean_urls(
    library: str, installed: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The line each client logs for a request has no query, user or path secret; after undo it is theirs again."""
    client = importlib.import_module(library)
    caplog.set_level(logging.INFO, library)
    with WireServer() as server:
        url = server.url("/ok?key=topsecret").replace("://", "://user:hidden@")
        with client.Client() as session:
            session.get(url)
            installed()
            session.get(url)
    clean, raw = [record.getMessage() for record in caplog.records if record.name == library]
    assert clean.startswith(f'HTTP Request: GET {server.url("/ok")} "HTTP/1.1 200 ')
    assert "topsecret" in raw


@pytest.mark.parametrize("canary", CANARIES[:50], ids=lambda canary: canary.form)
def test_no_secret_passes_the_filter(canary: Canary) -> None:
    """No form of secret is written, wherever the record had it."""
    text = canary.text
    failure = failed_with(f"bad {text}")
    records = [
        a_record(msg=f"a {text} b"),
        a_record(msg="a %s b %d", args=(text, 7)),
        a_record(msg="a %(said)s", args={"said": text}),
        a_record(msg="a %s", args=(ValueError(text),)),
        a_record(msg=ValueError(text)),
        a_record(exc_info=(ValueError, failure, failure.__traceback__)),
        a_record(exc_text=f"Traceback\n{text}"),
        a_record(stack_info=f"Stack\n{text}"),
    ]
    written = "".join(through_filter(record) for record in records)
    extra = a_record(said=f"a {text}", nested={"list": [text]})
    through_filter(extra)
    assert found_in(written + repr(vars(extra))) == []
    assert written.count("ValueError: invalid literal") == 1


def test_the_filter_leaves_clean_records_alone() -> None:
    """A clean record keeps message, arguments, exception and extras, and wrong arguments are logging's to report."""
    failure = failed_with("fine")
    record = a_record(
        msg="took %d ms by %s",
        args=(7, "ann"),
        exc_info=(ValueError, failure, failure.__traceback__),
        session_id=TRACE_HEX,
        n=[1],
    )
    before = dict(vars(record))
    assert RedactSecrets().filter(record)
    assert vars(record) == before
    assert RedactSecrets().filter(a_record(msg="%d", args=("seven",)))


def test_access_lines_keep_their_arguments() -> None:
    """The formatter of uvicorn unpacks the arguments of its access line: only the secret in them is replaced."""
    record = a_record(
        name="uvicorn.access", msg='%s - "%s %s HTTP/%s" %d', args=("1.2.3.4:5", "GET", f"/x?key={SECRET}", "1.1", 200)
    )  # fmt: skip
    RedactSecrets().filter(record)
    assert record.args == ("1.2.3.4:5", "GET", f"/x?key={REDACTED}", "1.1", 200)
    form = AccessFormatter('%(client_addr)s "%(request_line)s" %(status_code)s', use_colors=False)
    assert form.format(record) == f'1.2.3.4:5 "GET /x?key={REDACTED} HTTP/1.1" 200 OK'


def test_a_secret_told_by_the_message_goes() -> None:
    """An argument that only the message makes a secret is replaced in the formatted message."""
    assert (
        through_filter(a_record(msg="password=%s for %s", args=("x7?", "ann")))
        == f"password={REDACTED} for ann\n"
    )
