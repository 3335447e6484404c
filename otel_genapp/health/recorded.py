"""The history of uptime and response times as it lies in the state directory: a file a day, and one for now.

sla-day-<days since 1970>   its blocks of 5 minutes: which slots of 15 s were seen, which of them were up,
                            and how many requests took how long, by the buckets of the histogram
sla-now                     when the app was last alive, what the clock left out, what was counted so far

Both are JSON, replaced whole by the one worker that writes. What cannot be read counts for nothing.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.state_directory import StateDirectory

SLOT_S = 15
SLOTS = 20
"""In a block."""
DAY_SLOTS = 86_400 // SLOT_S
VERSION = 1
DAY, NOW = "sla-day-", "sla-now"
_FULL = (1 << SLOTS) - 1
_JUMPS, _INSTANCES = 50, 16


@dataclass(slots=True)
class Block:
    """Five minutes. Bit n of `seen` and `up` is its slot n; `counts` are requests by duration bucket."""

    seen: int = 0
    up: int = 0
    counts: list[int] = field(default_factory=list)

    def serve(self, counts: list[int]) -> None:
        """Add requests."""
        if any(counts):
            fits = len(self.counts) == len(counts)
            self.counts = list(map(operator.add, self.counts, counts)) if fits else list(counts)


Day = dict[int, Block]
"""The blocks of a day, by the number of blocks since 1970."""


@dataclass(slots=True)
class Now:
    """Where the writing stands. `counted` is what each running server had counted when it was asked last."""

    alive_s: float = 0.0
    up: bool = True
    pid: int = 0
    leading_s: float = 0.0
    jumps: list[tuple[int, int]] = field(default_factory=list)
    """Slots [from, to) that the clock left out when it was set forward."""
    counted: dict[str, list[int]] = field(default_factory=dict)

    def jump(self, start: int, end: int) -> None:
        """The clock left these slots out."""
        self.jumps = [*self.jumps, (start, end)][-_JUMPS:]

    def step_back(self, slot: int) -> None:
        """The clock was set back: what is ahead was not left out."""
        self.jumps = [(start, min(end, slot)) for start, end in self.jumps if start < slot]

    def delta(self, instance: str, counts: list[int]) -> list[int]:
        """What was counted since it was asked last; all of it where a server has started over."""
        before = self.counted.pop(instance, None)
        self.counted[instance] = list(counts)  # the newest last
        while len(self.counted) > _INSTANCES:
            del self.counted[next(iter(self.counted))]
        if before is None or len(before) != len(counts):
            return counts
        delta = list(map(operator.sub, counts, before))
        return counts if min(delta, default=0) < 0 else delta


@dataclass(slots=True)
class Recorded:
    """The history as it was read."""

    days: dict[int, Day]
    now: Now

    @property
    def first(self) -> int | None:
        """The first slot that was seen, the last one before it being forgotten."""
        return next((slot for slot in self._seen()), None)

    @property
    def last(self) -> int | None:
        """The last slot that was seen."""
        found = None
        for number in sorted(self.days, reverse=True):
            for start, block in sorted(self.days[number].items(), reverse=True):
                if block.seen:
                    return start * SLOTS + block.seen.bit_length() - 1
        return found

    def numbers(self, start: int, end: int) -> tuple[int, int]:
        """(slots seen, slots up) in [start, end)."""
        seen = up = 0
        for place, block in self._blocks(start, end):
            mask = _FULL
            if place * SLOTS < start:
                mask &= _FULL << (start - place * SLOTS)
            if (place + 1) * SLOTS > end:
                mask &= (1 << (end - place * SLOTS)) - 1
            seen += (block.seen & mask).bit_count()
            up += (block.up & block.seen & mask).bit_count()
        return seen, up

    def left_out(self, start: int, end: int) -> int:
        """How many slots in [start, end) the clock left out; those seen all the same are none of them."""
        total, done = 0, start
        for since, until in sorted(self.now.jumps):
            since, until = max(since, done), min(until, end)  # noqa: PLW2901 - as far as it is asked for
            if since < until:
                total += until - since - self.numbers(since, until)[0]
                done = until
        return total

    def served(self, start: int, end: int) -> list[int]:
        """Requests by bucket, of the blocks that begin in [start, end) or hold `start`."""
        found = Block()
        for _, block in self._blocks(start, end):
            if len(block.counts) >= len(found.counts):
                found.serve(block.counts)
        return found.counts

    def _blocks(self, start: int, end: int) -> Iterator[tuple[int, Block]]:
        if start >= end:
            return
        for number in range(start // DAY_SLOTS, (end - 1) // DAY_SLOTS + 1):
            for place, block in self.days.get(number, {}).items():
                if start // SLOTS <= place <= (end - 1) // SLOTS:
                    yield place, block

    def _seen(self) -> Iterator[int]:
        for number in sorted(self.days):
            for place, block in sorted(self.days[number].items()):
                if block.seen:
                    yield place * SLOTS + (block.seen & -block.seen).bit_length() - 1


class RecordFiles:
    """Reads and writes the files; without a state directory they are kept in memory."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._memory: dict[str, bytes] = {}
        self._known: dict[str, tuple[bytes, Day]] = {}

    def read(self) -> Recorded:
        """Everything that is there."""
        names = self._names()
        numbers = [int(name.removeprefix(DAY)) for name in names]
        days = {number: self.day(number) for number in numbers}
        for gone in set(self._known).difference(names):  # whoever writes has removed them
            self._known.pop(gone, None)
        return Recorded(days, self.now())

    def day(self, number: int) -> Day:
        """A day; empty where there is none, or it cannot be read."""
        name = f"{DAY}{number:06d}"
        data = self._bytes(name)
        if data is None:
            self._known.pop(name, None)
            return {}
        known = self._known.get(name)
        if known is None or known[0] != data:
            known = self._known[name] = data, _day(data, number)
        return known[1]

    def now(self) -> Now:
        """Where the writing stands."""
        return _now(self._bytes(NOW) or b"")

    def write_day(self, number: int, day: Day) -> bool:
        """Replace a day."""
        blocks = {str(place): [block.seen, block.up, block.counts] for place, block in day.items()}
        return self._write(f"{DAY}{number:06d}", {"version": VERSION, "blocks": blocks})

    def write_now(self, now: Now) -> bool:
        """Say where the writing stands."""
        said = {
            "version": VERSION, "alive_s": now.alive_s, "up": now.up, "pid": now.pid,
            "leading_s": now.leading_s, "jumps": now.jumps, "counted": now.counted,
        }  # fmt: skip
        return self._write(NOW, said)

    def keep(self, days: int) -> None:
        """Remove all but so many days, the oldest first: by their number, for the clock may be wrong."""
        for name in self._names()[:-days]:
            self._memory.pop(name, None)
            self._known.pop(name, None)
            if self._state.path is not None:
                self._state.remove(name)

    def _names(self) -> list[str]:
        found = tuple(self._memory) if self._state.path is None else self._state.names(DAY)
        return sorted(name for name in found if name.startswith(DAY) and name.removeprefix(DAY).isdecimal())

    def _bytes(self, name: str) -> bytes | None:
        return self._memory.get(name) if self._state.path is None else self._state.read_private(name)

    def _write(self, name: str, said: dict[str, Any]) -> bool:
        data = json.dumps(said, separators=(",", ":")).encode("ascii")
        if self._state.path is None:
            self._memory[name] = data
            return True
        return self._state.write_private(name, data, durable=False)


def _day(data: bytes, number: int) -> Day:
    first, day = number * DAY_SLOTS // SLOTS, {}
    try:
        said = json.loads(data)
        if said["version"] == VERSION:
            for place, (seen, up, counts) in said["blocks"].items():
                block = Block(int(seen) & _FULL, int(up) & _FULL, [max(int(count), 0) for count in counts])
                if first <= int(place) < first + DAY_SLOTS // SLOTS:
                    day[int(place)] = block
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return day


def _now(data: bytes) -> Now:
    try:
        said = json.loads(data)
        if said["version"] != VERSION:
            return Now()
        return Now(
            float(said["alive_s"]),
            bool(said["up"]),
            int(said["pid"]),
            float(said["leading_s"]),
            [(int(start), int(end)) for start, end in said["jumps"]],
            {str(name): [int(count) for count in counts] for name, counts in said["counted"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Now()
