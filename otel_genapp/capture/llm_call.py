"""`llm_call`: an LLM call the application describes by hand.

Speaks the context protocol of opentelemetry-util-genai, so that nested calls merge into one: an
instrumentation inside hands its numbers to this call instead of making a span, and inside
somebody else's call this one does the same.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value
from opentelemetry.trace import Span

from otel_genapp import hub, semconv
from otel_genapp.capture.llm_nesting import INFERENCE_CONTEXT_KEY, fill, inference_data, publish
from otel_genapp.capture.llm_span import LLMOutcome, LLMSpan
from otel_genapp.context import bind, bound_in, clean_id, first_report, leave
from otel_genapp.quiet import quiet
from otel_genapp.records import whole_tokens

T = TypeVar("T")

_MARK: Final = create_key("otel_genapp.llm_call")
_guarded = quiet("capture")


@dataclass(slots=True)
class _Mark:
    """The call a context is inside of, and the context before it."""

    span: Span
    before: Context
    ended: bool = False


class Call:
    """What the application says of the call while it runs. No method raises."""

    __slots__ = ("_outcome", "_span", "_status")

    def __init__(self, span: LLMSpan | None) -> None:
        self._span = span
        self._outcome = span.outcome if span is not None else LLMOutcome()
        self._status: tuple[str, str | None] = (semconv.SUCCESS, None)

    def usage(
        self,
        *,
        input: int | None = None,  # noqa: A002 - the conventions' word
        output: int | None = None,
        cache_read: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
    ) -> None:
        """Tokens the provider reported. `input` includes the cached ones, `output` the reasoning.

        None stays unknown, and so does what is no count (negative, fractional, over 1e9), which
        `genapp_telemetry_dropped_total{what="usage"}` shows.
        """
        with _guarded:
            outcome = self._outcome
            for name, value in (
                ("input_tokens", input),
                ("output_tokens", output),
                ("cache_read_tokens", cache_read),
                ("cache_write_tokens", cache_write),
                ("reasoning_tokens", reasoning),
            ):
                count = whole_tokens(value)
                if count is not None:
                    setattr(outcome, name, count)
                elif value is not None:
                    _count_invalid()

    def tools(self, *names: str) -> None:
        """Tools the model asked for, each time it asked."""
        with _guarded:
            self._outcome.tool_names.extend(str(name) for name in names)

    def response(
        self,
        *,
        model: str | None = None,
        id: str | None = None,  # noqa: A002 - the conventions' word
        finish_reasons: Iterable[str] | None = None,
    ) -> None:
        """The model that answered, the answer's id and why it ended."""
        with _guarded:
            if model is not None:
                self._outcome.response_model = str(model)
            if id is not None:
                self._outcome.response_id = str(id)
            if finish_reasons is not None:
                self._outcome.finish_reasons = tuple(str(reason) for reason in finish_reasons)

    def cost(self, usd: float) -> None:
        """What the call cost, in US dollars, where the application knows it."""
        with _guarded:
            dollars = float(usd)
            if math.isfinite(dollars) and dollars >= 0:
                self._outcome.cost_usd = dollars
            else:
                _count_invalid()

    def first_token(self) -> None:
        """The first chunk of a streamed answer is here."""
        with _guarded:
            if self._span is not None:
                self._span.first_token()

    def to_fail(self, error_type: str = "unknown") -> None:
        """Count the call as failed although the block ends without an exception."""
        self._status = (semconv.FAIL, error_type)

    def chunks(self, stream: Iterable[T] | AsyncIterable[T]) -> _Chunks[T]:
        """The chunks of a stream, unchanged; marks the first one's time.

        Go through it with `for` or `async for`, as through the stream itself.
        """
        return _Chunks(self, stream)


class _Chunks(Generic[T]):
    """A stream on its way to the application."""

    __slots__ = ("_call", "_stream")

    def __init__(self, call: Call, stream: Iterable[T] | AsyncIterable[T]) -> None:
        self._call = call
        self._stream: Any = stream

    def __iter__(self) -> Iterator[T]:
        for chunk in self._stream:
            self._call.first_token()
            yield chunk

    async def __aiter__(self) -> AsyncIterator[T]:
        async for chunk in self._stream:
            self._call.first_token()
            yield chunk


def _count_invalid() -> None:
    running = hub.active
    if running is not None:
        running.families.telemetry_dropped.record(1, ("usage", "invalid_value"))


