"""Actions: whatever a function is and however it ends, one count, and nothing of it changed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from opentelemetry.context import Context, get_current

from otel_genapp import hub, semconv
from otel_genapp.capture.actions import (
    action_suffix_problem,
    action_tracking,
    action_tracking_decorator,
    record_error,
)
from otel_genapp.context import entry_context
from tests.action_counts import counts, errors, pause
from tests.builders import Metering
from tests.fakes import Measurement, RecordingFamilies, hub_for, telemetry

ERRORS: tuple[BaseException, ...] = (
    ValueError("no"),
    StopIteration("odd"),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    ExceptionGroup("several", [KeyError("k")]),
)


@pytest.fixture(autouse=True)
def no_announced_actions() -> Iterator[None]:
    """Actions decorated here are not announced by later tests."""
    known = dict(hub.announced_actions)
    yield
    hub.announced_actions.clear()
    hub.announced_actions.update(known)


@pytest.fixture
def families() -> Iterator[RecordingFamilies]:
    with telemetry() as running:
        yield running


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_blocks_let_everything_through(families: RecordingFamilies, error: BaseException) -> None:
    """What leaves a block is the very same object, and the block has failed."""
    with pytest.raises(type(error)) as caught, action_tracking("save_task"):
        raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert counts(families) == {"save_task fail": 1}
    expected = [(type(error).__qualname__, "shop-bot")] if isinstance(error, Exception) else []
    assert errors(families) == expected


def test_a_block_and_its_tracker(families: RecordingFamilies) -> None:
    """Sizes add up; `to_fail` and `to_success` decide where no exception does."""
    with action_tracking("read_task") as tracker:
        tracker.size(3)
        tracker.size(0.5)
    with action_tracking("read_task") as tracker:
        tracker.to_fail()
    with action_tracking("read_task") as tracker:
        tracker.to_fail()
        tracker.to_success()
    assert counts(families) == {"read_task success": 2, "read_task fail": 1}
    assert families.of("action_size") == [Measurement("action_size", 3.5, ("read_task",))]
    assert errors(families) == []


@pytest.mark.parametrize(
    ("amount", "size"),
    [
        (5, 5), (5.5, 5.5), ("12", 12), (Decimal("1.5"), 1.5), (True, 1), (0, 0),
        (None, 0), ("many", 0), (-1, 0), (float("nan"), 0), (float("inf"), 0), ([], 0), (10**400, 0), (1j, 0),
    ],
)  # fmt: skip
def test_junk_sizes_are_ignored(families: RecordingFamilies, amount: Any, size: float) -> None:
    """What is no size of at least 0 adds nothing and raises nothing."""
    with action_tracking("read_task") as tracker:
        tracker.size(amount)
    assert [one.value for one in families.of("action_size")] == ([size] if size else [])


def test_nested_actions_count_one_error_once(families: RecordingFamilies) -> None:
    """An exception through three actions is three failures and one error."""
    with pytest.raises(ValueError, match="no"), action_tracking("a_task"), action_tracking("b_task"):
        action_tracking_decorator("c_task")(raising(ValueError("no")))()
    assert counts(families) == {"c_task fail": 1, "b_task fail": 1, "a_task fail": 1}
    assert errors(families) == [("ValueError", "shop-bot")]


def test_many_errors_in_one_action_count_once_each(families: RecordingFamilies) -> None:
    """However many exceptions an action handles, each that passed nested ones is one error."""
    with action_tracking("outer_task"):
        for number in range(40):
            with pytest.raises(KeyError), action_tracking("middle_task"), action_tracking("inner_task"):
                raise KeyError(number)
    assert errors(families) == [("KeyError", "shop-bot")] * 40


class LostError(Exception):
    """An error that can be watched; a plain one takes no weak reference."""


def test_an_ended_action_keeps_no_error(families: RecordingFamilies) -> None:
    """A context copied inside an action, as a task's is, does not hold on to what went wrong there."""

    def fail() -> tuple[Context, weakref.ref[LostError]]:
        lost = LostError()
        watched = weakref.ref(lost)
        with action_tracking("outer_task"):
            copied = get_current()
            with suppress(LostError), action_tracking("inner_task"):
                raise lost
        return copied, watched

    _copied, watched = fail()
    gc.collect()
    assert watched() is None
    assert errors(families) == [("LostError", "shop-bot")]


