"""The ledger of the fake server: what it really answered, and sums over it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request the server answered, written when its answer was sent or its fault happened.

    Token counts are those the client was *told*: None where the usage was not sent, was cut off,
    or there was an error; of a broken stream those of its last usage (Anthropic's and Gemini's
    tell some early). The input includes what is cached and written to the cache, however the
    protocol counts. `protocol` is the wire format, as in `LLMRequest`. `outcome` is `ok`; `no_usage` (complete, tokens not told: the fault, or
    a stream that did not ask); `error` (HTTP status of 400 or more); the kind of a fault (`cut`,
    `error_in_stream`, `malformed_json`, `hang`); `gone` (the client left before the end); or
    `closed` (the server was closed before the end). `status` is 0 where none was sent. Times are
    seconds of `time.monotonic()`.
    """

    request_id: str
    response_id: str | None = None
    operation: str
    protocol: str = "chat"
    session: str | None
    model: str
    stream: bool
    attempt: int
    status: int
    outcome: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    tool_calls: tuple[str, ...] = ()
    bytes_sent: int
    started_s: float
    ended_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether the client got a complete answer."""
        return self.outcome in {"ok", "no_usage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over a ledger. Tokens are those told; tool calls those of complete answers."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0

    @classmethod
    def of(cls, ledger: Iterable[Served]) -> Totals:
        """The sums over `ledger`."""
        entries = tuple(ledger)
        succeeded = sum(served.succeeded for served in entries)
        return cls(
            requests=len(entries),
            succeeded=succeeded,
            failed=len(entries) - succeeded,
            input_tokens=sum(served.input_tokens or 0 for served in entries),
            output_tokens=sum(served.output_tokens or 0 for served in entries),
            cached_tokens=sum(served.cached_tokens or 0 for served in entries),
            cache_write_tokens=sum(served.cache_write_tokens or 0 for served in entries),
            reasoning_tokens=sum(served.reasoning_tokens or 0 for served in entries),
            tool_calls=sum(len(served.tool_calls) for served in entries if served.succeeded),
        )

    def as_dict(self) -> dict[str, int]:
        """The sums by name."""
        return asdict(self)


class Ledger:
    """Entries in the order they were finished, mirrored to a file of JSON lines if asked."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.lock = threading.Condition()
        """Held while the last bytes of an answer are sent and its entry is written.

        So whoever has read an answer to its end finds its entry.
        """
        self._entries: list[Served] = []
        self._path = path
        self._file: int | None = None

    def open(self) -> None:
        """Open the file, if there is to be one.

        Raises:
            OSError: it cannot be opened for writing.
        """
        if self._path is not None and self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, served: Served) -> None:
        """Write an entry; the caller holds `lock`."""
        self._entries.append(served)
        self.lock.notify_all()
        if self._file is not None:
            os.write(self._file, json.dumps(asdict(served)).encode() + b"\n")

    def entries(self) -> tuple[Served, ...]:
        """A copy of the entries."""
        with self.lock:
            return tuple(self._entries)

    def take(self) -> tuple[Served, ...]:
        """The entries, which are let go of."""
        with self.lock:
            taken = tuple(self._entries)
            self._entries.clear()
            return taken

    def wait_for(self, count: int, *, timeout_s: float) -> tuple[Served, ...]:
        """A copy of the entries as soon as there are `count`.

        Raises:
            TimeoutError: there are fewer after `timeout_s`.
        """
        with self.lock:
            if not self.lock.wait_for(lambda: len(self._entries) >= count, timeout_s):
                raise TimeoutError(
                    f"{len(self._entries)} of {count} requests in the ledger after {timeout_s} s"
                )
            return tuple(self._entries)

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def read_ledger(path: str | os.PathLike[str]) -> tuple[Served, ...]:
    """The entries a server has written to its ledger file so far.

    Raises:
        OSError: the file cannot be read.
    """
    lines = Path(path).read_bytes().splitlines(keepends=True)
    # The last line may still be on its way to the file.
    return tuple(_served(json.loads(line)) for line in lines if line.endswith(b"\n"))


def _served(written: dict[str, Any]) -> Served:
    known = {item.name for item in fields(Served)}
    given = {name: value for name, value in written.items() if name in known}
    return Served(**{**given, "tool_calls": tuple(given["tool_calls"])})
