"""`llm_call` inside generators: closed anywhere, it ends once, quietly, and hides no later call."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current

from otel_genapp.capture.llm_call import llm_call
from otel_genapp.context import bind
from otel_genapp.records import Usage
from tests.builders import Tracing, producing
from tests.fakes import RecordingFamilies, eventually


@pytest.fixture
def tracing() -> Tracing:
    return Tracing()


@pytest.fixture(autouse=True)
def families(tracing: Tracing) -> Iterator[RecordingFamilies]:
    with producing(tracing) as running:
        yield running


@pytest.fixture(autouse=True)
def no_word_from_opentelemetry(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No "Failed to detach context", and no context left to the next test."""
    token = attach(Context())
    yield
    detach(token)
    assert [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith("opentelemetry")
    ] == []


def stream(model: str = "streamed", chunks: int = 3) -> Generator[int, None, None]:
    with llm_call(model, "p") as call:
        yield from call.chunks(range(chunks))
        call.usage(output=chunks)


async def astream(model: str = "streamed", chunks: int = 3) -> AsyncIterator[int]:
    with llm_call(model, "p") as call:
        for chunk in range(chunks):
            call.first_token()
            yield chunk
            await asyncio.sleep(0)
        call.usage(output=chunks)


def outcomes(tracing: Tracing) -> list[tuple[str, str, Usage]]:
    return [(call.model, call.status, call.usage) for call in tracing.calls]


COMPLETE = ("streamed", "success", Usage(output=3))
CUT = ("streamed", "cancelled", Usage())
PLAIN = ("plain", "success", Usage(input=1))


def plain_call() -> None:
    with llm_call("plain", "p") as call:
        call.usage(input=1)


def test_read_to_the_end(tracing: Tracing) -> None:
    """An exhausted stream is a success with its usage, and the consumer's context is its own again."""
    before = get_current()
    assert list(stream()) == [0, 1, 2]
    assert get_current() is before
    assert outcomes(tracing) == [COMPLETE]


def test_closed_by_its_consumer(tracing: Tracing) -> None:
    """A stream closed early is cancelled, once, and leaves nothing behind."""
    before = get_current()
    for _ in stream():
        break
    generator = stream()
    next(generator)
    generator.close()
    generator.close()
    assert get_current() is before
    assert outcomes(tracing) == [CUT, CUT]


def test_closed_in_another_thread(tracing: Tracing) -> None:
    """A stream begun here and closed by another thread ends quietly."""
    generator = stream()
    next(generator)
    closing = threading.Thread(target=generator.close)
    closing.start()
    closing.join()
    assert outcomes(tracing) == [CUT]


def test_closed_inside_another_call(tracing: Tracing) -> None:
    """Closing a stream while another context is current leaves that one in force."""
    generator = stream()
    next(generator)
    token = attach(Context())
    with bind(session_id="s1"):
        inside = get_current()
        generator.close()
        assert get_current() is inside
    detach(token)
    assert outcomes(tracing) == [CUT]


async def cleaned_up(tracing: Tracing) -> None:
    """Wait for the loop to have closed a stream its consumer left."""
    gc.collect()
    async with asyncio.timeout(5):
        while not tracing.calls:  # noqa: ASYNC110 - the loop's own clean-up sets no event
            await asyncio.sleep(0)


async def test_left_by_an_asynchronous_consumer(tracing: Tracing) -> None:
    """`break` in `async for`: the loop closes the stream in a task of its own, without a word."""
    async for _ in astream():
        break
    await cleaned_up(tracing)
    assert outcomes(tracing) == [CUT]


async def test_the_next_call_is_a_call_of_its_own(tracing: Tracing) -> None:
    """What an abandoned stream leaves in its consumer's context takes no later call, nor its ids."""
    with tracing.tracer().start_as_current_span("request") as request:
        async for _ in astream():
            break
        await cleaned_up(tracing)
        with bind(session_id="s1"):
            plain_call()
    assert outcomes(tracing) == [CUT, PLAIN]
    later = tracing.spans["chat plain"]
    assert later.parent is not None
    assert later.parent.span_id == request.get_span_context().span_id
    assert tracing.calls[1].session_id == "s1"


async def test_a_task_that_outlives_the_call(tracing: Tracing) -> None:
    """A task started inside a call and calling after its end makes calls of its own, nested ones merged."""
    release = asyncio.Event()

    async def summarise() -> None:
        await release.wait()
        with llm_call("outer", "p") as call:
            call.usage(input=1)
            with llm_call("inner", "p") as inner:
                inner.usage(output=2)

    with llm_call("first", "p") as call:
        call.usage(input=7)
        task = asyncio.create_task(summarise())
        await asyncio.sleep(0)
    release.set()
    await task
    assert outcomes(tracing) == [
        ("first", "success", Usage(input=7)),
        ("outer", "success", Usage(input=1, output=2)),
    ]
    assert tracing.spans["chat outer"].parent is None


async def test_a_task_inside_the_call_merges(tracing: Tracing) -> None:
    """A task that calls while the outer call is open is part of it."""

    async def ask() -> None:
        with llm_call("inner", "p") as inner:
            inner.usage(output=2)

    with llm_call("outer", "p"):
        await asyncio.create_task(ask())
    assert outcomes(tracing) == [("outer", "success", Usage(output=2))]


async def test_read_by_several_tasks(tracing: Tracing) -> None:
    """A stream whose every step runs in another task ends once and quietly."""
    generator = astream()

    async def step() -> int:
        return await anext(generator)

    received = [await asyncio.create_task(step()) for _ in range(3)]
    with pytest.raises(StopAsyncIteration):
        await generator.__anext__()
    assert received == [0, 1, 2]
    assert outcomes(tracing) == [COMPLETE]


def test_interleaved_streams_end_in_any_order(tracing: Tracing) -> None:
    """Two streams read in turns, the first ending first, leave no ended span current."""
    first, second = stream("first"), stream("second")
    next(first), next(second)
    assert list(first) == [1, 2]
    assert list(second) == [1, 2]
    assert not trace.get_current_span().is_recording()
    plain_call()
    assert ("plain", "success", Usage(input=1)) in outcomes(tracing)


def test_collected_with_a_cycle(tracing: Tracing) -> None:
    """A suspended stream that only a reference cycle holds ends when it is collected."""

    class Holder:
        def __init__(self) -> None:
            self.generator = stream()
            self.itself = self

    holder = Holder()
    next(holder.generator)
    del holder
    gc.collect()
    assert eventually(lambda: outcomes(tracing) == [CUT])
