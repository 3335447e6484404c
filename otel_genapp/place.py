"""Where code runs: what is tried again, or called back, runs where it was begun."""

from __future__ import annotations

import asyncio
from threading import get_ident

Place = tuple[int, int]
"""Thread, and the task of its event loop; 0 for none."""


def place() -> Place:
    """The thread and, in an event loop, the task that runs now."""
    task = 0
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public one raises
        current = asyncio.current_task()
        task = id(current) if current is not None else 0
    return get_ident(), task
