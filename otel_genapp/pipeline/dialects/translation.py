"""A span of any dialect in the current names of the conventions: one pass over the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

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


def translated(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """(`attributes` in current names, how many numbers of tokens were none).

    What is no valid value is left out; everything else is as its maker wrote it.
    """
    said = {key: attributes[key] for key in keys.CURRENT if key in attributes}
    invalid = _tokens(said, attributes)
    _texts(said, attributes)
    kind = kind_of(attributes)
    if kind is not None and kind.operation is not None:
        said[semconv.OPERATION] = kind.operation
    current, others = keys.FINISHES
    _first(said, current, ((attributes.get(key), texts_in) for key in (current, *others)))
    current, others = keys.DOLLARS
    _first(said, current, ((_dollars(attributes, key), nano_usd_in) for key in (current, *others)))
    current, others = keys.SECONDS
    _first(said, current, ((_seconds(attributes, key), milliseconds_in) for key in (current, *others)))
    if semconv.TOOL_NAMES not in said:
        names = _tool_names(attributes)
        if names:
            said[semconv.TOOL_NAMES] = names
    return said, invalid


def _first(
    said: dict[str, Any], current: str, candidates: Iterable[tuple[Any, Callable[[Any], object]]]
) -> None:
    """Say `current` by the first candidate its reader makes something of."""
    said.pop(current, None)
    for value, reader in candidates:
        if value is not None and reader(value) not in (None, ()):
            said[current] = value
            return


def _tokens(said: dict[str, Any], attributes: Mapping[str, Any]) -> int:
    details, invalid = usage_in(attributes.get(keys.USAGE_DETAILS))
    for current, others in keys.TOKENS:
        value = said.pop(current, None)
        if value is not None:
            tokens = tokens_in(value)
            if tokens is not None:
                said[current] = tokens
                continue
            invalid += 1
        for key in others:
            value = details.get(current) if key == keys.USAGE_DETAILS else attributes.get(key)
            if value is None:
                continue
            tokens = tokens_in(value)
            if tokens is not None:
                said[current] = tokens
                break
            invalid += 1
    return invalid


def _texts(said: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    for current, others in keys.TEXTS:
        text = text_in(said.get(current))
        if text is not None:
            continue
        for key in others:
            value = attributes.get(key)
            if key == keys.INVOCATION_PARAMETERS and value is not None:
                parameters = json_in(value)
                value = parameters.get("model") if isinstance(parameters, Mapping) else None
            text = text_in(value)
            if text is not None:
                said[current] = text
                break


def _dollars(attributes: Mapping[str, Any], key: str) -> Any:
    value = attributes.get(key)
    return cost_in(value) if key == keys.COST_DETAILS and value is not None else value


def _seconds(attributes: Mapping[str, Any], key: str) -> Any:
    value = attributes.get(key)
    in_ms = key in keys.FIRST_CHUNK_MS or (
        key == keys.SERVER_FIRST_CHUNK
        and keys.STRANDS in (attributes.get("gen_ai.system"), attributes.get(semconv.PROVIDER))
    )
    if in_ms and value is not None and milliseconds_in(value) is not None:
        return value / 1e3
    return value


def _tool_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    for start, end in keys.INDEXED_TOOL_NAMES:
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
