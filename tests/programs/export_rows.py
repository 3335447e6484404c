"""Exports made-up rows and says how much memory that took: FORMAT ROWS on the command line, JSON on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from otel_genapp.ledger.conversations import PAGE, ConversationRow, Place
from otel_genapp.read.export import Exports
from otel_genapp.read.reports.period import parse_day, range_of


def rows(number: int) -> Any:
    """What reads `number` rows, a nanosecond apart."""

    def read(
        *, from_ns: int, to_ns: int, after: Place | None = None, limit: int = PAGE
    ) -> tuple[ConversationRow, ...]:
        del to_ns
        start = 0 if after is None else after[0] - from_ns + 1
        return tuple(_row(from_ns, place) for place in range(start, min(start + limit, number)))

    return SimpleNamespace(conversations=SimpleNamespace(rows=read, count=lambda **_within: number))


def _row(from_ns: int, place: int) -> ConversationRow:
    return ConversationRow(
        id=f"m{place:032d}", at_ns=from_ns + place, user_id=f"u{place % 5000}", session_id=f"s{place // 4}",
        correlation_id=f"c{place:032d}", platform="telegram", intent="order_status", confidence=0.87,
        response_time_ms=1234.5, llm_calls=2, tokens_used=1500, cost_nano_usd=1_234_567, resolved=True,
        began_at_ns=from_ns + place,
    )  # fmt: skip


def resident_bytes() -> int:
    """The most memory the process has had, as the kernel counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")


def main(form: str, number: int) -> None:
    """Export and measure."""
    day = parse_day("2026-03-01", "day")
    small = Exports(rows(2000)).write(range_of(day, day), form)
    for _ in small.chunks:  # what is loaded once is no part of an export
        pass
    before, began_s, size = resident_bytes(), time.monotonic(), 0
    with open(os.devnull, "wb") as out:  # noqa: PTH123 - no file
        for chunk in Exports(rows(number)).write(range_of(day, day), form).chunks:
            size += out.write(chunk)
    answer = {
        "extra_bytes": resident_bytes() - before,
        "seconds": round(time.monotonic() - began_s, 1),
        "bytes": size,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main(sys.argv[1], int(sys.argv[2]))
