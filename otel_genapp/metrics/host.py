"""How full the host's file systems and its memory are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

Labels = tuple[str, ...]


def disk_used(paths: Iterable[str]) -> Callable[[], dict[Labels, float]]:
    """The used part, 0 to 1, of the file system of each path, as `df` has it; paths that are gone are left out.

    Of several paths in one file system the first counts.
    """
    wanted = tuple(paths)

    def now() -> dict[Labels, float]:
        import psutil

        found: dict[Labels, float] = {}
        seen = set()
        for path in wanted:
            try:
                device = Path(path).stat().st_dev
                if device not in seen:
                    found[path,] = psutil.disk_usage(path).percent / 100
                    seen.add(device)
            except OSError:
                continue
        return found

    return now


def memory_used() -> float:
    """The used part of the host's memory, 0 to 1: what programs could not get without swapping."""
    import psutil

    return float(psutil.virtual_memory().percent) / 100
