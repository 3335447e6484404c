"""What the fake server is told to answer: an `Answer`, perhaps with a fault in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

CONTROL_HEADER = "x-fake-answer"
"""A request may bring its own answer: an answer as JSON, or a list with one for each attempt."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asks for; `arguments` is the JSON text it sends along."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An HTTP error before anything is answered, with the error body of the request's protocol.

    `retry_after_s=0` asks for a retry at once.
    """

    kind: ClassVar[str] = "error"
    status: int = 500
    retry_after_s: float | None = None
    message: str = "The fake server was told to fail."


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends in mid-answer: a stream after so many chunks, a body at its half.

    It is reset, or with `reset=False` closed as if by a proxy that gave up.
    """

    kind: ClassVar[str] = "cut"
    after_chunks: int = 2
    reset: bool = True


@dataclass(frozen=True, slots=True)
class NoUsage:
    """A complete answer that does not say its tokens, even where the client asked."""

    kind: ClassVar[str] = "no_usage"


@dataclass(frozen=True, slots=True)
class ErrorInStream:
    """Status 200, then an error object: inside the stream after so many chunks, or as the body.

    It is what the protocol has for that: OpenAI's `error` object, an `error` event of Responses or
    of Anthropic (`overloaded_error`), Google's `UNAVAILABLE`; the body of Responses has `failed`.
    """

    kind: ClassVar[str] = "error_in_stream"
    after_chunks: int = 2
    message: str = "The fake server was told to fail while it answered."


@dataclass(frozen=True, slots=True)
class MalformedJSON:
    """Status 200 and JSON that ends too early: the body, or the stream's second chunk."""

    kind: ClassVar[str] = "malformed_json"


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing more comes, until the client leaves or the server closes.

    A stream first sends its head and so many chunks; 0 hangs before the status line.
    """

    kind: ClassVar[str] = "hang"
    after_chunks: int = 0


Fault = ErrorStatus | Cut | NoUsage | ErrorInStream | MalformedJSON | Hang

_FAULTS: dict[str, type[Fault]] = {
    kind.kind: kind for kind in (ErrorStatus, Cut, NoUsage, ErrorInStream, MalformedJSON, Hang)
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model and how it is delivered.

    What is left `None` follows from the request, the same way every time: the text is an echo of
    the last user message, `input_tokens` counts the prompt's words and `output_tokens` those of
    the text (plus the reasoning). As OpenAI counts, `cached_tokens` (read from the provider's cache)
    and `cache_write_tokens` (written to it) are part of the input and `reasoning_tokens` of the
    output, whatever the protocol makes of them on the wire. `finish_reason` is OpenAI's word, which
    other protocols translate (`length`, `tool_calls`, `content_filter`), or any word of their own.
    `delay_s` passes before the status line, `chunk_delay_s` before each chunk of a stream but the
    first.
    """

    text: str | None = None
    _: KW_ONLY
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: tuple[str | ToolCall, ...] = ()
    finish_reason: str | None = None
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    fault: Fault | None = None

    @property
    def tools(self) -> tuple[ToolCall, ...]:
        """The tool calls, each with its arguments."""
        return tuple(ToolCall(tool) if isinstance(tool, str) else tool for tool in self.tool_calls)


def answers_from_json(text: str) -> tuple[Answer, ...]:
    """The answer, or list of answers, written in `text`.

    An answer is an object with the fields of `Answer`; its `fault` an object with a `kind` (the
    outcome it leads to, such as `cut`) and the fields of that fault; a tool call a name or an
    object with the fields of `ToolCall`.

    Raises:
        ValueError: the text is no JSON or names something that does not exist.
    """
    written = json.loads(text)
    entries = written if isinstance(written, list) else [written]
    if not entries:
        raise ValueError("an empty list of answers")
    return tuple(_answer(entry) for entry in entries)


def _answer(written: Any) -> Answer:
    given = _fields(written, Answer)
    if given.get("fault") is not None:
        given["fault"] = _fault(given["fault"])
    if "tool_calls" in given:
        given["tool_calls"] = tuple(
            tool if isinstance(tool, str) else ToolCall(**_fields(tool, ToolCall))
            for tool in given["tool_calls"]
        )
    return Answer(**given)


def _fault(written: Any) -> Fault:
    given = dict(written) if isinstance(written, Mapping) else {"kind": written}
    kind = _FAULTS.get(str(given.pop("kind", None)))
    if kind is None:
        raise ValueError(f"a fault's kind must be one of {', '.join(_FAULTS)}, got {written!r}")
    return kind(**_fields(given, kind))


def _fields(written: Any, kind: type[Any]) -> dict[str, Any]:
    if not isinstance(written, Mapping):
        raise ValueError(f"{kind.__name__} must be a JSON object, got {written!r}")  # noqa: TRY004 - the documented error
    known = [item.name for item in fields(kind)]
    unknown = [name for name in written if name not in known]
    if unknown:
        raise ValueError(f"{kind.__name__} has no {unknown[0]!r}; it has {', '.join(known)}")
    return dict(written)
