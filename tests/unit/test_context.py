"""Whom work is for, and how that travels through tasks, threads, executors and headers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_genapp.context import (
    Bound,
    accepted_id,
    bind,
    bound_in,
    clean_id,
    correlation_id_in,
    current,
    entry_context,
    failure_scope,
    first_report,
    forget_failures,
    leave,
    remembered_ids,
    start_in_no_context,
)

TRACE_ID, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
SPAN = NonRecordingSpan(
    SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
)


@pytest.fixture(autouse=True)
def empty_context() -> Iterator[None]:
    """Each test starts with nothing in force and ends so."""
    token = attach(Context())
    before = get_current()
    yield
    assert get_current() is before
    detach(token)


def test_nothing_is_bound() -> None:
    """Without a bind and a span every id is None."""
    assert (current(), bound_in(None), correlation_id_in(None)) == (Bound(), Bound(), None)


def test_binds_nest() -> None:
    """An inner bind keeps what it does not name, and ends with its block."""
    with bind(correlation_id="order-7", session_id="s1") as outer:
        with bind(session_id="s2", user_id=42) as inner:
            assert current() == inner == Bound("order-7", "s2", "42")
        assert current() == outer == Bound("order-7", "s1", None)
        with bind():
            assert current() == outer
    assert current() == Bound()


def test_the_trace_id_stands_in() -> None:
    """Where no correlation id is bound it is the current trace id; a bound one wins."""
    with trace.use_span(SPAN):
        assert current() == Bound(f"{TRACE_ID:032x}")
        assert bound_in(None) == Bound()
        with bind(session_id="s1"):
            assert current() == Bound(f"{TRACE_ID:032x}", "s1")
        with bind(correlation_id="order-7") as bound:
            assert current() == bound == Bound("order-7")


def test_one_bind_may_be_entered_again() -> None:
    """The same object entered within itself and by several threads ends where each began."""
    binding = bind(session_id="s1")
    seen: list[Bound] = []
    entered, leave_now = threading.Event(), threading.Event()

    def work() -> None:
        with binding:
            entered.set()
            leave_now.wait(5)
            seen.append(current())
        seen.append(current())

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(5)
    with binding, bind(user_id="u1"), binding:
        seen.append(current())
    seen.append(current())
    leave_now.set()
    thread.join()
    assert seen == [Bound(None, "s1", "u1"), Bound(), Bound(None, "s1"), Bound()]


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_bind_lets_everything_through(error: BaseException) -> None:
    """What leaves the block is what was raised in it, and the ids are gone."""
    with pytest.raises(type(error)) as caught, bind(session_id="s1"):
        raise error
    assert (caught.value is error, current()) == (True, Bound())


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text of me")


def test_ids_that_have_no_text_are_left_out(expected_own_errors: list[Any]) -> None:
    """An id that cannot be read costs the binding, not the block."""
    with bind(session_id="s1"), bind(session_id=Hostile()):
        assert current() == Bound(None, "s1", None)
    assert [own.site for own in expected_own_errors] == ["context"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        (0, "0"),
        (-1001234567890, "-1001234567890"),
        ("x" * 1000, "x" * 256),
        ("имя", "имя"),
        ("half \ud800", "half ?"),
        ("x" * 255 + "\ud800", "x" * 255 + "?"),
    ],
)
def test_clean_ids(value: object, text: str | None) -> None:
    """An application's id is any value, as text of at most 256 characters that can be encoded."""
    assert clean_id(value) == text


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("order-7", True),
        ("a" * 128, True),
        ("A-Z.a_z:09", True),
        (f"{TRACE_ID:032x}", True),
        ("123e4567-e89b-12d3-a456-426614174000", True),
        (None, False),
        ("", False),
        ("a" * 129, False),
        ("two words", False),
        ("new\nline", False),
        ("order-7\n", False),
        ("ключ", False),
        ("a/b", False),
        ("sk-" + "proj-" + "a1B2c3D4" * 6, False),
    ],
)
def test_accepted_ids(value: str | None, accepted: bool) -> None:
    """A stranger may choose plain characters, no secret."""
    assert accepted_id(value) == (value if accepted else None)


async def test_tasks_and_to_thread() -> None:
    """Tasks and `to_thread` carry the binding they were started in, and change nobody else's."""

    async def work() -> Bound:
        with bind(user_id="inner"):
            await asyncio.sleep(0)
            return current()

    with bind(session_id="s1"):
        first, second, third = await asyncio.gather(work(), asyncio.to_thread(current), work())
        assert current() == Bound(None, "s1")
    assert (first, second, third) == (
        Bound(None, "s1", "inner"),
        Bound(None, "s1"),
        Bound(None, "s1", "inner"),
    )


