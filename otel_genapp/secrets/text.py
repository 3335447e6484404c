"""Text without secrets: every form, one after the other."""

from __future__ import annotations

import re
from urllib.parse import unquote

from otel_genapp.secrets.keys import without_hex, without_keys
from otel_genapp.secrets.neighbours import kind_of_name, without_neighbours
from otel_genapp.secrets.values import REDACTED, is_random, is_value

_ID = re.compile(r"[0-9A-Fa-f-]{1,64}")
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_ENCODED = re.compile(r"[^\s\"'<>&?/=,;]{12,}+")
_READ_ON = 8
"""How much of a text is read for its beginning, in beginnings."""
_PASSES = 3
"""Replacing one secret can complete the form of another: then the text is gone over again."""


def looks_secret(text: str) -> bool:
    """Whether `text` holds a known form of secret: keys, tokens, passwords beside a name or in a URL.

    Bare hexadecimal says nothing here, so that trace ids and UUIDs pass; `without_secrets` takes it.
    """
    return _ID.fullmatch(text) is None and _replaced(text, keep_hex=True) != text


def without_secrets(text: str, *, keep_hex: bool = False) -> str:
    """`text` with `[REDACTED]` in the place of each secret, everything else as it was.

    With `keep_hex` bare hexadecimal of 32 digits or more stays: for the values of our own ids.
    Never raises; the time grows with the length of the text.
    """
    clean = text
    for _ in range(_PASSES):
        before = clean
        clean = _replaced(before, keep_hex=keep_hex)
        if clean == before:
            break
    return clean if clean != text else text


def beginning_without_secrets(text: str, limit: int) -> str:
    """The first `limit` characters of `without_secrets(text)`, without reading all of a long text.

    What is cut first is cut far behind them: half a secret would not be seen for one.
    """
    return without_secrets(text[: limit * _READ_ON])[:limit]


def without_secret_value(name: str, value: str, *, keep_hex: bool = False) -> str:
    """`value` as it may be shown beside `name`: nothing of a password, of other text no secret."""
    kind = kind_of_name(name)
    if kind and is_value(value) and (kind == "certain" or is_random(value)):
        return REDACTED
    return without_secrets(value, keep_hex=keep_hex)


def _replaced(text: str, *, keep_hex: bool) -> str:
    if len(text) >= 16:
        text = without_keys(text)
    if len(text) >= 7:
        text = without_neighbours(text)
    if not keep_hex and len(text) >= 32:
        text = without_hex(text)
    if _ESCAPE.search(text) is not None:
        text = _ENCODED.sub(_replace_encoded, text)
    return text


def _replace_encoded(found: re.Match[str]) -> str:
    """What is percent-encoded, twice perhaps, is looked at as it was."""
    text = found[0]
    if "%" not in text:
        return text
    decoded = unquote(unquote(text))
    return REDACTED if decoded != text and _replaced(decoded, keep_hex=True) != decoded else text
