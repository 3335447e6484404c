"""What the value of a secret looks like: no word, no number, no placeholder."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[REDACTED]"
FRAGMENT: Final = "[REDACTED"
"""How a value begins that has been replaced already; closing brackets are not part of a value."""

_NO_VALUES = frozenset({
    "basic", "bearer", "bytes", "empty", "expired", "false", "here", "int", "invalid", "missing", "needed",
    "nil", "none", "not", "null", "optional", "password", "required", "secret", "str", "string", "text",
    "the", "token", "true", "undefined", "unknown", "unset", "was",
})  # fmt: skip
_PLACEHOLDER = re.compile(r"[*.xX\u2022-]+|\$?\{+[^{}]*\}+|<[^<>]*>|\$[A-Z_]+|%\(?\w*\)?s|\(.*")


def is_value(value: str) -> bool:
    """Whether somebody chose this value: no placeholder, no word about the value, not replaced yet."""
    value = value.strip()
    bare = value.rstrip(")]}>.")
    return (
        len(bare) >= 3
        and not bare.startswith(FRAGMENT)
        and bare.lower() not in _NO_VALUES
        and "://" not in bare
        and _PLACEHOLDER.fullmatch(value) is None
        and _PLACEHOLDER.fullmatch(bare) is None
    )


def is_word(text: str) -> bool:
    """Whether `text` is letters, in one of the three ways words are written."""
    return text.isalpha() and (text.islower() or text.isupper() or text.istitle())


def is_random(value: str) -> bool:
    """Whether no person would have written this as a word or a number: digits among letters, mixed case."""
    if len(value) < 8 or value.startswith(FRAGMENT) or " " in value.strip():
        return False
    plain = value.strip("\"'.,:;()[]{}<>=")
    if any(map(str.isdigit, plain)):
        return any(map(str.isalpha, plain))
    parts = re.split(r"[^A-Za-z]+", plain)
    return any(len(part) >= 24 or (len(part) >= 12 and not is_word(part)) for part in parts)
