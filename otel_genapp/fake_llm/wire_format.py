"""What a wire format has to say for the fake server to speak it. One module speaks each of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_genapp.fake_llm.answers import Answer, ToolCall
from otel_genapp.fake_llm.requests import LLMRequest, Operation, Turn, count_tokens

Told = Mapping[str, int]
"""Tokens by kind (`input`, `output`, `cached`, `cache_write`, `reasoning`), as far as they are said."""

_FINISHES = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"},
    "gemini": {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """A body, or one event of a stream; `told` is what its usage says, all of it."""

    data: bytes
    told: Told = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The events of a streamed answer: `last` completes it, `error` is what a failure looks like in it."""

    events: tuple[Piece, ...]
    last: Piece
    error: Piece
    content_type: str = "text/event-stream; charset=utf-8"


class WriteWhole(Protocol):
    """Writes the body of an answer that is not streamed."""

    def __call__(self, request: LLMRequest, answer: Answer, *, response_id: str) -> Piece: ...


class WriteStream(Protocol):
    """Writes the events of one that is."""

    def __call__(self, request: LLMRequest, answer: Answer, *, response_id: str) -> Stream: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """A wire format: how its requests are read, and its answers written.

    `turns` raises BadRequestError for a body the API would refuse; `failure` is a whole answer that
    failed inside, where the protocol has one; `error` writes the body for a status, 200 standing for an error inside
    a good answer; `headers` gets the id of the request and the milliseconds it took.
    """

    name: str
    operation: Operation
    id_prefix: str
    turns: Callable[[Mapping[str, Any]], tuple[Turn, ...]]
    whole: WriteWhole
    stream: WriteStream | None
    error: Callable[[int, str], bytes]
    failure: WriteWhole | None = None
    headers: Callable[[str, int], dict[str, str]]
    names_answers: bool = True
    calls_tools: bool = True


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one answer, settled."""

    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int

    @classmethod
    def of(cls, request: LLMRequest, answer: Answer) -> Tokens:
        """What the answer says, else what the fake server counts."""
        if answer.output_tokens is not None:
            output = answer.output_tokens
        elif request.operation == "embeddings":
            output = 0
        else:
            said = [text_of(request, answer) or ""]
            if request.operation != "text_completion":
                said += [text for tool in answer.tools for text in (tool.arguments, tool.name)]
            output = request.choices * sum(map(count_tokens, said)) + answer.reasoning_tokens
        return cls(
            input=request.prompt_tokens if answer.input_tokens is None else answer.input_tokens,
            output=output,
            cached=answer.cached_tokens,
            cache_write=answer.cache_write_tokens,
            reasoning=answer.reasoning_tokens,
        )

    def told(self, *kinds: str, unless_zero: tuple[str, ...] = ()) -> dict[str, int]:
        """The tokens of these kinds, and those of the others that are not 0."""
        found = {kind: getattr(self, kind) for kind in kinds}
        return found | {kind: value for kind in unless_zero if (value := getattr(self, kind))}


def text_of(request: LLMRequest, answer: Answer) -> str | None:
    """What the model says: the answer's text, nothing beside tool calls, else an echo."""
    if answer.text is not None:
        return answer.text
    return None if answer.tool_calls else f"You said: {request.text}"


def words_of(text: str | None) -> list[str]:
    """`text` in pieces, a word each with the space before it."""
    return re.findall(r"\s*\S+|\s+$", text or "")


def finish_of(answer: Answer, protocol: str = "openai") -> str:
    """Why the answer ends, in the words of the protocol; words it does not know stay as they are."""
    said = answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")
    return _FINISHES.get(protocol, {}).get(said, said)


def arguments_of(tool: ToolCall) -> dict[str, Any]:
    """A tool's arguments as an object; text that is none stands under `text`."""
    try:
        found = json.loads(tool.arguments)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": tool.arguments}


def dump(value: Any) -> bytes:
    """`value` as JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event(value: Any, *, name: str | None = None) -> bytes:
    """`value` as one server-sent event, named if the protocol names them; bytes go in as they are."""
    data = b"data: " + (value if isinstance(value, bytes) else dump(value)) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data
