"""Frames in a file: whole ones are found whatever happened to their neighbours."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_genapp import frames
from otel_genapp.frames import Frames, frame, read_frames

payloads = st.lists(st.binary(max_size=80), max_size=8)


@given(payloads)
def test_frames_come_back(written: list[bytes]) -> None:
    """What was framed is read back, byte for byte, whatever it holds."""
    data = b"".join(map(frame, written))
    assert read_frames(data) == Frames(written, len(data), 0)


@given(payloads.filter(len), st.randoms(use_true_random=False))
def test_a_torn_frame_takes_no_neighbour_with_it(written: list[bytes], chance: random.Random) -> None:
    """Of a frame cut anywhere nothing is read, and all others are."""
    torn = chance.randrange(len(written))
    parts = list(map(frame, written))
    cut = chance.randrange(1, len(parts[torn]))
    # A payload that ends in the line break with which the next frame begins is whole again.
    heals = torn + 1 < len(parts) and parts[torn][cut:] == b"\n"
    parts[torn] = parts[torn][:cut]
    found = read_frames(b"".join(parts), ended=True)
    rest = written[:torn] + written[torn + 1 :]
    assert found == Frames(written if heals else rest, sum(map(len, parts)), 0 if heals else 1)


@given(payloads, st.binary(min_size=1, max_size=60))
def test_a_frame_being_written_is_left_for_later(written: list[bytes], next_one: bytes) -> None:
    """The beginning of a frame at the end of a growing file is no damage: reading goes on there."""
    whole = b"".join(map(frame, written))
    data = frame(next_one)
    for cut in range(len(data)):
        assert read_frames(whole + data[:cut]) == Frames(written, len(whole), 0)


def test_damage_in_the_middle_is_skipped() -> None:
    """Bytes flipped anywhere cost the frames they are in, and no more."""
    written = [bytes([number]) * 50 for number in range(20)]
    data = bytearray(b"".join(map(frame, written)))
    for number in (3, 4, 11):
        data[number * 68 + 30] ^= 0xFF
    found = read_frames(bytes(data), ended=True)
    assert found.payloads == [written[number] for number in range(20) if number not in {3, 4, 11}]
    assert (found.consumed, found.torn) == (len(data), 2)


def test_too_long_a_payload_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload over the limit is an error with both numbers in it."""
    monkeypatch.setattr(frames, "PAYLOAD_LIMIT_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10 bytes, got 11"):
        frame(b"x" * 11)
