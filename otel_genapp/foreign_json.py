"""JSON that others wrote, read without taking the stack from the thread that happens to read it.

Python reads each level of a text one call deeper. Where that uses the stack up, what the interpreter does in
between (a collection of garbage, with the application's own finalizers) fails for want of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 200
"""Levels of objects and lists; what providers send has a few."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_TOO_DEEP = b"[" * (DEEPEST + 1)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def is_deep(text: str | bytes) -> bool:
    """Whether JSON, be it complete or not, has more than `DEEPEST` levels anywhere."""
    if len(text) <= DEEPEST:
        return False
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return False
    left = _STRING.sub(b"", data).translate(_ONE_KIND, _NO_BRACKETS)
    for depth in range(DEEPEST + 1):  # each time around what holds nothing goes
        if _TOO_DEEP in left:
            return True
        outer = left.replace(b"[]", b"")
        if len(outer) == len(left):
            return depth + left.count(b"[") > DEEPEST
        left = outer
    return True


def loads(text: str | bytes) -> Any:
    """What the JSON says; ValueError where it is none, or has more than `DEEPEST` levels."""
    if is_deep(text):
        raise ValueError(f"JSON of more than {DEEPEST} levels is not read")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("the stack is too short to read this JSON") from error
