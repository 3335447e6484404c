"""What headers say of rate limits."""

from __future__ import annotations

import pytest

from otel_genapp.capture.llm_wire.headroom import headroom


def openai(limit: bytes, remaining: bytes) -> dict[str, bytes]:
    return {"x-ratelimit-limit-requests": limit, "x-ratelimit-remaining-requests": remaining}


def test_both_ways_of_saying_it() -> None:
    """The part that is left of each limit, as OpenAI and as Anthropic name them."""
    assert headroom({
        **openai(b"500", b"125"), "x-ratelimit-limit-tokens": b"30000", "x-ratelimit-remaining-tokens": b"0",
        "x-ratelimit-reset-tokens": b"6m0s",
    }) == {"requests": 0.25, "tokens": 0.0}  # fmt: skip
    assert headroom({
        "anthropic-ratelimit-requests-limit": b"4000", "anthropic-ratelimit-requests-remaining": b"3999",
        "anthropic-ratelimit-tokens-limit": b"40500", "anthropic-ratelimit-tokens-remaining": b"41000",
        "anthropic-ratelimit-tokens-reset": b"2026-01-01T00:00:00Z",
    }) == {"requests": 3999 / 4000, "tokens": 1.0}  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        (b"0", b"0"), (b"-5", b"1"), (b"5", b"-1"), (b"5.5", b"1"), (b"1e3", b"1"), (b"nan", b"1"), (b"5", b"inf"),
        (b"", b""), (b"5", b""), (b"5, 5", b"1"), (b"9" * 5000, b"1"), (b"5", b"9" * 5000), (b"5", "٣".encode()),
        (b"0x10", b"1"), (b"1_000", b"1"), (b"+5", b"1"), (b"\xff", b"\x00"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(limit: bytes, remaining: bytes) -> None:
    """Values that are no plain whole numbers, and limits of nothing, make no level."""
    assert headroom(openai(limit, remaining)) == {}


def test_one_half_says_nothing() -> None:
    """A limit without a rest, a rest without a limit, and `Retry-After` alone make no level."""
    assert headroom({"x-ratelimit-limit-requests": b"5", "retry-after": b"20"}) == {}
    assert headroom({"x-ratelimit-remaining-requests": b"5"}) == {}
