"""Putting our wrappers and OpenTelemetry's spans into a client library, and taking them out again."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from otel_genapp.capture.finalizers import watch_collections
from otel_genapp.config import prefer_stable_http_conventions
from otel_genapp.errors import GenappError, MissingDependencyError
from otel_genapp.quiet import quiet

_guarded = quiet("capture")
_MARK = "_otel_genapp_installation"

Undo = Callable[[], None]


class Spans:
    """One OpenTelemetry instrumentor, started unless it is running already."""

    def __init__(
        self, package: str, instrumentor: str, *, library: str, extra: str, providers: Mapping[str, Any]
    ) -> None:
        self._package = package
        self._instrumentor = instrumentor
        self._missing = MissingDependencyError(library, extra)
        self._providers = {name: value for name, value in providers.items() if value is not None}
        self._started: Any = None

    def start(self) -> bool:
        """Start it. False while its package is being imported further up this thread's stack.

        Raises:
            MissingDependencyError: its package is absent or too old.
            GenappError: it refuses the installed version of the library; the message says why.
        """
        try:
            package = importlib.import_module(self._package)
        except ImportError:
            raise self._missing from None
        factory = getattr(package, self._instrumentor, None)
        if factory is None:
            # It imports the library at its top, which is what brought us here.
            if getattr(package.__spec__, "_initializing", False):
                return False
            raise self._missing
        instrumentor = factory()
        if not instrumentor.is_instrumented_by_opentelemetry:
            prefer_stable_http_conventions()
            conflict = instrumentor._check_dependency_conflicts()  # noqa: SLF001 - `instrument` only logs it
            if conflict is not None:
                raise GenappError(f"{self._instrumentor} refuses to start: {conflict}")
            instrumentor.instrument(skip_dep_check=True, **self._providers)
            self._started = instrumentor
        return True

    def stop(self) -> None:
        """Stop it, if it was started here."""
        instrumentor, self._started = self._started, None
        if instrumentor is not None:
            instrumentor.uninstrument()


class MethodPatch:
    """A method replaced at class level, which reaches existing instances and subclasses too."""

    __slots__ = ("_name", "_owner", "_wrapper", "inner")

    def __init__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name
        self.inner: Any = vars(owner)[name]
        """What was there before."""
        self._wrapper: Any = None

    def bound(self, instance: Any) -> Any:
        """The method from before, bound as Python would: OpenTelemetry's wrappers insist on it."""
        return self.inner.__get__(instance, type(instance))

    def put_on(self, wrapper: Any) -> None:
        """Install `wrapper` in the method's place."""
        self._wrapper = wrapper
        setattr(self._owner, self._name, wrapper)

    def lift(self) -> bool:
        """Take the wrapper off; False where somebody else's wrapper is on top of it."""
        if vars(self._owner).get(self._name) is not self._wrapper:
            return False
        setattr(self._owner, self._name, self.inner)
        return True

    def lower(self) -> None:
        """Put the wrapper back, over whatever has been installed meanwhile."""
        self.inner = vars(self._owner)[self._name]
        setattr(self._owner, self._name, self._wrapper)


class Installation:
    """Everything put into one library."""

    def __init__(self, spans: Spans) -> None:
        self.live = True
        """Whether the wrappers do anything: one buried under somebody else's stays where it is."""
        self.spans_pending = True
        self._spans = spans
        self._patches: list[MethodPatch] = []
        # Re-entrant: starting the spans of httpx imports httpx2, whose import comes back here.
        self._lock = threading.RLock()
        self._undo_watch = watch_collections()

    def patch(self, owner: type, name: str, *, wrap: Callable[[MethodPatch], Any]) -> None:
        """Replace `owner.name` by `wrap(patch)`."""
        patch = MethodPatch(owner, name)
        wrapper = wrap(patch)
        setattr(wrapper, _MARK, self)
        patch.put_on(wrapper)
        self._patches.append(patch)

    def start_spans(self) -> None:
        """Start OpenTelemetry's instrumentor under our wrappers: they decide on headers first."""
        with self._lock:
            if not self.spans_pending:
                return
            lifted = [patch for patch in self._patches if patch.lift()]
            try:
                self.spans_pending = not self._spans.start()
            finally:
                for patch in lifted:
                    patch.lower()

    def settle_spans(self) -> None:
        """Start the spans that could not start when the library was being imported."""
        with _guarded:
            try:
                self.start_spans()
            except GenappError:
                self.spans_pending = False
                raise

    def undo(self) -> None:
        """Take everything out that was put in. A second call does nothing."""
        with self._lock:
            if not self.live:
                return
            self.live = False
            for patch in reversed(self._patches):
                patch.lift()
            self._spans.stop()
            self._undo_watch()


def installed(owner: type, name: str) -> Undo | None:
    """The undo of the installation that is alive in `owner.name`, if there is one."""
    found = getattr(vars(owner).get(name), _MARK, None)
    if isinstance(found, Installation) and found.live:
        return found.undo
    return None
