"""How many different texts there were, in bounded memory."""

from __future__ import annotations

import heapq
from hashlib import blake2b

EXACT_UP_TO = 65_536
_SPACE = 2**64


class Distinct:
    """Counts different texts: exactly up to 65,536, beyond that to about half a per cent.

    It keeps the smallest of their hashes; how close together those lie says how many there are.
    """

    def __init__(self, *, keep: int = EXACT_UP_TO) -> None:
        self._keep = keep
        self._known: set[int] = set()
        self._largest: list[int] = []  # a heap of negated hashes
        self.is_exact = True

    def add(self, text: str) -> None:
        """Count a text, once."""
        hashed = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if hashed in self._known:
            return
        if len(self._known) < self._keep:
            heapq.heappush(self._largest, -hashed)
            self._known.add(hashed)
            return
        self.is_exact = False
        if hashed < -self._largest[0]:
            self._known.discard(-heapq.heapreplace(self._largest, -hashed))
            self._known.add(hashed)

    @property
    def number(self) -> int:
        """How many there were."""
        if self.is_exact:
            return len(self._known)
        return round((self._keep - 1) * _SPACE / -self._largest[0])
