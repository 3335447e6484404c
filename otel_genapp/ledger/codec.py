"""Records as bytes: what a journal holds. One line of JSON, the values in a fixed order after a version.

Written on the host's thread for every call, so it is the cheapest form that is exact: texts may
hold anything the application's do, lone surrogates included, and numbers keep every bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from otel_genapp.errors import GenappError
from otel_genapp.records import (
    ConversationRecord,
    Feedback,
    LLMAmendment,
    LLMCall,
    Message,
    Outcome,
    Record,
    Usage,
)

CALL, AMENDMENT, MESSAGE, FEEDBACK, OUTCOME = "c1", "a2", "m1", "f1", "o1"
"""Kind and version; a change of the fields of records makes a new one."""
_FIRST_AMENDMENT: Final = "a1"
"""As `AMENDMENT`, without the correlation id."""

_USAGE: Final = tuple(field.name for field in fields(Usage))
_CALL: Final = tuple(field.name for field in fields(LLMCall) if field.init and field.name != "usage")
_AMENDMENT: Final = tuple(field.name for field in fields(LLMAmendment) if field.name != "usage")
_CONVERSATION: Final[dict[str, type[ConversationRecord]]] = {
    MESSAGE: Message, FEEDBACK: Feedback, OUTCOME: Outcome,
}  # fmt: skip
_SAID: Final = {kind: tuple(field.name for field in fields(made)) for kind, made in _CONVERSATION.items()}
_KIND: Final = {made: kind for kind, made in _CONVERSATION.items()}
_said_of: Final = {kind: attrgetter(*names) for kind, names in _SAID.items()}
_NUMBERS: Final = frozenset({"confidence", "response_time_ms", "csat", "nps", "quality"})
_FLAGS: Final = frozenset({"resolved", "escalated", "converted", "abandoned", "intent_correct", "critical"})
_NEEDED: Final = frozenset({"call_id", "status", "model", "id", "critical"})
_TUPLES: Final = frozenset({"tool_names", "finish_reasons", "attempts", "words"})
_WHOLE: Final = frozenset({"started_at_ns", "at_ns", "seq", "tool_calls"})

_usage_of = attrgetter(*_USAGE)
_call_of = attrgetter(*_CALL)
_amendment_of = attrgetter(*_AMENDMENT)


def _make_encoder() -> Callable[[Any], str]:
    """JSON of lists, texts and numbers. The public way builds the C encoder anew for every value."""
    plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)
    try:
        encode_in_c = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None, plain.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
        )
        if "".join(encode_in_c(("a", [1, None, 0.5]), 0)) == '["a",[1,null,0.5]]':
            return lambda value: "".join(encode_in_c(value, 0))
    except (AttributeError, TypeError):  # another Python than CPython, or one where it has changed
        pass
    return plain.encode


_encoded = _make_encoder()


class DecodeError(GenappError, ValueError):
    """The bytes are no record that this version can read; the message says why."""


def encode(record: Record) -> bytes:
    """The bytes of a record: ASCII, without line breaks."""
    if isinstance(record, LLMCall):
        return _encoded((CALL, _usage_of(record.usage), _call_of(record))).encode("ascii")
    if not isinstance(record, LLMAmendment):
        kind = _KIND[type(record)]
        return _encoded((kind, _said_of[kind](record))).encode("ascii")
    return _encoded((AMENDMENT, _usage_of(record.usage), _amendment_of(record))).encode("ascii")


def decode(data: bytes) -> Record:
    """The record `encode` made these bytes of.

    Raises:
        DecodeError: they are not what this version writes: a newer one's, or damaged.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"no record: {error}") from None
    if not isinstance(said, list) or not said:
        raise DecodeError("no record: not a list")
    if said[0] == CALL:
        return LLMCall(**_values(said, _CALL))
    if said[0] == AMENDMENT:
        return LLMAmendment(**_values(said, _AMENDMENT))
    if said[0] == _FIRST_AMENDMENT:
        return LLMAmendment(**_values(said, _AMENDMENT[:-1]))
    if isinstance(said[0], str) and said[0] in _CONVERSATION:
        return _CONVERSATION[said[0]](**_facts(said, _SAID[said[0]]))
    raise DecodeError(f"a record of the kind {str(said[0])[:16]!r}, which this version does not know")


def _values(said: list[Any], names: tuple[str, ...]) -> dict[str, Any]:
    if len(said) != 3 or not isinstance(said[1], list) or not isinstance(said[2], list):
        raise DecodeError("a record with other parts than this version knows")
    usage, values = said[1], said[2]
    if len(usage) != len(_USAGE) or len(values) != len(names):
        raise DecodeError("a record with other fields than this version knows")
    if not all(tokens is None or _is_whole(tokens) for tokens in usage):
        raise DecodeError("a record with tokens that are no numbers")
    found: dict[str, Any] = {"usage": Usage(*usage)}
    for name, value in zip(names, values, strict=True):
        found[name] = _checked(name, value)
    return found


def _facts(said: list[Any], names: tuple[str, ...]) -> dict[str, Any]:
    if len(said) != 2 or not isinstance(said[1], list) or len(said[1]) != len(names):
        raise DecodeError("a record with other fields than this version knows")
    return {name: _checked(name, value) for name, value in zip(names, said[1], strict=True)}


def _checked(name: str, value: Any) -> Any:
    if name in _TUPLES:
        return tuple(_all(value, _is_text, name=name))
    if name == "priced_parts":
        return tuple(tuple(part) for part in _all(value, _is_part, name=name))
    if value is None:
        is_right = name not in _NEEDED and name not in _WHOLE and name != "duration_ms"
    elif name == "duration_ms" or name in _NUMBERS or name == "first_token_ms":
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
    elif name in _WHOLE or name == "cost_nano_usd":
        is_right = _is_whole(value)
    elif name in _FLAGS:
        is_right = isinstance(value, bool)
    else:
        is_right = isinstance(value, str)
    if not is_right:
        raise DecodeError(f"a record whose {name} is {type(value).__name__}")
    return value


def _all(values: Any, is_right: Callable[[Any], bool], *, name: str) -> list[Any]:
    if not isinstance(values, list) or not all(is_right(value) for value in values):
        raise DecodeError(f"a record whose {name} is no list of what belongs there")
    return values


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_part(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_text(value[0]) and _is_whole(value[1])
