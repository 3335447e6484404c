"""JSON that others wrote: how deep it may be, and what reading it leaves of the stack."""

from __future__ import annotations

import gc
import json
import sys

import pytest

from otel_genapp.capture.llm_wire.reading import last_member, parse
from otel_genapp.foreign_json import DEEPEST, is_deep, loads


def nested(levels: int) -> str:
    """Objects and lists in turn."""
    return "[" * (levels % 2) + '{"a":[' * (levels // 2) + "]}" * (levels // 2) + "]" * (levels % 2)


@pytest.mark.parametrize("levels", [1, 2, DEEPEST - 1, DEEPEST])
def test_what_is_not_deep_is_read(levels: int) -> None:
    """As the standard library reads it, from text and from bytes."""
    text = nested(levels)
    assert loads(text) == loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 3000, 100_000])
def test_what_is_deep_is_refused(levels: int) -> None:
    """With an error of malformed text, and without an attempt."""
    for text in (nested(levels), nested(levels).encode()):
        with pytest.raises(ValueError, match="more than 200 levels"):
            loads(text)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([[]] * 1000),
        json.dumps({"a": "[" * 1000, "b": '\\"' + "[" * 1000, "c": "\\"}),
        json.dumps([{"x": ["}"]}] * 500),
    ],
)
def test_width_and_brackets_in_texts_are_not_depth(text: str) -> None:
    """However many there are."""
    assert (is_deep(text), is_deep(text.encode())) == (False, False)
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[", '"', "{" * 150, '"' + "[" * 300, b"\xff" * 300, "[1" * 150])
def test_what_is_no_json_is_an_error(text: str | bytes) -> None:
    """Of the one kind that malformed text has."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_finalizers_have_the_stack() -> None:
    """What the application's garbage does in the middle of our reading finds the stack as it was."""
    short_of_stack: list[bool] = []

    def down(levels: int) -> None:
        if levels:
            down(levels - 1)

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            try:
                down(sys.getrecursionlimit() // 2)
            except RecursionError:
                short_of_stack.append(True)
            else:
                short_of_stack.append(False)

    thresholds = gc.get_threshold()
    for read in (parse, lambda text: last_member(b'"a":{"b":' + text, "a")):
        gc.collect()
        gc.set_threshold(600, 1, 1)
        try:
            Garbage()
            assert read(b'{"a":[' * 480 + b"]}" * 480) is None
        finally:
            gc.set_threshold(*thresholds)
    gc.collect()
    assert short_of_stack == [False, False]
