"""What actions left in recording families, and steps by hand for what pauses."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Awaitable, Generator
from typing import Any

from tests.fakes import RecordingFamilies


def counts(families: RecordingFamilies) -> dict[str, int]:
    """`name status` -> times, after checking that each was counted and timed once."""
    counted = families.of("action_count")
    timed = families.of("action_duration")
    assert [one.labels[:1] for one in counted] == [one.labels for one in timed]
    assert all(0 <= one.value < 10 for one in timed)
    return dict(Counter(" ".join(one.labels) for one in counted))


def errors(families: RecordingFamilies) -> list[tuple[str, ...]]:
    return [one.labels for one in families.of("errors")]


@types.coroutine
def pause(answer: object = None) -> Generator[object, object, object]:
    return (yield answer)


def run(awaitable: Awaitable[Any]) -> Any:
    """The result of an awaitable that only pauses."""

    async def wait() -> Any:
        return await awaitable

    coroutine = wait()
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value
