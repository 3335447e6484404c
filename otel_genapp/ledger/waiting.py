"""Records on their way into a store, for somebody who looks on and must not bring them in.

The application's own processes drain journals into the store. A command must not: it may not have the
application's prices, and what it brought in would keep the wrong ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from otel_genapp.ledger import codec
from otel_genapp.ledger.segments import read, segments
from otel_genapp.ledger.store import Store
from otel_genapp.records import Record
from otel_genapp.state_directory import StateDirectory

T = TypeVar("T")
_TRIES = 50
_PAUSE_S = 0.02


class Waiting:
    """What lies in the journals of a state directory and not in the store; `price` is asked for each record."""

    def __init__(self, store: Store, state: StateDirectory, *, price: Callable[[Record], Record]) -> None:
        self._store = store
        self._state = state
        self._price = price

    def look(self, work: Callable[[Sequence[Record]], T]) -> T:
        """What `work` makes of them and of the store, as of one moment: nothing is in both, and nothing in neither.

        Raises:
            OSError: records were brought in all the time.
            Exception: the store's.
        """
        for attempt in range(_TRIES):
            known = dict(self._store.positions())
            records = tuple(self._records(known))
            found = work(records)
            if dict(self._store.positions()) == known:
                return found
            time.sleep(_PAUSE_S * attempt)
        raise OSError("the store is being written to all the time: try again")

    def _records(self, known: dict[str, int]) -> Iterator[Record]:
        for segment in segments(self._state):
            start = known.get(segment.name, 0)
            while start < segment.size:
                part = read(self._state, segment, start=start)
                if part.position <= start:
                    break
                start = part.position
                for payload in part.payloads:
                    with suppress(codec.DecodeError):  # of a newer version
                        yield self._price(codec.decode(payload))