def test_threads_and_executors() -> None:
    """With the official threading instrumentation plain threads, timers and executors carry it too."""
    seen: list[Bound] = []

    def look() -> None:
        seen.append(current())

    ThreadingInstrumentor().instrument()
    try:
        with ThreadPoolExecutor(1) as pool:
            for session in ("s1", "s2"):
                with bind(session_id=session):
                    thread, timer = threading.Thread(target=look), threading.Timer(0.0, look)
                    for started in (thread, timer):
                        started.start()
                        started.join()
                    pool.submit(look).result()
            pool.submit(look).result()
    finally:
        ThreadingInstrumentor().uninstrument()
    assert seen == [Bound(None, "s1")] * 3 + [Bound(None, "s2")] * 3 + [Bound()]


def test_leaving_elsewhere_changes_nothing() -> None:
    """A context left where another one is current, or in a copy of its place, is left alone, silently."""
    outer = get_current()
    inner = context.set_value("k", 1)
    token = attach(inner)
    other = attach(context.set_value("k", 2))
    leave(token, inner)
    assert context.get_value("k") == 2
    detach(other)
    copied: list[object] = []

    def leave_in_a_copy() -> None:
        leave(token, inner)
        copied.append(context.get_value("k"))

    context_copy = __import__("contextvars").copy_context()
    context_copy.run(leave_in_a_copy)
    assert copied == [1]
    leave(token, inner)
    assert get_current() is outer


def test_a_request_starts_empty() -> None:
    """A request's context holds its own ids and nothing of the request before it."""
    with bind(session_id="previous", user_id="previous"):
        entered = entry_context(correlation_id="order-7", session_id="s1", peer_trusted=True)
        assert bound_in(entered) == Bound("order-7", "s1")
        stranger = entry_context(correlation_id="order-7", session_id="s1", peer_trusted=False)
        assert bound_in(stranger) == Bound("order-7")
        assert bound_in(entry_context(correlation_id=None, session_id=None, peer_trusted=True)) == Bound()


def test_an_error_is_reported_once_in_a_scope() -> None:
    """Within a scope each exception object is new once; a scope in force is not opened twice."""
    first, second = ValueError("no"), ValueError("no")
    assert [first_report(first), first_report(first)] == [True, True]
    scope = failure_scope()
    assert scope is not None
    token = attach(scope)
    assert failure_scope() is None
    answers = [first_report(error) for error in (first, second, first, second)]
    many = [ValueError(str(number)) for number in range(100)]
    answers += [first_report(error) for error in many for _ in range(2)]
    detach(token)
    assert answers == [True, True, False, False] + [True, False] * 100


def test_errors_are_let_go() -> None:
    """A scope that ended holds no error, and with it no frame of the application."""
    scope = failure_scope()
    assert scope is not None
    token = attach(scope)
    first_report(ValueError("no"))
    detach(token)
    forget_failures(scope)
    assert first_in(scope, ValueError("no"))
    forget_failures(Context())


def first_in(scope: Context, error: Exception) -> bool:
    token = attach(scope)
    answer = first_report(error)
    detach(token)
    return answer


def test_threads_of_ours_start_in_no_context() -> None:
    """With threads that carry their starter's context ours carry none, and the starter keeps his."""
    seen: list[Bound] = []
    ThreadingInstrumentor().instrument()
    try:
        with bind(session_id="s1"):
            thread = threading.Thread(target=lambda: seen.append(current()))
            start_in_no_context(thread)
            thread.join()
            seen.append(current())
    finally:
        ThreadingInstrumentor().uninstrument()
    assert seen == [Bound(), Bound(None, "s1")]


class RefusingError(Exception):
    """An error that takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(name)

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        raise AttributeError("planted")


def passed_out(error: BaseException, **ids: str) -> Mapping[str, str]:
    """What `error` remembers after it has left a `bind`."""
    with suppress(BaseException), bind(**ids):
        raise error
    return remembered_ids(error)


def test_an_error_remembers_its_ids() -> None:
    """The innermost ids stay while it passes out; of another piece of work it takes the new ones."""
    error = ValueError("no")
    assert remembered_ids(error) == {}
    with suppress(ValueError), bind(session_id="s1"):
        passed_out(error, correlation_id="c1")
        raise error
    assert remembered_ids(error) == {"session_id": "s1", "correlation_id": "c1"}
    assert passed_out(error, session_id="s2") == {"session_id": "s2"}
    assert passed_out(asyncio.CancelledError(), session_id="s3") == {"session_id": "s3"}


def test_an_error_that_refuses_is_left_alone() -> None:
    """One that takes no attributes passes as it is, and so does one that is none of the application's."""
    assert passed_out(RefusingError("no"), session_id="s1") == {}
    assert passed_out(GeneratorExit(), session_id="s1") == {}
