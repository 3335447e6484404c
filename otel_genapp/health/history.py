"""Writes the history: what every slot of 15 seconds was like. One worker of a host does, see `lease`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from otel_genapp.health.recorded import DAY_SLOTS, SLOT_S, SLOTS, Block, Day, Now, RecordFiles

ALIVE_EVERY_S = 5.0
"""So often it is written down that the app lives."""
PAUSE_S = SLOT_S + ALIVE_EVERY_S
"""A pause up to here, of a restart, is none: it may have been shorter than a slot."""
_STEP_S = 2.0
"""The clock was set if it went so much further, or less far, than the one nobody sets."""

Counted = Callable[[], tuple[str, list[int]]]
"""(the running server, its requests by duration bucket since it started)"""


class Slot:
    """What the slot under way is like: each check by its runs in it, or by the last one where there was none."""

    def __init__(self) -> None:
        self.number = -1
        self._passed: dict[str, bool] = {}
        self._waiting: int | None = None

    def judge(
        self, number: int, *, last: Mapping[str, bool | None], ended: Mapping[str, bool], before: bool
    ) -> bool | None:
        """Whether all passed, as far as one knows; None before one knows. `ended`: since this was asked last.

        A check's first run is waited for up to the end of the slot; from then on, until it has ended, the
        check is as `before`, which is how the app was when that was known last.
        """
        if number != self.number:
            self.number, self._passed = number, {}
        for name, passed in ended.items():
            self._passed[name] = self._passed.get(name, True) and passed
        found = [self._passed.get(name, passed) for name, passed in last.items()]
        if None not in found:
            self._waiting = None
            return all(found)
        if self._waiting is None:
            self._waiting = number
        if self._waiting == number:
            return None
        return all(before if passed is None else passed for passed in found)


class History:
    """The writer's side. `take_up` comes first, whenever this worker becomes the one that writes."""

    def __init__(self, files: RecordFiles, *, keep_days: int) -> None:
        self._files = files
        self._keep_days = keep_days
        self._now = Now()
        self._number = -1
        self._day: Day = {}
        self._slot = -1
        self._before: bool | None = None
        self._said: bool | None = None
        self._last: tuple[float, float] | None = None

    @property
    def up(self) -> bool:
        """How the app was when that was known last."""
        return self._now.up

    def take_up(self, wall_s: float) -> None:
        """Go on where somebody else, or an earlier process, stopped."""
        self._now = self._files.now()
        self._now.pid, self._now.leading_s = os.getpid(), wall_s
        self._number = self._slot = -1
        self._last = None

    def record(self, wall_s: float, steady_s: float, *, up: bool, counted: Counted | None = None) -> bool:
        """Say what the slot of `wall_s` is like as far as one knows; False if it could not be written.

        `steady_s` is the time on a clock nobody sets, which goes on while the host sleeps.
        `counted` is asked once a slot.
        """
        now, slot = self._now, int(wall_s // SLOT_S)
        is_new = slot != self._slot
        if not is_new and up == self._said and abs(wall_s - now.alive_s) < ALIVE_EVERY_S:
            return True
        good = True
        if is_new:
            good = self._fill(slot, wall_s=wall_s, steady_s=steady_s, up=up)
            self._open(slot)
            self._slot = slot
            self._before = self._is_up(slot)
        block = self._block(slot)
        bit, before = 1 << slot % SLOTS, (block.seen, block.up)
        block.seen |= bit
        is_up = up and self._before is not False
        block.up = block.up | bit if is_up else block.up & ~bit
        if is_new and counted is not None:
            block.serve(now.delta(*counted()))
        now.alive_s, now.up = wall_s, up
        self._said, self._last = up, (wall_s, steady_s)
        if is_new or before != (block.seen, block.up):
            good &= self._files.write_day(self._number, self._day)
        if is_new:
            self._files.keep(self._keep_days)
        return self._files.write_now(now) and good

    def serve(self, wall_s: float, counted: Counted, *, goes_on: bool) -> None:
        """Write down what was served up to now; at the end. `goes_on`: other workers count on, and nobody starts over."""
        slot = int(wall_s // SLOT_S) if self._slot < 0 else self._slot
        instance, counts = counted()
        self._open(slot)
        self._block(slot).serve(self._now.delta(instance, counts))
        if not goes_on:
            del self._now.counted[instance]
        self._files.write_day(self._number, self._day)
        self._files.write_now(self._now)

    def _fill(self, slot: int, *, wall_s: float, steady_s: float, up: bool) -> bool:
        """Account for the slots that were passed over since the app was last known to live."""
        now = self._now
        if not now.alive_s:
            return True
        alive_slot = int(now.alive_s // SLOT_S)
        if slot < alive_slot:
            now.step_back(slot)
            return True
        passed_s = wall_s - now.alive_s
        set_s = passed_s - (steady_s - self._last[1]) if self._last is not None else 0.0
        if set_s > _STEP_S and passed_s > PAUSE_S:
            # Of the time that went by the clock says how much it was set; only the rest can be a pause.
            real = int((passed_s - set_s) // SLOT_S) if passed_s - set_s > PAUSE_S else 0
            now.jump(alive_slot + 1 + real, slot)
            return True
        good = True
        if passed_s <= PAUSE_S:
            for missed in range(alive_slot + 1, slot):
                good &= self._open(missed)
                block, bit = self._block(missed), 1 << missed % SLOTS
                if not block.seen & bit:
                    block.seen |= bit
                    block.up |= bit if up and now.up else 0
        return good

    def _open(self, slot: int) -> bool:
        """Have the day of a slot at hand."""
        number = slot // DAY_SLOTS
        if number == self._number:
            return True
        good = self._number < 0 or self._files.write_day(self._number, self._day)
        self._number, self._day = number, self._files.day(number)
        return good

    def _block(self, slot: int) -> Block:
        return self._day.setdefault(slot // SLOTS, Block())

    def _is_up(self, slot: int) -> bool | None:
        block, bit = self._block(slot), 1 << slot % SLOTS
        return bool(block.up & bit) if block.seen & bit else None
