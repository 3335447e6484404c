"""Everything under the name of a secret goes, honest numbers stay."""

from __future__ import annotations

import io
import json
import logging
from typing import Any
from uuid import UUID

import pytest

from otel_genapp.bootstrap.log_records import otlp_record
from otel_genapp.logs import JsonLines, RedactSecrets, redact_secrets
from otel_genapp.secrets import REDACTED

RANDOM = "Zk81qPw77xLm02Vb"

SECRETS: list[tuple[str, Any]] = [
    ("password", 48151623),
    ("password", 4815.1623),
    ("api_key", -7),
    ("password", {"value": "hunter2"}),
    ("password", {"old": {"value": 48151623}}),
    ("password", ["hunter2", 48151623]),
    ("password", ({"value": "x7?"},)),
    ("client_secret", {"x7?"}),
    ("password", b"hunter2"),
    ("bearer", "x7?"),
    ("session_key", "x7?"),
    ("pin", 1234),
    ("card_cvv", "123"),
    ("sms.otp", "481516"),
    ("pw", "x7?"),
]  # fmt: skip
HONEST: dict[str, Any] = {
    "total_tokens": 48151623, "max_tokens": 4096, "token_count": 812, "ai_tokens_used": 912, "tokens": [1, 2],
    "usage": {"total_tokens": 48151623, "input_token_count": 17}, "token": 481516, "secrets": 3, "password": None,
    "api_key": True, "credentials": {"user": "ann", "kind": "basic"}, "cookies": [], "passwords_seen": 12,
    "pin": True, "otp": False, "spin": 3, "mapping": {"a": "b"}, "shopping": "milk", "pinned": 7, "pin_count": 2,
    "bearer_count": 3,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SECRETS, ids=str)
def test_everything_under_a_secrets_name_goes(name: str, value: Any) -> None:
    """Numbers, mappings and lists under such a name are redacted in events, records and lines, at any depth."""
    said = {"event": "login", name: value, "deep": {"list": [{name: value}]}}
    clean = {"event": "login", name: REDACTED, "deep": {"list": [{name: REDACTED}]}}
    assert redact_secrets(None, "info", dict(said)) == clean
    record = logging.makeLogRecord({"msg": "login", name: value, "deep": said["deep"]})
    line = json.loads(JsonLines("shop", "prod").format(record))
    assert {key: line[key] for key in clean} == clean
    RedactSecrets().filter(record)
    assert (vars(record)[name], vars(record)["deep"]) == (REDACTED, clean["deep"])


def test_a_likely_name_hides_what_looks_random() -> None:
    """Under a name that may stand for something else only what looks like a secret goes, however deep."""
    event = redact_secrets(
        None, "info", {"event": "a", "token": {"kind": "bearer", "at": [{"value": RANDOM}], "n": 7}}
    )
    assert event["token"] == {"kind": "bearer", "at": [{"value": REDACTED}], "n": 7}


def test_honest_numbers_stay() -> None:
    """Counts of tokens, limits and what is empty are what they were."""
    assert redact_secrets(None, "info", {"event": "a", **HONEST}) == {"event": "a", **HONEST}


def test_named_arguments_are_redacted_and_still_fit() -> None:
    """A record whose named arguments hold a numeric secret is written without it, not lost."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(RedactSecrets())
    handler.handle(
        logging.makeLogRecord({"msg": "code %(password)d of %(n)d", "args": {"password": 48151623, "n": 2}})
    )
    assert written.getvalue() == f"code %(password)d of %(n)d {{'password': '{REDACTED}', 'n': 2}}\n"


NAMED = {"user": "ann", "password": {"value": "x7?"}, "at": [UUID(int=7)]}
SAID: list[tuple[Any, Any]] = [
    (NAMED, ()),
    ("%s", (NAMED,)),
    ("%s %s", (NAMED, 1)),
    ("%s %s", ([NAMED], (1, 2))),
]


@pytest.mark.parametrize(("msg", "args"), SAID)
def test_names_in_what_a_message_is_made_of_hide_their_values(msg: Any, args: Any) -> None:
    """A mapping that is the message, or among its arguments, is shown without what stands under a secret's name."""
    record = logging.LogRecord("shop", logging.INFO, "p.py", 1, msg, args, None)
    expected = record.getMessage().replace("{'value': 'x7?'}", f"'{REDACTED}'")
    assert "UUID('" in expected
    assert json.loads(JsonLines("shop", "prod").format(record))["event"] == expected
    assert otlp_record(record).body == expected
    RedactSecrets().filter(record)
    assert record.getMessage() == expected
