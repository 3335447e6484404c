"""The ends of a process: normal exit, SIGTERM, fork.

uvicorn re-raises SIGTERM after its graceful stop, so `atexit` never runs there: the ASGI lifespan
delivers (see `capture.fastapi`) and a chained signal handler does for processes without one.
Children that `multiprocessing` forks end without `atexit` too, but run its finalizers.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from otel_genapp.quiet import quiet

_PAUSE_S = 1.0
"""How long the main thread stands still at a SIGTERM. What the interrupted code holds (a lock,
say) may be what delivery waits for, so after this it goes on."""

_guarded = quiet("lifecycle")


class Living(Protocol):
    """What the ends of a process need of the running telemetry."""

    def flush_before_stop(self) -> bool:
        """Deliver what is pending; the time it takes is taken off that of a `stop` soon after."""

    def stop(self) -> bool:
        """Deliver and stop within a stopping process's time."""

    def before_fork(self) -> None:
        """This process is about to have a child; `forked` follows."""

    def forked(self) -> None:
        """This process has a child."""


_current: Callable[[], Living | None] = lambda: None  # noqa: E731 - replaced by `install`
_restart: Callable[[], None] = lambda: None  # noqa: E731 - replaced by `install`
_installed = False


def install(current: Callable[[], Living | None], *, restart: Callable[[], None]) -> None:
    """Hook into exit, fork (`restart` runs in the child) and, on the main thread, SIGTERM.

    Hooks are set once a process; the signal handler again where somebody has replaced it since.
    """
    global _current, _restart, _installed  # noqa: PLW0603 - hooks of the process, not of one telemetry
    _current, _restart = current, restart
    if not _installed:
        _installed = True
        atexit.register(_stop)
        _stop_with_multiprocessing()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_in_parent)
    if threading.current_thread() is threading.main_thread():
        with _guarded:
            _chain_sigterm()


class _Chained:
    """Our SIGTERM handler, with the one it found."""

    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            # A server's graceful stop, after which lifespan or atexit delivers; or the end of the
            # process, when this is the last moment. An event loop ends in order: it is not held up.
            _hold_still(_flush, unless_in_a_loop=True)
            self._previous(number, frame)
            return
        # Only the main thread may set a handler; with the default back, the delivering thread can end
        # the process by the signal itself, and its parent sees the true cause.
        signal.signal(number, signal.SIG_DFL)

        def stop_and_die() -> None:
            try:
                _stop()
            finally:
                os.kill(os.getpid(), number)

        if not _hold_still(stop_and_die):
            stop_and_die()


def _chain_sigterm() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and handler is not signal.SIG_IGN and not isinstance(handler, _Chained):
        signal.signal(signal.SIGTERM, _Chained(handler))


def _hold_still(work: Callable[[], None], *, unless_in_a_loop: bool = False) -> bool:
    """Start `work` on a thread and wait a moment for it; False if no thread can be started."""
    started = False
    with _guarded:
        thread = threading.Thread(target=work, name="otel-genapp-sigterm", daemon=True)
        thread.start()
        started = True
        if not (unless_in_a_loop and _is_in_event_loop()):
            thread.join(_PAUSE_S)
    return started


def _is_in_event_loop() -> bool:
    asyncio: Any = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - the public one raises


def _flush() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.flush_before_stop()


def _stop() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.stop()


def _stop_with_multiprocessing() -> None:
    from multiprocessing.util import Finalize, register_after_fork

    def finalize(_: object) -> None:
        Finalize(None, _stop, exitpriority=-100)  # below 0: after the process's own children

    finalize(None)
    # A child's own start drops the finalizers it inherited.
    register_after_fork(install, finalize)


def _before_fork() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.before_fork()


def _in_parent() -> None:
    with _guarded:
        living = _current()
        if living is not None:
            living.forked()


def _in_child() -> None:
    with _guarded:
        _restart()