class llm_call:  # noqa: N801 - reads as a statement: `with llm_call("gpt-5", provider="openai") as call:`
    """One LLM call as one span: sessions, metrics and events follow from it.

    Args:
        model: the model asked for.
        provider: `gen_ai.provider.name` (openai, anthropic, gcp.gemini, …).
        operation: `gen_ai.operation.name` (chat, text_completion, embeddings, generate_content).
        session_id: whom the call is for, as `bind(session_id=…)` around it would say.
        user_id: likewise.

    An exception leaving the block makes the call `fail`, a cancellation `cancelled`; both pass
    through untouched. Works in `async with` too. Inside another open call no span is made and the
    numbers go to that one.
    """

    __slots__ = ("_arguments", "_bind", "_call", "_context", "_data", "_mark", "_outer", "_span", "_token")

    def __init__(
        self,
        model: str,
        provider: str = "unknown",
        *,
        operation: str = "chat",
        session_id: object = None,
        user_id: object = None,
    ) -> None:
        self._arguments = (model, provider, operation, session_id, user_id)
        self._bind: bind | None = None
        self._span: LLMSpan | None = None
        self._outer: Any = None
        self._data: Any = None
        self._mark: _Mark | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None
        self._call: Call | None = None

    def __enter__(self) -> Call:
        with _guarded:
            self._start()
        if self._call is None:
            self._call = Call(self._span)
        return self._call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _guarded:
            if self._mark is not None:
                self._mark.ended = True
            if self._token is not None and self._context is not None:
                leave(self._token, self._context)
            self._finish(error)
        with _guarded:
            if self._bind is not None:
                self._bind.__exit__(None, None, None)

    async def __aenter__(self) -> Call:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _start(self) -> None:
        running = hub.active
        if running is None:
            return
        model, provider, operation, session_id, user_id = self._arguments
        if session_id is not None or user_id is not None:
            self._bind = bind(session_id=session_id, user_id=user_id)
            self._bind.__enter__()
        before = context = _without_ended(get_current())
        outer = get_value(INFERENCE_CONTEXT_KEY, context)
        if outer is not None:
            self._outer = outer
            return
        session_id = bound_in(context).session_id
        conversation = _conversation()
        extra: dict[str, Any] = {}
        if conversation is not None:
            if session_id is not None:
                context = conversation.with_conversation_id(session_id, context)
            else:
                ambient = conversation.get_ambient_conversation_id(context)
                extra = {semconv.CONVERSATION_ID: ambient} if ambient else {}
        self._span = LLMSpan(
            running.tracer,
            clean_id(model) or "unknown",
            provider=clean_id(provider) or "unknown",
            operation=clean_id(operation) or "chat",
            extra=extra,
            context=context,
        )
        self._mark = _Mark(self._span.span, before)
        self._data = inference_data()()
        context = trace.set_span_in_context(self._span.span, context)
        context = set_value(_MARK, self._mark, context)
        self._context = set_value(INFERENCE_CONTEXT_KEY, self._data, context)
        self._token = attach(self._context)

    def _finish(self, error: BaseException | None) -> None:
        call = self._call
        if call is None:
            return
        if self._span is None:
            if self._outer is not None:
                publish(call._outcome, self._outer)  # noqa: SLF001 - the two halves of one call
            return
        fill(call._outcome, self._data)  # noqa: SLF001
        status, error_type = call._status  # noqa: SLF001
        if error is not None:
            status = semconv.FAIL if isinstance(error, Exception) else semconv.CANCELLED
            error_type = _error_type(error)
            first_report(error)  # counted with the call; the action around it leaves it at that
        self._span.finish(status, error_type)


def _without_ended(context: Context) -> Context:
    """`context` without calls that have ended: a generator leaves its own behind in its consumer's."""
    mark = get_value(_MARK, context)
    while isinstance(mark, _Mark) and mark.ended:
        before = mark.before
        if trace.get_current_span(context) is mark.span:
            context = trace.set_span_in_context(trace.get_current_span(before), context)
        context = set_value(INFERENCE_CONTEXT_KEY, get_value(INFERENCE_CONTEXT_KEY, before), context)
        mark = get_value(_MARK, before)
        context = set_value(_MARK, mark, context)
    return context


def _error_type(error: BaseException) -> str:
    """The conventions' `error.type`: the provider's status code where there is one, else the class."""
    status = getattr(error, "status_code", None)
    return str(status) if isinstance(status, int) else type(error).__qualname__


def load() -> None:
    """Import what the first call needs: forked while a thread does, a child waits for that import for ever."""
    _conversation()
    inference_data()


@functools.cache
def _conversation() -> Any:
    """util-genai's module that carries the conversation id under a key of its own, or None."""
    if importlib.util.find_spec("opentelemetry.util.genai") is None:
        return None
    with _guarded:
        return importlib.import_module("opentelemetry.util.genai._conversation_context")
    return None
