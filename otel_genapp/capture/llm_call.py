"""`llm_call`: an LLM call the application describes by hand.

Speaks the context protocol of opentelemetry-util-genai, so that nested calls merge into one: an
instrumentation inside hands its numbers to this call instead of making a span, and inside
somebody else's call this one does the same.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextvars import Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value
from opentelemetry.trace import Span

from otel_genapp import hub, semconv
from otel_genapp.capture.llm_span import LLMOutcome, LLMSpan, clean_count
from otel_genapp.context import bind, bound_in, clean_id, first_report, leave
from otel_genapp.quiet import quiet

T = TypeVar("T")

INFERENCE_CONTEXT_KEY = "opentelemetry.genai.client.inference.context"
"""opentelemetry-util-genai's `CLIENT_INFERENCE_CONTEXT_KEY`, a plain string by its protocol."""

_MARK: Final = create_key("otel_genapp.llm_call")
_guarded = quiet("capture")

# Field of util-genai's InferenceData -> field of LLMOutcome.
_SHARED = (
    ("usage_input_tokens", "input_tokens"),
    ("usage_output_tokens", "output_tokens"),
    ("usage_cache_read_input_tokens", "cache_read_tokens"),
    ("usage_cache_write_input_tokens", "cache_write_tokens"),
    ("usage_reasoning_output_tokens", "reasoning_tokens"),
    ("response_model", "response_model"),
    ("response_id", "response_id"),
    ("response_time_to_first_chunk", "first_token_s"),
)


@dataclass(slots=True)
class _OwnInferenceData:
    """What nested calls of ours fill where util-genai, whose type it would be, is not installed."""

    usage_input_tokens: int | None = None
    usage_output_tokens: int | None = None
    usage_cache_read_input_tokens: int | None = None
    usage_cache_write_input_tokens: int | None = None
    usage_reasoning_output_tokens: int | None = None
    response_model: str | None = None
    response_id: str | None = None
    response_time_to_first_chunk: float | None = None
    response_finish_reasons: list[str] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


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

        None and what is no count (negative, fractional, over 1e9) stay unknown.
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
                count = clean_count(value)
                if count is not None:
                    setattr(outcome, name, count)

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
            self._outcome.cost_usd = float(usd)

    def first_token(self) -> None:
        """The first chunk of a streamed answer is here."""
        with _guarded:
            if self._span is not None:
                self._span.first_token()

    def to_fail(self, error_type: str = "unknown") -> None:
        """Count the call as failed although the block ends without an exception."""
        self._status = (semconv.FAIL, error_type)

    def chunks(self, stream: Iterable[T]) -> Iterator[T]:
        """The chunks of `stream`, unchanged; marks the first one's time."""
        for chunk in stream:
            self.first_token()
            yield chunk

    async def achunks(self, stream: AsyncIterable[T]) -> AsyncIterator[T]:
        """The chunks of an asynchronous `stream`, unchanged; marks the first one's time."""
        async for chunk in stream:
            self.first_token()
            yield chunk


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
        self._data = _inference_data()()
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
                _publish(call._outcome, self._outer)  # noqa: SLF001 - the two halves of one call
            return
        _fill(call._outcome, self._data)  # noqa: SLF001
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


def _publish(outcome: LLMOutcome, data: Any) -> None:
    """Hand what a nested call knows to the outer one, as util-genai's suppressed calls do."""
    for theirs, ours in _SHARED:
        value = getattr(outcome, ours)
        if value is not None:
            setattr(data, theirs, value)
    if outcome.finish_reasons:
        data.response_finish_reasons = list(outcome.finish_reasons)
    attributes = getattr(data, "attributes", None)
    if not isinstance(attributes, dict):
        return
    if outcome.tool_names:
        attributes[semconv.TOOL_NAMES] = tuple(outcome.tool_names)
        attributes[semconv.TOOL_CALL_COUNT] = len(outcome.tool_names)
    if outcome.cost_usd is not None:
        attributes[semconv.COST_USD] = outcome.cost_usd


def _fill(outcome: LLMOutcome, data: Any) -> None:
    """Take what nested calls published, where this call's own block did not say it."""
    for theirs, ours in _SHARED:
        if getattr(outcome, ours) is None:
            setattr(outcome, ours, getattr(data, theirs, None))
    if not outcome.finish_reasons:
        outcome.finish_reasons = tuple(getattr(data, "response_finish_reasons", None) or ())
    attributes = getattr(data, "attributes", None) or {}
    names = attributes.get(semconv.TOOL_NAMES)
    if not outcome.tool_names and names:
        outcome.tool_names.extend(names)
    if outcome.cost_usd is None:
        outcome.cost_usd = attributes.get(semconv.COST_USD)


@functools.cache
def _conversation() -> Any:
    """util-genai's module that carries the conversation id under a key of its own, or None."""
    if importlib.util.find_spec("opentelemetry.util.genai") is None:
        return None
    with _guarded:
        return importlib.import_module("opentelemetry.util.genai._conversation_context")
    return None


@functools.cache
def _inference_data() -> Callable[[], Any]:
    """util-genai's own type where it is installed: its nested calls look for exactly that."""
    if importlib.util.find_spec("opentelemetry.util.genai") is not None:
        with _guarded:
            from opentelemetry.util.genai.invocation import InferenceData

            return InferenceData
    return _OwnInferenceData
