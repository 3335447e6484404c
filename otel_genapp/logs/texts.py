"""What records hold, as text: whatever a `str` or `repr` of the application does, there is one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from otel_genapp.quiet import quiet

_NESTED: Final = 3
"""How deep records may be that are logged while an object of another record is shown."""

_guarded = quiet("context")


class _Here(threading.local):
    """How many objects this thread is showing."""

    depth = 0


_here = _Here()


def message_of(record: logging.LogRecord) -> str:
    """The record's message. Arguments that do not fit stand behind it as they are: nothing of it is lost."""
    if isinstance(record.msg, str) and not record.args:
        return record.msg
    message = formatted(record)
    if message is not None:
        return message
    return f"{text_of(record.msg)} {_arguments(record.args)}" if record.args else text_of(record.msg)


def formatted(record: logging.LogRecord) -> str | None:
    """The record's message as `logging` has it; None where that fails."""
    return _shown(lambda: _formatted(record))


def text_of(value: object) -> str:
    """`str(value)`, or what it is where that fails."""
    if isinstance(value, str):
        return value
    text = _shown(lambda: str(value))
    return unshown(value) if text is None else text


def repr_of(value: object) -> str:
    """`repr(value)`, or what it is where that fails or would log `value` again without end."""
    text = _shown(lambda: repr(value))
    return unshown(value) if text is None else text


def unshown(value: object) -> str:
    """What stands for a value that cannot be shown."""
    return f"<{type(value).__name__}>"


def _shown(show: Callable[[], str | None]) -> str | None:
    text = None
    if _here.depth < _NESTED:
        _here.depth += 1
        try:
            with _guarded:
                text = show()
        finally:
            _here.depth -= 1
    return text


def _formatted(record: logging.LogRecord) -> str | None:
    with suppress(TypeError, ValueError, LookupError):  # the application's mistake, and none of ours
        return record.getMessage()
    return None


def _arguments(arguments: object) -> str:
    """Their repr, made one by one: one that fails hides no other."""
    if isinstance(arguments, Mapping):
        pairs = (f"{repr_of(name)}: {repr_of(value)}" for name, value in arguments.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(arguments, tuple):
        shown = ", ".join(map(repr_of, arguments))
        return f"({shown},)" if len(arguments) == 1 else f"({shown})"
    return repr_of(arguments)
