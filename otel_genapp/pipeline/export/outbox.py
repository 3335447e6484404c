"""Requests on their way to the collector, oldest first.

While all is well they wait in memory, a few at most. Once the collector is away they go to the disk,
where they outlive the process; what memory holds is always newer than what the disk holds. Without a
state directory memory is all there is, and when it is full the queue of spans fills up behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from otel_genapp.pipeline.export.account import EXPORTED, Account
from otel_genapp.pipeline.export.answers import Answer
from otel_genapp.pipeline.export.packing import PARCEL_BYTES, Parcel
from otel_genapp.pipeline.export.spool import SEGMENT_BYTES, START, Spool
from otel_genapp.state_directory import StateDirectory

MEMORY_BYTES: Final = 8 * 1024 * 1024
SPOOL_BYTES: Final = 512 * 1024 * 1024

_LEAST_SEGMENT_BYTES: Final = 4096


class Outbox:
    """What is packed and not yet delivered: of this process, and after it of processes that died."""

    def __init__(
        self,
        account: Account,
        state: StateDirectory | None,
        *,
        span_limit: int,
        spool_bytes: int = SPOOL_BYTES,
    ) -> None:
        """`span_limit` bounds what waits in memory, `spool_bytes` what lies in the state directory."""
        self.on_disk = 0
        """Spans of this process in its spool."""
        self._account = account
        self._lock = account.lock
        self._span_limit = span_limit
        self._spool_bytes = spool_bytes
        self._segment_bytes = max(min(SEGMENT_BYTES, spool_bytes // 8), _LEAST_SEGMENT_BYTES)
        self._memory: deque[Parcel] = deque()
        self._memory_bytes = self._memory_spans = 0
        self._ahead: deque[Parcel] = deque()
        """What is left of a request on disk that was halved."""
        self._ahead_of: Spool | None = None
        self._state = state
        self._spool = None
        if state is not None and state.path is not None:
            self._spool = Spool(state, self._lose_damaged, segment_bytes=self._segment_bytes)
        self._adopted: Spool | None = None
        self._others_bytes = 0
        self._segments_seen = -1

    @property
    def has_disk(self) -> bool:
        """Whether there is a place to put requests aside."""
        return self._spool is not None

    @property
    def room(self) -> int:
        """How many spans memory takes now."""
        if self._memory_bytes > MEMORY_BYTES - PARCEL_BYTES:
            return 0
        return max(self._span_limit - self._memory_spans, 0)

    @property
    def is_spooling(self) -> bool:
        """Whether requests of this process are on disk."""
        return self.on_disk > 0

    def put(self, parcels: Iterable[Parcel]) -> None:
        """Take packed spans over."""
        with self._lock:
            for parcel in parcels:
                self._memory.append(parcel)
                self._memory_bytes += len(parcel.data)
                self._memory_spans += parcel.spans

    def head(self) -> Parcel | None:
        """The request to be sent now; it stays where it is until `settle` or `split`."""
        with self._lock:
            if self._ahead:
                return self._ahead[0]
            if self._spool is not None and (kept := self._spool.head()) is not None:
                return kept
            if self._memory:
                return self._memory[0]
            while self._adopted is not None:
                if (left := self._adopted.head()) is not None:
                    return left
                self._adopted.close()
                self._adopted = None
                self.adopt()
            return None

    def settle(self, parcel: Parcel, *, answer: Answer | None = None, reason: str = "rejected") -> None:
        """The request at the head has come to its end: taken, as the answer says, or lost."""
        with self._lock:
            if self._account.closed:
                return
            is_on_disk = self._take_away(parcel)
            rejected = parcel.spans if answer is None else min(answer.rejected, parcel.spans)
            if is_on_disk and not parcel.adopted:
                self.on_disk -= parcel.spans
            for number, outcome in ((parcel.spans - rejected, EXPORTED), (rejected, reason)):
                self._account.settle(number, outcome, own=not parcel.adopted, on_disk=is_on_disk)

    def split(self, parcel: Parcel, parts: Iterable[Parcel]) -> None:
        """Put the parts in the place of the request at the head. On disk it stays whole."""
        with self._lock:
            if self._ahead:
                self._ahead.popleft()
                self._ahead.extendleft(reversed(tuple(parts)))
            elif parcel.adopted or (self._spool is not None and not self._spool.is_empty):
                self._ahead_of = self._adopted if parcel.adopted else self._spool
                self._ahead.extend(parts)
            else:
                self._forget_first()
                for part in reversed(tuple(parts)):
                    self._memory.appendleft(part)
                    self._memory_bytes += len(part.data)
                    self._memory_spans += part.spans

    def persist(self) -> bool:
        """Put what memory holds on the disk; whether nothing is left in memory."""
        with self._lock:
            spool = self._spool
            while self._memory and spool is not None and not self._account.closed:
                parcel = self._memory[0]
                self._make_room(spool, len(parcel.data))
                if not spool.append(parcel):
                    break
                self._forget_first()
                self.on_disk += parcel.spans
                self._account.spooled(parcel.spans)
            return not self._memory

    def adopt(self) -> None:
        """Look for what a dead process has left behind; it is sent when there is nothing of our own."""
        with self._lock:
            if self._adopted is None and self._spool is not None and self._state is not None:
                self._adopted = Spool.of_the_dead(
                    self._state,
                    self._account.damaged,
                    besides=(self._spool.spool_id,),
                    segment_bytes=self._segment_bytes,
                )

    def close(self) -> None:
        """Leave what is on disk to the next process."""
        for spool in (self._spool, self._adopted):
            if spool is not None:
                spool.close()

    def forget(self) -> None:
        """Leave the files to the parent; in the child of a fork, where the lock may be held for ever."""
        for spool in (self._spool, self._adopted):
            if spool is not None:
                spool.forget()

    def _take_away(self, parcel: Parcel) -> bool:
        """Remove the request at the head; whether it was on disk."""
        if self._ahead:
            self._ahead.popleft()
            if not self._ahead and self._ahead_of is not None:
                self._ahead_of.pop()
                self._ahead_of = None
            return True
        if parcel.adopted:
            if self._adopted is not None:
                self._adopted.pop()
            return True
        # What was sent from memory may have been put on disk meanwhile; there it is the first.
        if self._spool is not None and not self._spool.is_empty:
            self._spool.pop()
            return True
        self._forget_first()
        return False

    def _forget_first(self) -> None:
        parcel = self._memory.popleft()
        self._memory_bytes -= len(parcel.data)
        self._memory_spans -= parcel.spans

    def _make_room(self, spool: Spool, size: int) -> None:
        """Drop the oldest segments until a record of that size fits in, a dead process's first."""
        self._look_around(spool)
        while self._bytes + size > self._spool_bytes:
            if self._adopted is None and self._others_bytes:
                self.adopt()
                self._segments_seen = -1
                self._look_around(spool)
            if self._adopted is not None and (lost := self._adopted.drop_oldest()) is not None:
                self._account.settle(lost, "spool_full", own=False, on_disk=True)
                continue
            lost = spool.drop_oldest()
            if lost is None:
                return  # one segment that is sent and one that is written are always allowed
            self.on_disk -= lost
            self._account.settle(lost, "spool_full", on_disk=True)

    @property
    def _bytes(self) -> int:
        return self._others_bytes + sum(
            spool.size_bytes for spool in (self._spool, self._adopted) if spool is not None
        )

    def _look_around(self, spool: Spool) -> None:
        """Find out, once for each segment, how much other processes have in the directory."""
        if spool.segments_begun == self._segments_seen or self._state is None:
            return
        self._segments_seen = spool.segments_begun
        ours = tuple(f"{START}{one.spool_id}-" for one in (spool, self._adopted) if one is not None)
        others = [name for name in self._state.names(START) if not name.startswith(ours)]
        segments = sum(not name.endswith("-000000") for name in others)
        self._others_bytes = segments * self._segment_bytes

    def _lose_damaged(self, spans: int) -> None:
        self.on_disk -= spans
        self._account.settle(spans, "spool_damaged", on_disk=True)