def test_an_error_the_request_counted_too(families: RecordingFamilies) -> None:
    """Within a request an error counted by an action is not counted again by what comes after."""
    error = ValueError("no")

    def handle() -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="no"), action_tracking("menu_handler"):
                raise error

    token = hub_context()
    try:
        handle()
    finally:
        token()
    assert errors(families) == [("ValueError", "shop-bot")]


def hub_context() -> Callable[[], None]:
    """Be inside a request; returns what leaves it."""
    from opentelemetry.context import attach, detach

    token = attach(entry_context(correlation_id=None, session_id=None, peer_trusted=False))
    return lambda: detach(token)


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def test_functions(families: RecordingFamilies) -> None:
    """A decorated function keeps its name, arguments, result and exception."""
    result = object()

    @action_tracking_decorator("add_task")
    def add(first: int, *rest: int, key: object = None) -> tuple[Any, ...]:
        """The documentation."""
        return (first, rest, key, result)

    assert (add.__name__, add.__doc__, inspect.signature(add).parameters["first"].name) == (
        "add",
        "The documentation.",
        "first",
    )
    assert add(1, 2, 3, key=result) == (1, (2, 3), result, result)
    untyped: Any = add
    with pytest.raises(TypeError, match="first"):
        untyped()
    assert counts(families) == {"add_task success": 1, "add_task fail": 1}


def test_the_name_is_the_functions_own(families: RecordingFamilies) -> None:
    """Without a name the function's counts."""

    @action_tracking_decorator()
    def digest_task() -> None:
        pass

    digest_task()
    assert counts(families) == {"digest_task success": 1}


class Desk:
    """Functions of every other kind."""

    @action_tracking_decorator("below_task")
    @staticmethod
    def below(value: int) -> int:
        return value

    @staticmethod
    @action_tracking_decorator("above_task")
    def above(value: int) -> int:
        return value

    @action_tracking_decorator("class_task")
    @classmethod
    def of_class(cls, value: int) -> tuple[type, int]:
        return cls, value

    @action_tracking_decorator
    def bare_task(self, value: int) -> tuple[Desk, int]:
        return self, value

    async def __call__(self, value: int) -> int:
        await asyncio.sleep(0)
        return value


async def test_functions_of_every_kind(families: RecordingFamilies) -> None:
    """Static and class methods, bare decoration and objects that can be called are tracked as they are."""
    desk = Desk()
    bare: Any = desk.bare_task
    of_class: Any = Desk.of_class
    assert (Desk.below(1), desk.below(2), desk.above(3)) == (1, 2, 3)
    assert (of_class(4), bare(5)) == ((Desk, 4), (desk, 5))
    tracked = action_tracking_decorator("object_task")(desk)
    waiting = tracked(6)
    assert "object_task success" not in counts(families)
    assert await waiting == 6
    assert counts(families) == {
        "below_task success": 2,
        "above_task success": 1,
        "class_task success": 1,
        "bare_task success": 1,
        "object_task success": 1,
    }


@action_tracking_decorator("ask_llm_call")
async def ask(awaits: int) -> object:
    last: object = None
    for number in range(awaits):
        last = await pause(number)
    return last


def drive(coroutine: Coroutine[Any, Any, Any], steps: int) -> list[object]:
    """What the coroutine waits for in its first steps."""
    return [coroutine.send(None if number == 0 else f"sent {number}") for number in range(steps)]


