"""The ledger: records go to the journal before a call returns, and from there to the store.

Writing: `keep` appends on the host's thread; `settle` collects what the pipeline's thread has
priced, and `write` hands it to the store with how far into the journal that goes. Reading: `drain`
brings whatever any process of this state directory has written, living or dead, into the store
first. Stores count a record once, so it does not matter who is first.

While a store fails its records stay in the journal; only what no journal has taken waits in memory,
bounded and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from otel_genapp.errors import GenappError
from otel_genapp.ledger import codec
from otel_genapp.ledger.journal import Journal, Position
from otel_genapp.ledger.segments import Segment, read, segments
from otel_genapp.ledger.store import NOWHERE, Store
from otel_genapp.quiet import quiet
from otel_genapp.records import Record
from otel_genapp.state_directory import StateDirectory

MAINTAIN_S = 10.0
BATCH_LIMIT = 10_000
"""Priced records that wait for the store in memory; past them they are read from the journal again."""
UNJOURNALED_LIMIT = 10_000
"""Records no journal could take and no store either; past them the oldest are lost, counted."""

_guarded = quiet("ledger")

Price = Callable[[Record], Record]


class Ledger:
    """The records of one process on their way to a store that several may share.

    `price` is asked for records read from a journal, on the thread that reads; `count_stored(number)`
    hears of records this process brought into the store, `count_loss(what, reason)` of what is gone
    or cannot be read; `is_needed(name)` says whether somebody else still has to read that segment.
    """

    def __init__(
        self,
        store: Store,
        *,
        state: StateDirectory,
        journal: Journal | None,
        price: Price,
        count_stored: Callable[[int], None],
        count_loss: Callable[[str, str], None],
        is_needed: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self.store = store
        self.journal = journal
        self._state = state
        self._price = price
        self._count_stored = count_stored
        self._count_loss = count_loss
        self._is_needed = is_needed
        self._start()

    def _start(self) -> None:
        self._writing = threading.Lock()
        self._settling = threading.Lock()
        self._batch: list[Record] = []
        self._through: dict[str, int] = {}
        self._unjournaled: list[Record] = []
        self._behind = False
        self.failure = self.explanation = ""
        """The error of the store when it was asked last, and what it says if it is ours; empty where it did well."""

    def keep(self, record: Record, then: Callable[[Position | None], None]) -> None:
        """Make `record` safe, then call `then` with where it stands (None: nowhere); on the host's thread."""
        journal = self.journal
        if journal is None:
            then(None)
        else:
            journal.append(codec.encode(record), then=then)

    def settle(self, record: Record, position: Position | None) -> None:
        """Take a priced record of this process, in the journal's order."""
        with self._settling:
            if position is None:
                self._unjournaled.append(record)
                if len(self._unjournaled) > UNJOURNALED_LIMIT:
                    del self._unjournaled[0]
                    self._count_loss("llm_call", "store_unavailable")
            elif not self._behind:
                self._batch.append(record)
                self._through[position[0]] = position[1]
        if len(self._batch) > BATCH_LIMIT:
            self._fall_behind()

    def write(self, timeout_s: float = -1) -> bool:
        """Bring what was settled into the store; False where its turn did not come in time.

        Raises:
            Exception: the store's, when it cannot take them; they stay where they are.
        """
        if not self._writing.acquire(timeout=timeout_s):
            return False
        try:
            self._write()
        finally:
            self._writing.release()
        return True

    def drain(self, timeout_s: float) -> bool:
        """Bring everything every process had written when this was called into the store.

        False where that takes longer than `timeout_s` seconds: what is read then may be older.

        Raises:
            Exception: the store's, when it cannot take them.
        """
        deadline = time.monotonic() + timeout_s
        ends = segments(self._state) if self.journal is not None else ()
        if not self.write(max(timeout_s, 0)):
            return False
        if not ends:
            return True
        if not self._writing.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return False
        try:
            return self._drain(ends, deadline)
        finally:
            self._writing.release()

    def records_after(self, position: Position) -> Iterator[Record]:
        """What one journal holds beyond a position, priced; it may be there in part only."""
        name, start = position
        journal = name.rsplit("-", 1)[0]
        for segment in segments(self._state):
            if not segment.name.startswith(f"{journal}-") or segment.name < name:
                continue
            place = start if segment.name == name else 0
            while place < segment.size:
                part = read(self._state, segment, start=place)
                if part.position <= place:
                    break
                place = part.position
                for record in self._decoded(part.payloads):
                    yield self._price(record)

    @property
    def gathered(self) -> bool:
        """Whether there is something to write."""
        return bool(self._batch) or self.waiting

    @property
    def waiting(self) -> bool:
        """Whether records wait for a store that failed."""
        return self._behind or bool(self._unjournaled)

    def maintain(self) -> None:
        """Now and then: take what dead processes left.

        Raises:
            Exception: the store's.
        """
        if self.journal is not None:
            self.journal.keep_reserve()
        self.drain(MAINTAIN_S)

    def close(self) -> None:
        """Seal the journal: any other process can take what is left in it."""
        if self.journal is not None:
            self.journal.close()

    def restart(self) -> None:
        """Start over in the child of a fork: what the parent holds is the parent's."""
        self._start()
        if self.journal is not None:
            self.journal.restart()

    def _write(self) -> None:
        with self._settling:
            waiting, self._unjournaled = self._unjournaled, []
        if waiting:
            try:
                self._apply(waiting)
            except BaseException:
                with self._settling:
                    self._unjournaled = waiting + self._unjournaled
                raise
        try:
            if self._behind:
                self._behind = False  # what is settled from now on is in the batch, and perhaps drained too
                self._drain(segments(self._state), None)
            with self._settling:
                batch, through = self._batch, self._through
                self._batch, self._through = [], {}
            if batch:
                self._apply(batch, through)
        except BaseException:
            self._fall_behind()
            raise

    def _fall_behind(self) -> None:
        """Let go of what is in the journal as well; it is read from there when the store is back."""
        with self._settling:
            self._behind = True
            self._batch, self._through = [], {}

    def _drain(self, ends: Iterable[Segment], deadline: float | None) -> bool:
        known = self._positions()
        for segment in ends:
            start = known.get(segment.name, 0)
            while start < segment.size:
                if deadline is not None and time.monotonic() > deadline:
                    return False
                start = self._take_part(segment, start)
        self._remove_done(ends)
        return True

    def _take_part(self, segment: Segment, start: int) -> int:
        part = read(self._state, segment, start=start)
        for _ in range(part.torn):
            self._count_loss("journal", "torn")
        if part.position <= start:
            return segment.size  # the beginning of a record that is being written now
        records = [self._price(record) for record in self._decoded(part.payloads)]
        self._apply(records, {segment.name: part.position})
        return part.position

    def _apply(self, records: Sequence[Record], through: Mapping[str, int] = NOWHERE) -> None:
        with self._asking():
            new = self.store.apply(records, through=through)
        if new:
            self._count_stored(new)

    def _positions(self) -> Mapping[str, int]:
        with self._asking():
            return self.store.positions()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # What others' errors say may show what was written, or a password.
            self.failure = type(error).__name__
            self.explanation = str(error) if isinstance(error, GenappError) else ""
            raise
        self.failure = self.explanation = ""

    def _decoded(self, payloads: Iterable[bytes]) -> Iterable[Record]:
        for payload in payloads:
            try:
                yield codec.decode(payload)
            except codec.DecodeError:
                self._count_loss("llm_call", "unreadable")

    def _remove_done(self, ends: Iterable[Segment]) -> None:
        """Remove the segments nobody writes to and everybody has read."""
        sealed = [segment for segment in ends if segment.sealed]
        if not sealed:
            return
        known = self._positions()
        done = [
            segment.name
            for segment in sealed
            if known.get(segment.name, 0) >= segment.size and not self._is_needed(segment.name)
        ]
        gone = [name for name in done if self._state.remove(name)]
        if gone:
            self.store.forget(gone)
