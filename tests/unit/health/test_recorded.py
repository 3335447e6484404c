"""The history as numbers: whatever was seen and whatever is asked, as counting one by one has it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_genapp.health.recorded import DAY_SLOTS, SLOTS, Block, Day, Now, Recorded, RecordFiles
from otel_genapp.state_directory import StateDirectory

FIRST = 20_000 * DAY_SLOTS - 70
SPAN = 140
"""Slots around a midnight."""

slots = st.integers(FIRST, FIRST + SPAN)


def recorded(seen: dict[int, bool], jumps: list[tuple[int, int]]) -> Recorded:
    """A history in which these slots were seen, up or not."""
    days: dict[int, Day] = {}
    for slot, up in seen.items():
        block = days.setdefault(slot // DAY_SLOTS, {}).setdefault(slot // SLOTS, Block())
        block.seen |= 1 << slot % SLOTS
        block.up |= up << slot % SLOTS
    return Recorded(days, Now(alive_s=1.0, jumps=jumps))


@given(
    seen=st.dictionaries(slots, st.booleans()),
    start=slots,
    end=slots,
    jumps=st.lists(st.tuples(slots, slots), max_size=4),
)
def test_numbers_are_those_of_counting(
    seen: dict[int, bool], start: int, end: int, jumps: list[tuple[int, int]]
) -> None:
    """Slots seen, up and left out in any window, over midnight too, from files as from memory."""
    files = RecordFiles(StateDirectory(None))
    history = recorded(seen, jumps)
    for number, day in history.days.items():
        assert files.write_day(number, day)
    files.write_now(history.now)
    window = range(start, end)
    numbers = (sum(slot in window for slot in seen), sum(up for slot, up in seen.items() if slot in window))
    left_out = {slot for since, until in jumps for slot in range(since, until)}
    for one in (history, files.read()):
        assert one.numbers(start, end) == numbers
        assert one.left_out(start, end) == len(left_out.intersection(window) - seen.keys())
        assert (one.first, one.last) == (min(seen, default=None), max(seen, default=None))


@given(counts=st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), max_size=6))
def test_requests_are_counted_once(counts: list[list[int]]) -> None:
    """What grows is added by its growth; a server that starts over counts from nothing."""
    now, total, expected, before = Now(), [0, 0, 0], [0, 0, 0], [0, 0, 0]
    for one in counts:
        restarted = any(new < old for new, old in zip(one, before, strict=True))
        grown = one if restarted else [new - old for new, old in zip(one, before, strict=True)]
        expected = [sum(pair) for pair in zip(expected, grown, strict=True)]
        total = [sum(pair) for pair in zip(total, now.delta("server", one), strict=True)]
        before = one
    assert total == expected
