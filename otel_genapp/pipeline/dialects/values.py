"""Attribute values as what they are meant to be, or None: never a guess, never an exception.

Exporters and bridges write numbers as text, OTLP's JSON as `{"intValue": "3"}`, and structures as
JSON text, sometimes quoted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from otel_genapp import foreign_json
from otel_genapp.context import clean_id
from otel_genapp.records import whole_tokens

_SHORT_CHARS = 256
"""Plain text up to here is what `clean_id` makes of it."""
_TEXTS_LIMIT = 128
_JSON_LIMIT_CHARS = 64 * 1024
_DOLLAR_LIMIT = 1e6
_SECONDS_LIMIT = 1e9
_OTLP_NUMBERS = ("intValue", "doubleValue", "stringValue")


def text_in(value: object) -> str | None:
    """Text as an id or a name may be: clean and at most 256 characters; None for anything else."""
    if value is None or (type(value) is str and 0 < len(value) <= _SHORT_CHARS and value.isascii()):
        return value
    return clean_id(value) if isinstance(value, str) else None


def texts_in(value: object) -> tuple[str, ...]:
    """A list of texts, also where it is one text or JSON of a list."""
    if type(value) is tuple and len(value) <= _TEXTS_LIMIT:  # as the SDK keeps lists
        for item in value:
            if type(item) is not str or not 0 < len(item) <= _SHORT_CHARS or not item.isascii():
                break
        else:
            return value
    if isinstance(value, str):
        text = text_in(value)
        if text is None:
            return ()
        listed = json_in(value) if text.startswith("[") else None
        if not isinstance(listed, list):
            return (text,)
        value = listed
    elif not isinstance(value, Sequence):
        return ()
    texts = [text_in(item) for item in islice(value, _TEXTS_LIMIT)]
    return tuple([text for text in texts if text is not None])


def tokens_in(value: object) -> int | None:
    """A count of tokens, also where it is text or OTLP's JSON of a number."""
    tokens = whole_tokens(value)
    if tokens is not None:
        return tokens
    wrapped = json_in(value) if isinstance(value, str) and value.startswith("{") else value
    if isinstance(wrapped, Mapping) and len(wrapped) == 1:
        return next((whole_tokens(wrapped[name]) for name in _OTLP_NUMBERS if name in wrapped), None)
    return None


def milliseconds_in(seconds: object) -> float | None:
    """Seconds as milliseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return seconds * 1e3 if 0 <= seconds <= _SECONDS_LIMIT else None


def nano_usd_in(dollars: object) -> int | None:
    """US dollars as whole nano-dollars."""
    if isinstance(dollars, bool) or not isinstance(dollars, int | float):
        return None
    return round(dollars * 1e9) if 0 <= dollars <= _DOLLAR_LIMIT else None


def json_in(value: object) -> Any:
    """The structure in JSON text, or `value` where it is no text; None for what cannot be read.

    Longer text is prompts and answers: parsing those would cost the host's thread milliseconds.
    """
    for _ in range(2):
        if not isinstance(value, str):
            return value
        if len(value) > _JSON_LIMIT_CHARS:
            return None
        try:
            value = foreign_json.loads(value)
        except ValueError:
            return None
    return value
