"""Snapshots of workers: they come back, add up in any order, and damaged ones are told."""

from __future__ import annotations

import random

import pytest

from otel_genapp.frames import frame
from otel_genapp.metrics.snapshot import Snapshot

REQUESTS, DURATION = "genapp_llm_requests_total", "genapp_llm_request_duration_sec"
COST, IN_FLIGHT, SESSIONS = "genapp_llm_cost_usd_total", "genapp_llm_in_flight", "genapp_active_sessions"
MODEL = ("openai", "gpt-5")


def snapshot(**changed: object) -> Snapshot:
    return Snapshot(
        position=("journal-1-000000", 120),
        own={
            REQUESTS: {(*MODEL, "chat", "success"): 3},
            COST: {MODEL: 0.25},
            DURATION: {(*MODEL, "chat"): [1, 2, 0, 0.5]},
            IN_FLIGHT: {(): 2},
            SESSIONS: {(): 5},
        },
        system={"counter process.cpu.time": {("type", "user"): 1.5}, "gauge process.memory.usage": {(): 100}},
        **changed,  # type: ignore[arg-type]
    )


def test_a_snapshot_comes_back() -> None:
    """What is written is read again, the names of the folded workers too."""
    written = snapshot(folded=("a", "b"))
    assert Snapshot.from_bytes(written.to_bytes()) == written


def test_the_living_and_the_dead_add_up() -> None:
    """Counters of all, gauges of the living only; what a store says is the same for everybody."""
    total = Snapshot()
    total.add(snapshot(), gauges=True)
    total.add(snapshot(), gauges=True)
    total.add(snapshot(), gauges=False)
    assert total.own == {
        REQUESTS: {(*MODEL, "chat", "success"): 9},
        COST: {MODEL: 0.75},
        DURATION: {(*MODEL, "chat"): [3, 6, 0, 1.5]},
        IN_FLIGHT: {(): 4},
        SESSIONS: {(): 5},
    }
    assert total.system == {
        "counter process.cpu.time": {("type", "user"): 4.5},
        "gauge process.memory.usage": {(): 200},
    }


def test_sums_are_the_same_in_any_order() -> None:
    """Thousands of fractions, added in ten orders: one sum, to the last digit."""
    chance = random.Random(5)  # noqa: S311 - repeatable on purpose
    parts = [
        Snapshot(
            own={COST: {MODEL: chance.random() / 1000}, DURATION: {(*MODEL, "chat"): [1, chance.random()]}}
        )
        for _ in range(2000)
    ]
    found = set()
    for _ in range(10):
        chance.shuffle(parts)
        total = Snapshot()
        for part in parts:
            total.add(part, gauges=True)
        found.add(repr(total.own))
    assert len(found) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", snapshot().to_bytes()[:-3], snapshot().to_bytes() * 2, frame(b"[2, null, {}, {}, []]"),
        frame(b"{}"), frame(b"nothing"), snapshot().to_bytes().replace(b"gpt-5", b"gpt-6"),
    ],
)  # fmt: skip
def test_damaged_snapshots_are_told(data: bytes) -> None:
    """A torn, a changed and a newer file are errors, never wrong numbers."""
    with pytest.raises(ValueError, match=r"."):
        Snapshot.from_bytes(data)


def test_other_buckets_are_not_mixed() -> None:
    """Where a worker of another version has other buckets, they are left out."""
    total = Snapshot()
    total.add(Snapshot(own={DURATION: {(*MODEL, "chat"): [1, 2, 0.5]}}), gauges=True)
    total.add(Snapshot(own={DURATION: {(*MODEL, "chat"): [1, 2, 3, 0.5]}}), gauges=True)
    assert total.own[DURATION] == {(*MODEL, "chat"): [1, 2, 0.5]}
