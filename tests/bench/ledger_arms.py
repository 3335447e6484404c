"""What keeping count of a call costs the thread that made it: ours, and the event collector of old designs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.bench.arm import Arm, expect

SESSIONS = 50
STORED_AT_ONCE = 500


def keep(folder: Path) -> Arm:
    """A record into the journal and onto the queue of the pipeline's thread: all that the host's thread does."""
    from otel_genapp.ledger.journal import Journal
    from otel_genapp.ledger.keeping import Ledger
    from otel_genapp.ledger.segments import read, segments
    from otel_genapp.ledger.store_memory import MemoryStore
    from otel_genapp.state_directory import StateDirectory

    state = StateDirectory(Path(mkdtemp(dir=folder)) / "bench-dev")
    queue: list[Any] = []
    ledger = Ledger(
        MemoryStore(),
        state=state,
        journal=Journal(state, on_loss=queue.append),
        price=lambda record: record,
        count_stored=queue.append,
        count_loss=lambda *_: None,
    )
    record = _record()

    def run(count: int) -> None:
        for _ in range(count):
            ledger.keep(record, then=queue.append)

    def check(total: int) -> None:
        expect("records queued", len(queue), total)
        written = 0
        for segment in segments(state):
            start = 0
            while start < segment.size:
                part = read(state, segment, start=start)
                written, start = written + len(part.payloads), part.position
        expect("records written", written, total)

    return Arm(run=run, check=check)


def aggregate(_folder: Path) -> Arm:
    """What sums cost the host's thread: a record onto the queue of the pipeline's thread, which adds it up."""
    from opentelemetry.context import Context

    from otel_genapp.pipeline.folds import Folds, Position
    from otel_genapp.records import Record

    folded = 0

    def fold(record: Record, context: Context, *, position: Position | None) -> None:
        nonlocal folded
        folded += 1

    folds = Folds(fold)
    record, context = _record(), Context()

    def run(count: int) -> float:
        began_ns = time.thread_time_ns()
        for _ in range(count):
            folds.append(record, context)
            folds.help()
        return (time.thread_time_ns() - began_ns) / count / 1000

    def check(total: int) -> None:
        folds.drain(10)
        expect("records folded", folded, total)

    return Arm(run=run, check=check)


def store(folder: Path) -> Arm:
    """What the pipeline's thread does later: the records of many calls into SQLite, on disk, with all sums."""
    from otel_genapp.ledger.sql import SQLStore

    kept = SQLStore.open(f"sqlite:///{Path(mkdtemp(dir=folder)) / 'ledger.db'}")
    record, number = _record(), 0

    def run(count: int) -> float:
        nonlocal number
        records = [
            replace(record, call_id=f"0123456789ab-{one:x}", session_id=f"chat-{one % SESSIONS}")
            for one in range(number, number + count)
        ]
        number += count
        began_s = time.perf_counter()
        for first in range(0, count, STORED_AT_ONCE):
            kept.apply(records[first : first + STORED_AT_ONCE], through={"bench": number})
        return (time.perf_counter() - began_s) / count * 1e6

    def check(total: int) -> None:
        expect("calls in the store", kept.totals().overall.calls, total)

    return Arm(run=run, check=check, end=kept.close)


def event_bus(_folder: Path) -> Arm:
    """Two Pydantic events a call, on an asyncio bus that awaits a subscriber with a list and sums for each session."""
    from pydantic import BaseModel, Field

    class Event(BaseModel):
        event_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
        timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
        correlation_id: str | None = None
        session_id: str
        model: str
        provider: str

    class Started(Event):
        pass

    class Completed(Event):
        duration_ms: float
        prompt_tokens: int
        completion_tokens: int
        has_tools: bool = False

    subscribers: dict[type[Event], list[Callable[[Any], Awaitable[None]]]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    async def publish(event: Event) -> None:
        for subscriber in subscribers[type(event)]:
            await subscriber(event)

    async def started(event: Started) -> None:
        events[event.session_id].append(event)
        sums[event.session_id]["started"] += 1

    async def completed(event: Completed) -> None:
        events[event.session_id].append(event)
        mine = sums[event.session_id]
        mine["completed"] += 1
        mine["duration_ms"] += event.duration_ms
        mine["prompt_tokens"] += event.prompt_tokens
        mine["completion_tokens"] += event.completion_tokens

    subscribers[Started].append(started)
    subscribers[Completed].append(completed)

    async def calls(count: int) -> None:
        for number in range(count):
            said: dict[str, Any] = {"session_id": f"chat-{number % SESSIONS}", "correlation_id": "0" * 32}
            await publish(Started(**said, model="gpt-4o", provider="openai"))
            await publish(
                Completed(
                    **said, model="gpt-4o", provider="openai",
                    duration_ms=812.5, prompt_tokens=61, completion_tokens=198,
                )
            )  # fmt: skip

    def run(count: int) -> None:
        asyncio.run(calls(count))

    def check(total: int) -> None:
        expect("calls completed", sum(one["completed"] for one in sums.values()), total)

    return Arm(run=run, check=check)


ARMS: dict[str, Callable[[Path], Arm]] = {
    "keep": keep, "aggregate": aggregate, "store": store, "event_bus": event_bus,
}  # fmt: skip


def _record() -> Any:
    from otel_genapp.records import LLMCall, Usage

    return LLMCall(
        call_id="0123456789ab-1f", started_at_ns=1_800_000_000_000_000_000, duration_ms=812.5,
        provider="openai", model="gpt-4o", response_model="gpt-4o-2024-08-06",
        usage=Usage(61, 198, 0, None, 0), finish_reasons=("stop",), response_id="chatcmpl-0123456789",
        attempts=("200",), session_id="chat-42", correlation_id="0" * 32, trace_id="0" * 32, span_id="0" * 16,
    )  # fmt: skip
