"""Records in a file that a killed process may leave torn: framed, checksummed, found again after damage.

A frame is a line break, the payload's length and CRC-32 in hexadecimal, and the payload, which may
hold any bytes. The break stands in FRONT: after a torn record the next one still starts on a line
of its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

PAYLOAD_LIMIT_BYTES = 16 * 1024 * 1024
_HEAD = re.compile(rb"\n([0-9a-f]{8})([0-9a-f]{8}) ")
_GLUED = re.compile(rb"([0-9a-f]{8})([0-9a-f]{8}) ")
"""The head after a torn payload whose last byte was a line break: that of this one took its place."""
_HEAD_BYTES = 18


class Frames(NamedTuple):
    """What a stretch of a file holds."""

    payloads: list[bytes]
    consumed: int
    """How many bytes of it are done with; what follows may be the beginning of a frame."""
    torn: int
    """Places where something stood that is no whole frame."""


def frame(payload: bytes) -> bytes:
    """The payload as it is appended to a file, in one piece.

    Raises:
        ValueError: it is longer than 16 MiB.
    """
    if len(payload) > PAYLOAD_LIMIT_BYTES:
        raise ValueError(f"a payload has at most {PAYLOAD_LIMIT_BYTES} bytes, got {len(payload)}")
    return b"\n%08x%08x %b" % (len(payload), crc32(payload), payload)


def read_frames(data: bytes, *, ended: bool = False) -> Frames:
    """The whole frames in `data`, which starts where a frame does or did before damage.

    `ended` says that nothing more will be appended: what is left over is torn, and consumed.
    """
    payloads: list[bytes] = []
    torn = place = 0
    in_damage = False
    while place < len(data):
        head = _HEAD.match(data, place) or _GLUED.match(data, place)
        end = head.end() + int(head[1], 16) if head is not None else 0
        if head is not None and int(head[1], 16) <= PAYLOAD_LIMIT_BYTES:
            payload = data[head.end() : end]
            if end <= len(data) and crc32(payload) == int(head[2], 16):
                payloads.append(payload)
                place, in_damage = end, False
                continue
        following = _next_whole(data, place + 1)
        if following is None:
            may_grow = not ended and _may_be_cut(data, place, end=end)
            if not may_grow:
                torn += not in_damage
                place = len(data)
            break
        torn += not in_damage
        place, in_damage = following, True
    return Frames(payloads, place, torn)


def _next_whole(data: bytes, start: int) -> int | None:
    """Where the next whole frame begins; None where there is none."""
    for head in _HEAD.finditer(data, start):
        end = head.end() + int(head[1], 16)
        if end <= len(data) and crc32(data[head.end() : end]) == int(head[2], 16):
            return head.start()
    return None


def _may_be_cut(data: bytes, place: int, *, end: int) -> bool:
    """Whether what begins at `place` may be the first part of a frame that is being written."""
    if end > len(data):
        return True
    rest = data[place : place + _HEAD_BYTES]
    return len(rest) < _HEAD_BYTES and re.fullmatch(rb"\n[0-9a-f]{0,16} ?", rest) is not None
