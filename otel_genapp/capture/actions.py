"""Actions: pieces of the application's own work, counted, timed and sized by name."""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, overload

from opentelemetry.context import Context, attach

from otel_genapp import hub, semconv
from otel_genapp.capture.finalizers import measure
from otel_genapp.context import failure_scope, first_report, forget_failures, leave
from otel_genapp.quiet import quiet

P = ParamSpec("P")
R = TypeVar("R")

TRACKED_AS: Final = "_otel_genapp_action"
"""The attribute of a decorated function that says its action's name."""

_guarded = quiet("capture")


class Tracker:
    """What an action says of itself while it runs."""

    __slots__ = ("amount", "failed")

    def __init__(self) -> None:
        self.failed = False
        self.amount: float = 0

    def size(self, amount: Any) -> None:
        """Add to the action's size (items, bytes, rows: the action's name says which).

        What is not a finite number of at least 0 is ignored.
        """
        with _guarded, suppress(TypeError, ValueError, OverflowError):
            number = int(amount) if isinstance(amount, int) else float(amount)
            if math.isfinite(number) and number >= 0:
                self.amount += number

    def to_fail(self) -> None:
        """Count the action as failed although it ends without an exception."""
        self.failed = True

    def to_success(self) -> None:
        """Take `to_fail` back. An exception leaving the block is a failure all the same."""
        self.failed = False


class action_tracking:  # noqa: N801 - reads as a statement: `with action_tracking("menu_handler"):`
    """Count, time and size the block under `name`; `with … as tracker` gives its `Tracker`.

    An exception or cancellation leaving the block makes it `fail` and passes through untouched.
    Works in `async with` too. Names end in `_handler`, `_task`, `_llm_call` or `_agent`
    (`action_suffix_problem` checks one).
    """

    __slots__ = ("_context", "_name", "_started_s", "_token", "tracker")

    def __init__(self, name: str) -> None:
        self._name = name
        self.tracker = Tracker()
        self._context: Context | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Tracker:
        with _guarded:
            if hub.active is not None:
                self._context = failure_scope()
                if self._context is not None:
                    self._token = attach(self._context)
        self._started_s = time.perf_counter()
        return self.tracker

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        elapsed_s = time.perf_counter() - self._started_s
        with _guarded:
            _record(self._name, elapsed_s, tracker=self.tracker, error=error)
            if self._token is not None and self._context is not None:
                forget_failures(self._context)
                leave(self._token, self._context)

    async def __aenter__(self) -> Tracker:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


@overload
def action_tracking_decorator(name: Callable[P, R]) -> Callable[P, R]: ...


@overload
def action_tracking_decorator(name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def action_tracking_decorator(name: Any = None) -> Any:
    """Track every call of a function, coroutine function, generator or async generator.

    `name` is the action's name, the function's own by default; static and class methods are
    tracked on either side of their own decorator. A generator is tracked from its first step to
    its end; closing it early counts as `fail`. The action's series exist from decoration on with 0.
    """
    if callable(name):  # used bare, without a call
        return _decorated(name, name.__name__)

    def decorate(function: Any) -> Any:
        action = name if name is not None else getattr(function, "__name__", "unknown")
        return _decorated(function, action)

    return decorate


def _decorated(function: Any, action: str) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_decorated(function.__func__, action))
    with _guarded:
        hub.announce_action(action)
    tracked = functools.wraps(function)(_wrapping(function)(function, action))
    setattr(tracked, TRACKED_AS, action)
    return tracked


def _wrapping(function: Any) -> Callable[[Any, str], Any]:
    # Of an object that can be called, its method may say what kind of function it is.
    for called in (function, type(function).__call__):
        if inspect.isasyncgenfunction(called):
            return _wrap_async_generator
        if inspect.isgeneratorfunction(called):
            return _wrap_generator
        if inspect.iscoroutinefunction(called):
            return _wrap_coroutine
    return _wrap_function


def action_suffix_problem(name: str) -> str | None:
    """What is wrong with an action's name, or None: for a test over an application's actions."""
    if name.endswith(semconv.ACTION_SUFFIXES):
        return None
    *others, last = semconv.ACTION_SUFFIXES
    return f"action name {name!r} has no known suffix; expected {', '.join(others)} or {last}"


def record_error(error_type: str, service: str) -> None:
    """Count an error the application handled itself in `genapp_errors_total`.

    `error_type` is a class of errors, never a message; `service` what it happened in.
    """
    with _guarded:
        running = hub.active
        if running is not None:
            running.families.errors.record(1, (error_type, service))


def _record(name: str, elapsed_s: float, *, tracker: Tracker, error: BaseException | None) -> None:
    running = hub.active
    if running is None:
        return
    families = running.families
    failed = tracker.failed or error is not None
    is_new = isinstance(error, Exception) and first_report(error)

    def record() -> None:
        families.action_count.record(1, (name, semconv.FAIL if failed else semconv.SUCCESS))
        families.action_duration.record(elapsed_s, (name,))
        if tracker.amount:
            families.action_size.record(tracker.amount, (name,))
        if is_new:
            families.errors.record(1, (type(error).__qualname__, running.settings.app))

    measure(running, record)


def _wrap_function(function: Callable[..., Any], action: str) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Any:
        with action_tracking(action):
            return function(*args, **kwargs)

    return tracked


def _wrap_coroutine(function: Callable[..., Any], action: str) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> Any:
        with action_tracking(action):
            return await function(*args, **kwargs)

    return tracked


class _stepwise:  # noqa: N801 - a context manager like action_tracking
    """Track a generator: nothing is attached, since its consumer runs between the steps."""

    __slots__ = ("_name", "_started_s")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._started_s = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        elapsed_s = time.perf_counter() - self._started_s
        with _guarded:
            _record(self._name, elapsed_s, tracker=Tracker(), error=error)


def _wrap_generator(function: Callable[..., Any], action: str) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with _stepwise(action):
            return (yield from function(*args, **kwargs))

    return tracked


def _wrap_async_generator(function: Callable[..., Any], action: str) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        with _stepwise(action):
            step = generator.__anext__()
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on into the generator it is for
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)

    return tracked
