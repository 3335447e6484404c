"""Records as rows: what identifies them, and what they add to a sum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from otel_genapp import semconv
from otel_genapp.ledger import codec
from otel_genapp.ledger.clickhouse.server import Row
from otel_genapp.ledger.rollup import duration_bucket
from otel_genapp.quiet import quiet
from otel_genapp.records import LLMCall, UsageRecord

UNBOUND = bytes(16)
"""The `session` of calls without one."""
NOBODY = bytes(16)
"""The hash of what nobody said."""
NUMBER_LIMIT = 2**63 - 1
HOUR_S = 3600
_LAST_HOUR = (2**32 - 1) // HOUR_S
_HOUR_NS = HOUR_S * 10**9
_SHORTS = 2**15 - 1

_ESCAPE = "\x01"
_ODD = re.compile(f"[{_ESCAPE}\ud800-\udfff]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")

_guarded = quiet("ledger")

Standing = tuple[int, int]
"""What a record was given when it came the first time: its number, and the epoch of its session."""


def stored(text: str) -> str:
    """A text as UTF-8 can hold it: lone surrogates in another spelling, that no other text has."""
    if text.isascii() and _ESCAPE not in text:
        return text
    return _ODD.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def said(text: str) -> str:
    """The text that `stored` made this of."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if _ESCAPE in text else text


def stored_user(user_id: str | None) -> str:
    """A user; nobody is the empty text."""
    return "" if user_id is None else stored(user_id) or _ESCAPE


def said_user(text: str) -> str:
    """The user that `stored_user` made this of."""
    return "" if text == _ESCAPE else said(text)


def session_key(session_id: str | None) -> bytes:
    """The `session` of a session id."""
    return UNBOUND if session_id is None else hash_of(session_id)


def session_keys(session_id: str) -> tuple[bytes, ...]:
    """The keys of a session id, the likeliest first."""
    key = session_key(session_id)
    return (key, UNBOUND) if session_id == semconv.NO_SESSION else (key,)


def correlation_key(correlation_id: str | None) -> bytes:
    """The `correlation` of a correlation id; zeros where there is none."""
    return NOBODY if correlation_id is None else hash_of(correlation_id)


def hour_of(at_ns: int) -> int:
    """The hour a time is in, as seconds since the epoch; the nearest that a table can hold."""
    return max(0, min(at_ns // _HOUR_NS, _LAST_HOUR)) * HOUR_S


def within(number: int) -> int:
    """The nearest number that a table holds."""
    return (
        number if -NUMBER_LIMIT <= number <= NUMBER_LIMIT else max(-NUMBER_LIMIT, min(number, NUMBER_LIMIT))
    )


@dataclass(slots=True)
class Keyed:
    """A record, what identifies it, and where it is in the tables."""

    record: UsageRecord
    session: bytes
    identity: bytes
    place: Row
    """The key of its rows: hour, session, at_ns, identity."""
    started_at_ns: int
    bucket: int


def keyed(records: Iterable[UsageRecord]) -> list[Keyed]:
    """The records, each once; one that cannot be kept (its duration is no number) is left out, counted."""
    found: dict[bytes, Keyed] = {}
    sessions: dict[str | None, bytes] = {}
    for record in records:
        with _guarded:
            identity = hash_of(f"{record.seq}:{record.call_id}")
            if identity in found:
                continue
            session = sessions.get(record.session_id)
            if session is None:
                session = sessions[record.session_id] = session_key(record.session_id)
            if isinstance(record, LLMCall):
                at_ns, bucket = within(record.ended_at_ns), duration_bucket(record.duration_ms)
                started_at_ns = within(record.started_at_ns)
            else:
                at_ns = started_at_ns = within(record.at_ns)
                bucket = 0
            place = (hour_of(at_ns), session, at_ns, identity)
            found[identity] = Keyed(record, session, identity, place, started_at_ns, bucket)
    return list(found.values())


def record_row(item: Keyed, standing: Standing) -> Row:
    """Its row in `records`."""
    record, usage = item.record, item.record.usage
    number, epoch = standing
    if isinstance(record, LLMCall):
        is_call, is_unknown = 1, int(record.usage_unknown)
        duration_ns, tool_calls = round(record.duration_ms * 1e6), max(record.tool_calls, 0)
    else:
        is_call = is_unknown = duration_ns = tool_calls = 0
    counts: Row = (
        duration_ns,
        max(-_SHORTS, min(item.bucket, _SHORTS)),
        usage.input or 0,
        usage.output or 0,
        usage.cache_read or 0,
        usage.cache_write or 0,
        usage.reasoning or 0,
        record.cost_nano_usd or 0,
        tool_calls,
    )
    if max(counts) > NUMBER_LIMIT or min(counts) < -NUMBER_LIMIT:
        counts = tuple(within(count) for count in counts)
    return (
        *item.place,
        number,
        epoch,
        NUMBER_LIMIT - number,
        is_call,
        record.status,
        stored(record.provider),
        stored(record.model),
        item.started_at_ns,
        *counts,
        is_unknown,
        int(record.unpriced),
        correlation_key(record.correlation_id),
    )


def call_row(item: Keyed, standing: Standing) -> Row:
    """The row of a call's detail."""
    number, epoch = standing
    text, correlation = codec.encode(item.record).decode("ascii"), correlation_key(item.record.correlation_id)
    return (*item.place, number, epoch, NUMBER_LIMIT - number, text, correlation)


def session_rows(items: Iterable[tuple[Keyed, Standing]]) -> list[Row]:
    """What records say about their sessions."""
    found: dict[Row, tuple[int, int, int, int]] = {}
    for item, (number, epoch) in items:
        record, at_ns = item.record, item.place[2]
        key = (item.session, epoch, record.user_id, record.model, record.session_id)
        first, last, first_at, last_at = found.get(key, (number, number, at_ns, at_ns))
        found[key] = (
            min(first, number),
            max(last, number),
            min(first_at, at_ns, item.started_at_ns),
            max(last_at, at_ns, item.started_at_ns),
        )
    return [
        (session, epoch, stored_user(user_id), stored(model), stored(session_id or ""), *edges)
        for (session, epoch, user_id, model, session_id), edges in found.items()
    ]


def cleared_row(session: bytes, *, epoch: int) -> Row:
    """That a session's lives before this one are over; this one has nothing in it yet."""
    return (session, epoch, "", "", "", NUMBER_LIMIT, 0, NUMBER_LIMIT, -NUMBER_LIMIT)


def hex_of(keys: Iterable[bytes]) -> str:
    """Keys as a query is told them."""
    return ",".join(key.hex() for key in keys)


def hash_of(text: str) -> bytes:
    """What a text is known by where the text itself is not kept."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
