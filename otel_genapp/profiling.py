"""Profiles on demand: where the time of a block of the application goes, as a page and as text.

    @profile_action("digest_task")                # a function or coroutine function
    with profile_action("menu_handler"): …        # a block, in `async with` too

A block is profiled while `telemetry.profile(seconds)` says so, where the setting `profile_actions`
names it, or when its own `when` holds; at all other times it costs one look. The files lie in
`profiles/` in the state directory, which only their owner can read; the oldest make room.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from otel_genapp import hub
from otel_genapp.errors import MissingDependencyError
from otel_genapp.quiet import quiet
from otel_genapp.secrets import without_secrets
from otel_genapp.state_directory import StateDirectory, open_state_directory

P = ParamSpec("P")
R = TypeVar("R")

FOLDER: Final = "profiles"
KEPT_PROFILES: Final = 20
LONGEST_TEXT: Final = 512 * 1024
SAMPLES_LIMIT: Final = 5_000
"""About 5 s of work and 20 MB of memory; what a block does afterwards is not in its profile."""
LARGEST_PAGE_BYTES: Final = 4 * 1024 * 1024

_LINES_IN_LOG = 40
_INTERVAL_S = 0.001
_CUT = f"The first {SAMPLES_LIMIT:,} samples; the block went on after them."
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_guarded = quiet("capture")
_log = logging.getLogger("otel_genapp.profiles")


class profile_action:  # noqa: N801 - reads as a statement: `with profile_action("menu_handler"):`
    """Profile the block, or every call of the decorated function, when that is asked for.

    `when` is True or a function that says so; it adds to what telemetry says. A block inside a
    profiled one is part of that profile; of one name one profile is taken at a time. Nothing happens
    while no telemetry runs, and what the block raises passes through untouched.

    Raises:
        MissingDependencyError: where it decorates or has a `when`, and pyinstrument is not installed.
    """

    __slots__ = ("_name", "_profiler", "_running", "_when")

    def __init__(self, name: str, *, when: bool | Callable[[], bool] = False) -> None:
        if when is not False:
            require_profiler()
        self._name = name
        self._when = when
        self._profiler: Any = None
        self._running: hub.Hub | None = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        require_profiler()
        name, when = self._name, self._when

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def profiled(*args: P.args, **kwargs: P.kwargs) -> Any:
                with profile_action(name, when=when):
                    return await function(*args, **kwargs)

            return profiled  # type: ignore[return-value] # a coroutine function for one

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with profile_action(name, when=when):
                return function(*args, **kwargs)

        return called

    def __enter__(self) -> Self:
        running = hub.active
        if running is not None and (
            self._when is not False or running.profile_until_s or running.settings.profile_actions
        ):
            with _guarded:
                self._begin(running)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._profiler is not None:
            with _guarded:
                self._end()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self, running: hub.Hub) -> None:
        if not self._is_wanted(running) or self._name in running.profiling or not _is_installed():
            return
        profiler = _profiler()
        try:
            profiler.start()
        except RuntimeError:  # one is running here already, which sees this block too
            return
        running.profiling.add(self._name)
        self._profiler, self._running = profiler, running

    def _is_wanted(self, running: hub.Hub) -> bool:
        named = running.settings.profile_actions
        return (
            time.monotonic() < running.profile_until_s
            or self._name in named
            or "*" in named
            or (self._when() if callable(self._when) else self._when)
        )

    def _end(self) -> None:
        profiler, running, self._profiler = self._profiler, self._running, None
        if running is None:
            return
        writing = False
        try:
            session = profiler.stop()
            session.program = self._name  # it holds the command line, where a password may be
            # Rendering takes a while; nobody's event loop waits for it.
            thread = threading.Thread(
                target=_write,
                args=(session, self._name),
                kwargs={"running": running},
                name="otel-genapp-profile",
            )
            thread.start()
            writing = True
        finally:
            if not writing:
                running.profiling.discard(self._name)


def profile_blocks(seconds: float) -> None:
    """Profile every block that begins within so many seconds from now, in this process.

    Raises:
        MissingDependencyError: pyinstrument is not installed.
    """
    require_profiler()
    running = hub.active
    if running is not None:
        lasts_s = seconds if math.isfinite(seconds) and seconds > 0 else 0.0
        running.profile_until_s = time.monotonic() + min(lasts_s, 86_400.0) if lasts_s else 0.0


def require_profiler() -> None:
    """Make sure that profiles can be taken.

    Raises:
        MissingDependencyError: pyinstrument is not installed.
    """
    if not _is_installed():
        raise MissingDependencyError("pyinstrument", "profiling")


def _is_installed() -> bool:
    if "pyinstrument" in sys.modules:
        return sys.modules["pyinstrument"] is not None
    return find_spec("pyinstrument") is not None


def _profiler() -> Any:
    """A profiler that takes no more samples than there is room for: a block may last for days."""
    from pyinstrument import Profiler

    class Bounded(Profiler):
        def _sampler_saw_call_stack(self, *said: Any) -> None:
            session = self._active_session
            if session is None or len(session.frame_records) < SAMPLES_LIMIT:
                super()._sampler_saw_call_stack(*said)

    return Bounded(interval=_INTERVAL_S, async_mode="enabled")


def _write(session: Any, name: str, *, running: hub.Hub) -> None:
    with _guarded:
        try:
            _render(session, name, running=running)
        finally:
            running.profiling.discard(name)


def _render(session: Any, name: str, *, running: hub.Hub) -> None:
    from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer

    text = without_secrets(ConsoleRenderer(unicode=True, color=False).render(session))[:LONGEST_TEXT]
    if len(session.frame_records) >= SAMPLES_LIMIT:
        text = f"{_CUT}\n{text}"
    state = open_state_directory(running.settings)
    path = state.path
    folder = StateDirectory(path / FOLDER if path is not None else None, state.problem)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    stem = f"{moment}-{_UNSAFE.sub('_', name)[:40] or '_'}"
    _make_room(folder)
    saved = folder.write_private(f"{stem}.txt", text.encode("utf-8", "backslashreplace"), durable=False)
    page = HTMLRenderer().render(session).encode("utf-8", "backslashreplace")
    if saved and len(page) <= LARGEST_PAGE_BYTES:
        folder.write_private(f"{stem}.html", page, durable=False)
    beginning = "\n".join(text.splitlines()[:_LINES_IN_LOG])
    where = str(path / FOLDER / stem) if saved and path is not None else folder.problem
    _log.info("profile of %s: %s\n%s", name, where, beginning)


def _make_room(folder: StateDirectory) -> None:
    """Let at most one profile less than may be kept be there; names begin with the time, so they sort by age."""
    names = folder.names("2") if folder.path is not None and folder.path.exists() else ()
    stems = sorted({name.rpartition(".")[0] for name in names})
    for stem in stems[: max(len(stems) - KEPT_PROFILES + 1, 0)]:
        for kind in ("txt", "html"):
            folder.remove(f"{stem}.{kind}")
