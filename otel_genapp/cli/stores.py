"""Stores that commands look into: one that is not there is not made, one that does not answer is named."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from otel_genapp.config import ENVIRONMENT
from otel_genapp.errors import GenappError
from otel_genapp.ledger.opening import Opened

T = TypeVar("T")
NOT_THERE = "is not there"


class SourceError(GenappError):
    """Nothing can be read there; the message says why, and what to do."""


def require_readable(opened: Opened) -> None:
    """Refuse a store in which nothing can be looked up.

    Raises:
        SourceError: its file is not there, or it does not answer.
        GenappError: what it says of itself.
    """
    if opened.path is not None:
        why = missing(opened.path)
        if why:
            raise SourceError(f"the store {opened.path} {why}: correct --store or {ENVIRONMENT['store']}")
    answer = within(None, opened.store.positions)
    if isinstance(answer, GenappError):
        raise answer
    if isinstance(answer, BaseException):
        raise SourceError(
            f"the store {opened.shown} cannot be read: {said_by(answer)}; "
            f"start it, or correct --store or {ENVIRONMENT['store']}"
        )


def missing(path: Path) -> str:
    """Why there is no such file; empty where there is."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return NOT_THERE
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if is_file else "is no file"


def said_by(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0][:300]


def within(seconds: float | None, work: Callable[[], T]) -> T | BaseException | None:
    """What the work gives or raises, or None where it takes longer."""
    pool = ThreadPoolExecutor(1)
    asked = pool.submit(work)
    wait([asked], seconds)
    pool.shutdown(wait=False)
    if not asked.done():
        return None
    return asked.exception() or asked.result()
