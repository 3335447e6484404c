"""Records as bytes, and back: every field, every value."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_genapp.ledger.codec import DecodeError, decode, encode
from otel_genapp.records import LLMAmendment, LLMCall, Usage
from tests.builders import amendment, call

texts = st.text(max_size=20) | st.just("\ud800") | st.just("\0\n")
counts = st.integers(0, 2**63)
usages = st.builds(Usage, *[st.none() | counts] * 5)
floats = st.floats(0, 1e12)
lists = st.lists(texts, max_size=3).map(tuple)
ids = st.none() | texts

calls = st.builds(
    LLMCall,
    call_id=texts, started_at_ns=counts, duration_ms=floats, status=texts, error_type=ids, provider=texts,
    model=texts, response_model=ids, operation=texts, usage=usages, first_token_ms=st.none() | floats,
    tool_calls=counts, tool_names=lists, finish_reasons=lists, response_id=ids,
    cost_nano_usd=st.none() | counts, price_version=ids, service_tier=ids,
    priced_parts=st.lists(st.tuples(texts, counts), max_size=3).map(tuple), attempts=lists,
    session_id=ids, user_id=ids, correlation_id=ids, trace_id=texts, span_id=texts,
)  # fmt: skip
amendments = st.builds(
    LLMAmendment,
    call_id=texts, seq=counts, at_ns=counts, status=texts, provider=texts, model=texts, usage=usages,
    cost_nano_usd=st.none() | counts, price_version=ids, attempts=lists, session_id=ids, user_id=ids,
)  # fmt: skip


@given(calls | amendments)
def test_records_come_back(record: LLMCall | LLMAmendment) -> None:
    """A record is equal after the journey, its bytes are ASCII on one line."""
    data = encode(record)
    assert decode(data) == record
    assert data.isascii()
    assert b"\n" not in data


def test_every_field_travels() -> None:
    """The strategies above name every field, so that a new one cannot be forgotten."""
    for kind, record in ((LLMCall, call()), (LLMAmendment, amendment())):
        said = json.loads(encode(record))
        assert len(said[1]) == len(fields(Usage))
        assert len(said[2]) == len([field for field in fields(kind) if field.init]) - 1


def changed(record: LLMCall | LLMAmendment, place: tuple[int, ...], value: Any) -> bytes:
    said = json.loads(encode(record))
    part = said
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"nonsense", b"\xff", b"[" * 100_000, b"null", b'["c1"]', b'["c1",[],[]]',
        changed(call(), (0,), "c2"),
        changed(call(), (0,), None),
        changed(call(), (1, 0), "many"),
        changed(call(), (1, 0), 1.5),
        changed(call(), (2, 0), None),
        changed(call(), (2, 1), "yesterday"),
        changed(call(), (2, 2), None),
        changed(amendment(), (2, 1), True),
        changed(amendment(), (2, 7), ["x"]),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """Damaged bytes, and those of a version not known here, are an error of their own kind."""
    with pytest.raises(DecodeError, match=r"record"):
        decode(data)
