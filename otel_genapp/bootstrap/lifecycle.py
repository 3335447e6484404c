"""The ends of a process: normal exit, SIGTERM, fork.

uvicorn re-raises SIGTERM after its graceful stop, so `atexit` never runs there: the ASGI lifespan
delivers (see `capture.fastapi`) and a chained signal handler does for processes without one.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from otel_genapp.quiet import quiet

STOP_TIMEOUT_S = 5.0
_PAUSE_S = 1.0
"""How long the main thread stands still at a fatal SIGTERM. What the interrupted code holds (a
lock, say) may be what delivery waits for, so after this it goes on until delivery is done."""

_guarded = quiet("lifecycle")


class Living(Protocol):
    """What the ends of a process need of the running telemetry."""

    def shutdown(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Deliver and stop within `timeout_s`."""

    def restart_in_child(self) -> None:
        """Start over, in the child of a fork."""


_current: Callable[[], Living | None] = lambda: None  # noqa: E731 - replaced by `install`
_installed = False
_previous: Any = None


def install(current: Callable[[], Living | None]) -> None:
    """Hook into exit, fork and, on the main thread, SIGTERM. Hooks are set once a process."""
    global _current, _installed  # noqa: PLW0603 - hooks of the process, not of one telemetry
    _current = current
    if not _installed:
        _installed = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)
    _chain_sigterm()


def _chain_sigterm() -> None:
    global _previous  # noqa: PLW0603
    if threading.current_thread() is not threading.main_thread():
        return
    with _guarded:
        handler = signal.getsignal(signal.SIGTERM)
        if handler is _on_sigterm or handler is None or handler is signal.SIG_IGN:
            return
        _previous = handler
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    previous = _previous
    if callable(previous):
        # A server's graceful stop: requests are still running, lifespan or atexit delivers.
        previous(number, frame)
        return
    # Only the main thread may set a handler; with the default back, the delivering thread can end
    # the process by the signal itself, and its parent sees the true cause.
    signal.signal(number, signal.SIG_DFL)
    done = threading.Event()

    def deliver_and_die() -> None:
        try:
            _shut_down()
        finally:
            done.set()
            os.kill(os.getpid(), number)

    threading.Thread(target=deliver_and_die, name="otel-genapp-sigterm", daemon=True).start()
    done.wait(_PAUSE_S)


def _shut_down() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.shutdown(STOP_TIMEOUT_S)


def _at_exit() -> None:
    _shut_down()


def _in_child() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.restart_in_child()
