"""The one place that swallows our own errors: catch, count, log at most once a minute and site.

Telemetry must never raise into the application it watches, and must never hide its own bugs
either. Every guarded block names its *site*, one of `semconv.SITES`; the error is handed to the
observers (the running telemetry counts it, the test-suite fails on it) and logged. Only
`Exception` is caught: cancellation, `KeyboardInterrupt` and `SystemExit` always pass.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

Observer = Callable[[str, Exception], None]

logger = logging.getLogger("otel_genapp")

LOG_INTERVAL_S = 60.0


class _Inside(threading.local):
    """The observers that this thread is inside of."""

    observers: tuple[Observer, ...] = ()


_observers: tuple[Observer, ...] = ()
_inside = _Inside()
_logged_at: dict[str, float] = {}


class quiet:  # noqa: N801 - reads as a statement: `with quiet("capture"):`
    """Run a block of telemetry code; an `Exception` in it is reported, never raised."""

    __slots__ = ("_site",)

    def __init__(self, site: str) -> None:
        self._site = site

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            return False
        if not isinstance(error, Exception):
            return False
        report(self._site, error)
        return True


def report(site: str, error: Exception) -> None:
    """Count an own error of `site` and log it, at most once a minute for each site."""
    for observe in _observers:
        # An observer is not told of the errors it makes itself: there would be no end of them.
        if observe in _inside.observers:
            continue
        _inside.observers = (*_inside.observers, observe)
        try:
            observe(site, error)
        except Exception:  # noqa: BLE001 - logged below, and no further
            _log(logging.DEBUG, "an observer of own errors failed", exc_info=True)
        finally:
            _inside.observers = _inside.observers[:-1]
    now = time.monotonic()
    last = _logged_at.get(site)
    if last is None or now - last >= LOG_INTERVAL_S:
        _logged_at[site] = now
        # The type and place only: a message may carry what the application put into it.
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "unknown"
        _log(logging.WARNING, "telemetry error in %s: %s at %s", site, type(error).__name__, place)


def say(message: str, *values: object) -> None:
    """Warn whoever reads the log of what the application got wrong, at most once a minute for each message."""
    now = time.monotonic()
    last = _logged_at.get(message)
    if last is None or now - last >= LOG_INTERVAL_S:
        _logged_at[message] = now
        _log(logging.WARNING, message, *values)


def _log(level: int, message: str, *values: object, exc_info: bool = False) -> None:
    with suppress(Exception):  # the application's filters and record factories may raise
        logger.log(level, message, *values, exc_info=exc_info)


def observe(observer: Observer) -> Callable[[], None]:
    """Tell `observer(site, error)` of every own error; returns the call that stops it."""
    global _observers  # noqa: PLW0603 - copy-on-write, so that `report` iterates without a lock
    _observers = (*_observers, observer)

    def stop() -> None:
        global _observers  # noqa: PLW0603
        _observers = tuple(known for known in _observers if known is not observer)

    return stop
