"""Generators as actions: sent to, thrown into, closed, cancelled or left alone, all passes through."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pytest

from otel_genapp import hub
from otel_genapp.capture.actions import action_tracking_decorator
from otel_genapp.capture.finalizers import measure_put_off, watch_collections
from tests.action_counts import counts, errors, pause, run
from tests.fakes import RecordingFamilies, telemetry


@pytest.fixture
def families() -> Iterator[RecordingFamilies]:
    with telemetry() as running:
        yield running


@action_tracking_decorator("stream_task")
def stream(log: list[object]) -> Generator[int, object, str]:
    try:
        for number in range(3):
            sent = yield number
            log.append(sent)
    except KeyError as error:
        log.append(error)
        yield 99
    finally:
        log.append("closed")
    return "returned"


def test_generators_run_through(families: RecordingFamilies) -> None:
    """Values in both directions and the return value pass; the end is a success."""
    log: list[object] = []
    generator = stream(log)
    assert inspect.isgeneratorfunction(stream)
    assert [next(generator), generator.send("a"), generator.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as end:
        generator.send("c")
    assert (end.value.value, log) == ("returned", ["a", "b", "c", "closed"])
    assert counts(families) == {"stream_task success": 1}


def test_generators_take_exceptions(families: RecordingFamilies) -> None:
    """A thrown exception reaches the generator as it is; handled, it is no failure."""
    log: list[object] = []
    generator = stream(log)
    next(generator)
    error = KeyError("k")
    assert generator.throw(error) == 99
    assert list(generator) == []
    assert log == [error, "closed"]
    unhandled = ValueError("no")
    other = stream(log)
    next(other)
    with pytest.raises(ValueError, match="no") as caught:
        other.throw(unhandled)
    assert caught.value is unhandled
    assert counts(families) == {"stream_task success": 1, "stream_task fail": 1}
    assert errors(families) == [("ValueError", "shop-bot")]


def test_generators_closed_early_and_never_begun(families: RecordingFamilies) -> None:
    """Closing early runs the generator's clean-up and is a failure; one never begun is nothing."""
    log: list[object] = []
    begun, never = stream(log), stream(log)
    next(begun)
    begun.close()
    never.close()
    del never
    assert (log, counts(families), errors(families)) == (["closed"], {"stream_task fail": 1}, [])


def test_generators_in_a_collection(families: RecordingFamilies) -> None:
    """A generator the garbage collector closes is measured later, not inside the collection."""
    undo = watch_collections()
    holder: dict[str, Any] = {"generator": stream([])}
    holder["itself"] = holder
    next(holder["generator"])
    del holder
    gc.collect()
    undo()
    running = hub.active
    assert running is not None
    assert counts(families) == {}
    measure_put_off(running)
    assert counts(families) == {"stream_task fail": 1}


@action_tracking_decorator("astream_task")
async def astream(log: list[object]) -> AsyncGenerator[int, object]:
    try:
        for number in range(3):
            await pause()
            log.append((yield number))
    except KeyError as error:
        log.append(error)
        yield 99
    finally:
        await pause()
        log.append("closed")


def test_asynchronous_generators_run_through(families: RecordingFamilies) -> None:
    """Values in both directions pass through an asynchronous generator; the end is a success."""
    log: list[object] = []
    generator = astream(log)
    assert inspect.isasyncgenfunction(astream)
    assert [run(anext(generator)), run(generator.asend("a")), run(generator.asend("b"))] == [0, 1, 2]
    with pytest.raises(StopAsyncIteration):
        run(generator.asend("c"))
    assert log == ["a", "b", "c", "closed"]
    assert counts(families) == {"astream_task success": 1}


def test_asynchronous_generators_take_exceptions(families: RecordingFamilies) -> None:
    """A thrown exception reaches the generator as it is, cancellations too."""
    log: list[object] = []
    generator = astream(log)
    run(anext(generator))
    error = KeyError("k")
    assert run(generator.athrow(error)) == 99
    with pytest.raises(StopAsyncIteration):
        run(anext(generator))
    assert log == [error, "closed"]
    for unhandled in (ValueError("no"), asyncio.CancelledError()):
        other = astream(log)
        run(anext(other))
        with pytest.raises(type(unhandled)) as caught:
            run(other.athrow(unhandled))
        assert caught.value is unhandled
    assert counts(families) == {"astream_task success": 1, "astream_task fail": 2}
    assert errors(families) == [("ValueError", "shop-bot")]


@pytest.mark.parametrize("steps", range(4))
def test_asynchronous_generators_cancelled_at_every_await(families: RecordingFamilies, steps: int) -> None:
    """A cancellation while the consumer waits for any step reaches the generator's clean-up."""
    log: list[object] = []
    generator = astream(log)
    for _ in range(steps):
        run(anext(generator))
    waiting = generator.__anext__()
    waiting.send(None)
    cancellation = asyncio.CancelledError()

    def cancel() -> None:
        waiting.throw(cancellation)
        waiting.send(None)

    with pytest.raises(asyncio.CancelledError) as caught:
        cancel()
    assert caught.value is cancellation
    assert counts(families) == {"astream_task fail": 1}


async def test_asynchronous_generators_closed_early(families: RecordingFamilies) -> None:
    """`aclose`, and `break` with the loop's own clean-up, run the generator's clean-up and fail it."""
    closed = asyncio.Event()

    @action_tracking_decorator("live_task")
    async def live() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    generator = live()
    await anext(generator)
    await generator.aclose()
    assert (closed.is_set(), counts(families)) == (True, {"live_task fail": 1})
    closed.clear()
    async for _ in live():
        break
    await closed.wait()
    await asyncio.sleep(0)
    assert counts(families) == {"live_task fail": 2}


def test_without_telemetry_generators_work() -> None:
    """Without running telemetry a decorated generator is what it wraps."""
    assert list(stream([])) == [0, 1, 2]
