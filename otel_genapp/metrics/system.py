"""The process and host figures of the official system-metrics instrumentation, on our provider.

Only what costs little at a scrape: its default also lists every network connection of the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

_WATCHED: dict[str, list[str] | None] = {
    "process.cpu.time": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
    "process.context_switches": ["involuntary", "voluntary"],
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
    "cpython.gc.uncollectable_objects": None,
    "system.cpu.time": ["idle", "user", "system", "irq"],
    "system.memory.usage": ["used", "free", "cached"],
    "system.memory.utilization": ["used", "free", "cached"],
}


class SystemMetrics:
    """The running instrumentation; `problem` says why there is none."""

    def __init__(self, provider: Any, *, excluded: Sequence[str]) -> None:
        from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor

        config = {
            name: modes
            for name, modes in _WATCHED.items()
            if not any(fnmatch(name, pattern) for pattern in excluded)
        }
        self.problem = ""
        self._instrumentor = SystemMetricsInstrumentor(config=config)
        if self._instrumentor.is_instrumented_by_opentelemetry:
            self.problem = "system metrics: the application instruments them itself"
            return
        self._instrumentor.instrument(meter_provider=provider)

    def restart_in_child(self) -> None:
        """Watch the child of a fork instead of its parent."""
        watched = self._instrumentor._proc  # noqa: SLF001 - the process that made it, for ever
        self._instrumentor._proc = type(watched)()  # noqa: SLF001

    def stop(self) -> None:
        """Let a later telemetry start it again."""
        if not self.problem:
            self._instrumentor.uninstrument()
