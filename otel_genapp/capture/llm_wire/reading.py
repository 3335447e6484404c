"""Reading an answer: what all wire formats share.

A `Reading` is fed the parts of one answer that are worth parsing, in their order, and writes what
they say into an `LLMOutcome`. It never sees text it has no use for and keeps none of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from otel_genapp import foreign_json
from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.capture.llm_wire.asked import Asked
from otel_genapp.context import clean_id
from otel_genapp.records import whole_tokens

_DENSE_FROM_BYTES = 16 * 1024
_PARSED_LIMIT_BYTES = 400_000
"""What parsed JSON may take in memory, as estimated by its brackets and commas."""
_TOOLS_KEPT = 128
_REASONS_KEPT = 128

Json = Mapping[str, Any]


class Reading:
    """What one answer says. A wire format is a subclass: `whole` for a body, `frame` for a stream's part."""

    LAST: ClassVar[tuple[bytes, ...]] = ()
    """Marks of the chunk that ends a stream."""
    MARKS: ClassVar[tuple[bytes, ...]] = ()
    """Marks of lines to be read wherever in a stream they are."""
    LATEST: ClassVar[tuple[bytes, ...]] = ()
    """Marks of which the last one counts: of several lines the last is read."""
    TOOL_MARKS: ClassVar[tuple[bytes, ...]] = ()
    """The same where the request offered tools."""
    CHOICE_MARKS: ClassVar[tuple[bytes, ...]] = ()
    """The same where several choices were asked for."""
    KEYS: ClassVar[tuple[str, ...]] = ()
    """Members to be looked for in a body too long to be parsed."""
    TOOL_NAME: ClassVar[re.Pattern[bytes] | None] = None
    """A tool the model asks for, in such a body."""

    __slots__ = ("asked", "error_type", "outcome", "reasons")

    def __init__(self, asked: Asked, outcome: LLMOutcome) -> None:
        self.asked = asked
        self.outcome = outcome
        self.error_type: str | None = None
        self.reasons: dict[int, str] = {}

    def head(self, headers: Mapping[bytes, bytes]) -> None:
        """The answer's headers, names in lower case."""

    def whole(self, body: Any) -> None:
        """A whole body, parsed."""
        if isinstance(body, list):
            for part in body:
                if isinstance(part, dict):
                    self.frame(part)
        elif isinstance(body, dict):
            self.body(body)

    def body(self, body: Json) -> None:
        """A whole body that is an object."""
        self.frame(body)

    def frame(self, data: Json) -> None:
        """One part of a streamed answer."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing more comes."""
        if self.reasons:
            self.outcome.finish_reasons = tuple(self.reasons[index] for index in sorted(self.reasons))

    def marks(self) -> tuple[bytes, ...]:
        """What makes a line of this answer worth reading."""
        marks = self.MARKS
        if self.asked.tools:
            marks += self.TOOL_MARKS
        if self.asked.choices > 1:
            marks += self.CHOICE_MARKS
        return marks

    def scraps(self, text: bytes) -> None:
        """What is left of a body, or of a line, too long to be parsed: its ends, perhaps all of it."""
        found = {key: value for key in self.KEYS if (value := last_member(text, key)) is not None}
        if found:
            self.body(found)
        if self.TOOL_NAME is not None and self.asked.tools and not self.outcome.tool_names:
            for match in self.TOOL_NAME.finditer(text):
                self.tool(match[1].decode("utf-8", "replace"))

    def failed(self, error: Any, otherwise: str = "error") -> None:
        """The answer says that it is an error: `error.type` is its code, its type, its status or the rest."""
        if isinstance(error, dict):
            for key in ("code", "type", "status"):
                said = error.get(key)
                if isinstance(said, int) and not isinstance(said, bool):
                    said = str(said)
                if isinstance(said, str) and said:
                    self.error_type = clean_id(said[:64])
                    return
        self.error_type = otherwise

    def tool(self, name: Any) -> None:
        """The model asks for a tool."""
        if len(self.outcome.tool_names) < _TOOLS_KEPT:
            named = name if isinstance(name, str) and name else "unknown"
            self.outcome.tool_names.append(clean_id(named[:128]) or "unknown")

    def reason(self, index: Any, said: Any) -> None:
        """Why a choice ended."""
        if isinstance(said, str) and said and len(self.reasons) < _REASONS_KEPT:
            place = index if isinstance(index, int) else 0
            self.reasons[place] = clean_id(said[:64]) or "unknown"

    def model(self, said: Any) -> None:
        """The model that answers."""
        if isinstance(said, str) and said:
            self.outcome.response_model = clean_id(said)

    def identity(self, said: Any) -> None:
        """The answer's id."""
        if isinstance(said, str) and said and self.outcome.response_id is None:
            self.outcome.response_id = clean_id(said)

    def tier(self, said: Any) -> None:
        """What the call was served as."""
        if isinstance(said, str) and said:
            self.outcome.service_tier = clean_id(said[:64])


def parse(data: bytes) -> Any:
    """`data` as JSON, or None: malformed, nested too deep, or too much once it is parsed."""
    if len(data) > _DENSE_FROM_BYTES:
        holders = data.count(b"{") + data.count(b"[")
        if 64 * holders + 36 * data.count(b",") + len(data) > _PARSED_LIMIT_BYTES:
            return None
    try:
        return foreign_json.loads(data)
    except ValueError:
        return None


def last_member(text: bytes, key: str) -> Any:
    """The value of the last `"key": …` in JSON text that may be cut at both ends, or None."""
    name = b'"%b"' % key.encode()
    place = text.rfind(name)
    for _ in range(64):  # the name may stand in a string, or with null
        if place < 0:
            return None
        value = _value_at(text, place, name=name)
        if value is not None:
            return value
        place = text.rfind(name, 0, place)
    return None


_VALUE_LIMIT_BYTES = 16 * 1024
_decoder = json.JSONDecoder()


def _value_at(text: bytes, place: int, *, name: bytes) -> Any:
    if place and text[place - 1] == ord("\\"):
        return None
    after = text[place + len(name) : place + len(name) + _VALUE_LIMIT_BYTES].lstrip()
    if after[:1] != b":":
        return None
    value = after[1:].lstrip()
    if value[:1] == b"[" or foreign_json.is_deep(value):
        return None
    try:
        # Cut at the limit, so an object longer than that is none.
        found, _ = _decoder.raw_decode(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found


def first_tokens(source: Any, *keys: str) -> int | None:
    """The first of these members that is a count of tokens."""
    if isinstance(source, dict):
        for key in keys:
            value = source.get(key)
            if value is not None:
                tokens = whole_tokens(value)
                if tokens is not None:
                    return tokens
    return None


def total_of(*parts: int | None) -> int | None:
    """The sum of the parts that are known; None when none is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
