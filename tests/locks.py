"""Every lock that telemetry has, and whose it is."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LOCKS = (_thread.LockType, type(threading.RLock()))


@dataclass(frozen=True)
class Owned:
    """A lock, and the attribute that holds it: for those of conditions and events, the condition's."""

    lock: Any
    owner: Any
    attribute: str


def locks_of(owner: Any) -> Iterator[tuple[str, Owned]]:
    """(attribute, lock) of an object, those inside its conditions and events included."""
    names = [*getattr(owner, "__dict__", {}), *getattr(type(owner), "__slots__", ())]
    for name in names:
        holder, attribute, value = owner, name, getattr(owner, name, None)
        if isinstance(value, threading.Event):
            holder, attribute, value = value, "_cond", value._cond  # type: ignore[attr-defined]
        if isinstance(value, threading.Condition):
            holder, attribute, value = value, "_lock", value._lock  # type: ignore[attr-defined]
        if isinstance(value, LOCKS):
            yield name, Owned(value, holder, attribute)


def known_locks() -> dict[str, list[Owned]]:
    """`module.Class.attribute` -> the locks, of this package and of the SDK's metrics."""
    found: dict[str, list[Owned]] = {}
    for name, module in tuple(sys.modules.items()):
        if name.startswith("otel_genapp"):
            for attribute, lock in locks_of(module):
                found.setdefault(f"{name}.{attribute}", []).append(lock)
    for owner in gc.get_objects():
        kind = type(owner)
        module_name = str(getattr(kind, "__module__", ""))
        if module_name.startswith(("otel_genapp", "opentelemetry.sdk.metrics", "prometheus_client.registry")):
            for attribute, lock in locks_of(owner):
                found.setdefault(f"{module_name}.{kind.__qualname__}.{attribute}", []).append(lock)
    return found
