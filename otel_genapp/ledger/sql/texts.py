"""Texts as a database can hold and index them: any text, told apart from every other.

PostgreSQL knows no NUL, no driver knows lone surrogates, and an index entry has a limit. Such texts
are kept in another spelling, that no other text has; nearly all are kept as they are.
"""

from __future__ import annotations

import hashlib
import re

from otel_genapp.records import UsageRecord

LIMIT = 256
"""Characters; of a longer text the beginning is kept, and a hash of the whole."""
_ESCAPE = "\x01"
_ODD = re.compile(f"[\0{_ESCAPE}\ud800-\udfff]")
_ESCAPED = re.compile(f"{_ESCAPE}(?:([0-9a-f]{{4}})|#)")


def stored(text: str) -> str:
    """The spelling of `text` in the database."""
    if len(text) <= LIMIT and text.isprintable():  # nearly all
        return text
    if len(text) > LIMIT:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{stored(text[:64])}{_ESCAPE}#{digest}"
    return _ODD.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def correlation_of(record: UsageRecord) -> str | None:
    """The `correlation` of a record's row: it is found by it."""
    return None if record.correlation_id is None else stored(record.correlation_id)


def said(text: str) -> str:
    """The text that `stored` made this of; of a long one, its beginning and its hash."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\u2026#", text)
