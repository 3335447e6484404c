"""Snapshots of workers: they come back, and damaged ones are told."""

from __future__ import annotations

import dataclasses
import json

import pytest

from otel_genapp.frames import frame
from otel_genapp.metrics.snapshot import DamagedError, Reading, Snapshot, Writing

REQUESTS, DURATION = "genapp_llm_requests_total", "genapp_llm_request_duration_sec"
COST, IN_FLIGHT = "genapp_llm_cost_usd_total", "genapp_llm_in_flight"
MODEL = ("openai", "gpt-5")
BUCKETS = [1, 2] + [0] * 15

SNAPSHOT = Snapshot(
    position=("journal-1-000000", 120),
    counted={
        REQUESTS: {(*MODEL, "chat", "success"): 3},
        COST: {MODEL: [0.1, 1e-18]},
        DURATION: {(*MODEL, "chat"): (BUCKETS, [0.5])},
    },
    gauges={IN_FLIGHT: {(): 2}},
    system={"counter process.cpu.time": {("type", "user"): [1.5]}, "gauge process.memory.usage": {(): 100}},
    folded=("a", "b"),
)
DATA = Writing().to_bytes(SNAPSHOT)


def frames(head: object = (1, None, ()), counted: object = None, rest: object = ({}, {})) -> bytes:
    """A file with these three parts."""
    return b"".join(frame(json.dumps(part).encode()) for part in (head, counted or {}, rest))


def test_a_snapshot_comes_back() -> None:
    """What is written is read again to the last digit, the names of the folded workers too."""
    assert Reading().from_bytes(DATA) == SNAPSHOT


def test_what_is_the_same_is_not_read_anew() -> None:
    """Where only gauges moved, the counted families are the very object that was read before."""
    writing, reading = Writing(), Reading()
    first = reading.from_bytes(writing.to_bytes(SNAPSHOT))
    moved = dataclasses.replace(SNAPSHOT, gauges={IN_FLIGHT: {(): 3}})
    second = reading.from_bytes(writing.to_bytes(moved))
    assert second == moved
    assert second.counted is first.counted


def test_what_has_changed_is_written() -> None:
    """A count that grew is in the next bytes of the same writer."""
    writing = Writing()
    writing.to_bytes(SNAPSHOT)
    grown = dataclasses.replace(SNAPSHOT, counted={REQUESTS: {(*MODEL, "chat", "success"): 4}})
    assert Reading().from_bytes(writing.to_bytes(grown)) == grown


def test_families_of_another_version_are_left_out() -> None:
    """A family this version does not know is no damage."""
    data = frames(counted={"genapp_new_total": [[["a"]], [1]], COST: [[MODEL], [[0.5]]]})
    assert Reading().from_bytes(data) == Snapshot(counted={COST: {MODEL: [0.5]}})


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", DATA[:-3], DATA * 2, DATA.replace(b"gpt-5", b"gpt-6"), frames(head=(2, None, ())),
        frames(head={}), frames(rest=1), frame(b"nothing") * 3,
        frames(counted={COST: [[["openai"]], [1]]}), frames(counted={COST: [[["openai", 5]], [1]]}),
        frames(counted={COST: [[MODEL], ["1"]]}), frames(counted={COST: [[MODEL], [[1]]]}),
        frames(counted={COST: [[MODEL], [True]]}), frames(counted={COST: [[MODEL], []]}),
        frames(counted={DURATION: [[[*MODEL, "chat"]], [[[1, 2], 0]]]}),
        frames(counted={DURATION: [[[*MODEL, "chat"]], [[[1.5] * 17, 0]]]}),
        frames(counted={DURATION: [[[*MODEL, "chat"]], [3]]}),
    ],
)  # fmt: skip
def test_damaged_snapshots_are_told(data: bytes) -> None:
    """A torn, a changed, a newer file and one of other buckets are errors, never wrong numbers."""
    reading = Reading()
    reading.from_bytes(DATA)
    with pytest.raises(DamagedError):
        reading.from_bytes(data)
    assert reading.last == SNAPSHOT