def test_coroutines(families: RecordingFamilies) -> None:
    """A decorated coroutine function is one, and passes values both ways."""
    assert inspect.iscoroutinefunction(ask)
    coroutine = ask(3)
    assert drive(coroutine, 3) == [0, 1, 2]
    assert counts(families) == {}
    with pytest.raises(StopIteration) as end:
        coroutine.send("last")
    assert end.value.value == "last"
    assert counts(families) == {"ask_llm_call success": 1}


@pytest.mark.parametrize("at", range(4))
def test_coroutines_cancelled_at_every_await(families: RecordingFamilies, at: int) -> None:
    """A cancellation at any await is delivered as it is, and is a failure without an error."""
    coroutine = ask(4)
    drive(coroutine, at + 1)
    cancellation = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError) as caught:
        coroutine.throw(cancellation)
    assert caught.value is cancellation
    assert (counts(families), errors(families)) == ({"ask_llm_call fail": 1}, [])


def test_series_of_decorated_actions_start_at_zero() -> None:
    """Decorated before telemetry runs or after, both statuses of an action show 0 before its first call."""
    metering = Metering()

    @action_tracking_decorator("early_task")
    def early() -> None:
        pass

    running = hub_for(metering.instruments)
    hub.set_active(running)
    hub.show_actions(running, ("early_task",))

    @action_tracking_decorator("late_task")
    def late() -> None:
        pass

    hub.set_active(None)
    assert metering.samples("genapp_action_count_total") == {
        (("name", name), ("status", status)): 0.0
        for name in ("early_task", "late_task")
        for status in (semconv.SUCCESS, semconv.FAIL)
    }
    assert {"early_task", "late_task"} <= set(hub.announced_actions)


def test_without_telemetry_everything_works() -> None:
    """Without running telemetry actions are what they wrap."""
    with action_tracking("a_task") as tracker:
        tracker.size(1)
    with pytest.raises(ValueError, match="no"):
        action_tracking_decorator("b_task")(raising(ValueError("no")))()
    record_error("Timeout", "payments")


async def test_async_with(families: RecordingFamilies) -> None:
    """A block works in `async with` as well."""
    with pytest.raises(ValueError, match="no"):
        async with action_tracking("a_task"):
            raise ValueError("no")
    assert (counts(families), errors(families)) == ({"a_task fail": 1}, [("ValueError", "shop-bot")])


def test_errors_by_hand(families: RecordingFamilies) -> None:
    """An error the application handled itself counts under the names given."""
    record_error("Timeout", "payments")
    assert families.measurements == [Measurement("errors", 1, ("Timeout", "payments"))]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("menu_handler", None),
        ("digest_task", None),
        ("ask_llm_call", None),
        ("support_agent", None),
        ("menu", "action name 'menu' has no known suffix; expected _handler, _task, _llm_call or _agent"),
    ],
)
def test_suffixes(name: str, problem: str | None) -> None:
    """A name says by its end what kind of action it is."""
    assert action_suffix_problem(name) == problem


class _Shelf:
    @action_tracking_decorator("outside_task")
    @staticmethod
    def outside() -> str:
        return "outside"

    @staticmethod
    @action_tracking_decorator("inside_task")
    def inside() -> str:
        return "inside"

    @action_tracking_decorator("class_task")
    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    async def __call__(self) -> None:
        raise LookupError("the shelf is empty")


@action_tracking_decorator
def bare_task() -> str:
    """Decorated without a call."""
    return "bare"


async def test_every_shape_of_function(families: RecordingFamilies) -> None:
    """Static and class methods, bare use, objects with an async `__call__` and partials are tracked."""
    shelf = _Shelf()
    said = [shelf.outside(), _Shelf.inside(), shelf.of_class(), bare_task()]
    for odd in (shelf, partial(_Shelf.__call__, shelf)):
        with pytest.raises(LookupError, match="the shelf is empty"):
            await action_tracking_decorator("odd_task")(odd)()
    assert said == ["outside", "inside", "_Shelf", "bare"]
    assert counts(families) == {
        "outside_task success": 1, "inside_task success": 1, "class_task success": 1,
        "bare_task success": 1, "odd_task fail": 2,
    }  # fmt: skip
