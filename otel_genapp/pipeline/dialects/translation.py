"""A span of any dialect in the current names of the conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, NamedTuple

from otel_genapp import semconv
from otel_genapp.pipeline.dialects import keys
from otel_genapp.pipeline.dialects.kinds import kind_of
from otel_genapp.pipeline.dialects.langfuse_usage import cost_in, usage_in
from otel_genapp.pipeline.dialects.values import (
    json_in,
    milliseconds_in,
    nano_usd_in,
    text_in,
    texts_in,
    tokens_in,
)

_TOOLS_LIMIT = 128
_INDEXED_DIALECTS = frozenset({
    "openinference.span.kind", "llm.request.type", "llm.model_name", "llm.token_count.completion",
})  # fmt: skip
"""What spans carry whose maker numbers the calls of tools in the names of attributes."""


class _Row(NamedTuple):
    """The other names of a fact, and what makes something of a value or None, or nothing, of a wrong one."""

    others: tuple[str, ...]
    reader: Callable[[Any], object]


_FACTS = {
    **{current: _Row(others, text_in) for current, others in keys.TEXTS},
    keys.FINISHES[0]: _Row(keys.FINISHES[1], texts_in),
    keys.SECONDS[0]: _Row(keys.SECONDS[1], milliseconds_in),
    keys.DOLLARS[0]: _Row(keys.DOLLARS[1], nano_usd_in),
}
_TOKENS = {current: (current, *others) for current, others in keys.TOKENS}


def translated(attributes: Mapping[str, Any], foreign: AbstractSet[str]) -> tuple[dict[str, Any], int]:
    """(`attributes` and what its `foreign` names say in current ones, how many token counts were none).

    Only the facts that have a foreign name here are looked at; of those no wrong value is left.
    """
    said = dict(attributes)
    touched = {current for key in foreign for current in keys.CURRENT_NAMES.get(key, ())}
    details, invalid = usage_in(attributes.get(keys.USAGE_DETAILS))
    for current in touched:
        row = _FACTS.get(current)
        if row is not None:
            _say_first(said, current, row=row, attributes=attributes)
        else:
            invalid += _say_tokens(said, current, details=details, attributes=attributes)
    kind = kind_of(attributes)
    if kind is not None and kind.operation is not None:
        said[semconv.OPERATION] = kind.operation
    if semconv.TOOL_NAMES not in said:
        names = _tool_names(attributes, foreign)
        if names:
            said[semconv.TOOL_NAMES] = names
    return said, invalid


def _say_first(said: dict[str, Any], current: str, *, row: _Row, attributes: Mapping[str, Any]) -> None:
    said.pop(current, None)
    for key in (current, *row.others):
        value = attributes.get(key)
        if value is None:
            continue
        special = _SPECIAL.get(key)
        if special is not None:
            value = special(value, attributes)
        if row.reader(value) not in (None, ()):
            said[current] = value
            return


def _say_tokens(
    said: dict[str, Any], current: str, *, details: Mapping[str, int], attributes: Mapping[str, Any]
) -> int:
    invalid = 0
    said.pop(current, None)
    for key in _TOKENS[current]:
        value = details.get(current) if key == keys.USAGE_DETAILS else attributes.get(key)
        if value is None:
            continue
        tokens = tokens_in(value)
        if tokens is not None:
            said[current] = tokens
            break
        invalid += 1
    return invalid


def _model_in(parameters: Any, _: Mapping[str, Any]) -> Any:
    found = json_in(parameters)
    return found.get("model") if isinstance(found, Mapping) else None


def _seconds_in(milliseconds: Any, _: Mapping[str, Any]) -> Any:
    return milliseconds / 1e3 if milliseconds_in(milliseconds) is not None else None


def _server_seconds_in(moment: Any, attributes: Mapping[str, Any]) -> Any:
    if keys.STRANDS in (attributes.get("gen_ai.system"), attributes.get(semconv.PROVIDER)):
        return _seconds_in(moment, attributes)
    return moment


_SPECIAL: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    keys.INVOCATION_PARAMETERS: _model_in,
    keys.COST_DETAILS: lambda details, _: cost_in(details),
    keys.SERVER_FIRST_CHUNK: _server_seconds_in,
    **dict.fromkeys(keys.FIRST_CHUNK_MS, _seconds_in),
}
"""Names whose value has to be looked for, or is in another unit."""


def _tool_names(attributes: Mapping[str, Any], foreign: AbstractSet[str]) -> tuple[str, ...]:
    for start, end in () if _INDEXED_DIALECTS.isdisjoint(foreign) else keys.INDEXED_TOOL_NAMES:
        found = [
            attributes[key]
            for key in attributes
            if key.endswith(end) and key.startswith(start) and ".tool_calls." in key
        ]
        if found:
            return texts_in(found)
    for key in keys.TOOL_CALLS:
        value = attributes.get(key)
        if isinstance(value, str) and "tool" not in value and "function" not in value:
            continue
        names = texts_in([_name(call) for call in _calls(json_in(value))])
        if names:
            return names
    return ()


def _calls(said: Any) -> list[Mapping[str, Any]]:
    """The calls of tools in a list of them, or in the parts of a list of messages."""
    found: list[Mapping[str, Any]] = []
    for item in islice(said, _TOOLS_LIMIT) if isinstance(said, Sequence) else ():
        if not isinstance(item, Mapping):
            continue
        parts = item.get("parts")
        if isinstance(parts, Sequence):
            found.extend(
                part
                for part in islice(parts, _TOOLS_LIMIT)
                if isinstance(part, Mapping) and part.get("type") == "tool_call"
            )
        elif "role" not in item:
            found.append(item)
    return found


def _name(call: Mapping[str, Any]) -> object:
    function = call.get("function")
    inner = function.get("name") if isinstance(function, Mapping) else None
    return call.get("toolName") or call.get("name") or inner
