"""Which running server a process belongs to: its workers add up, two servers side by side never do."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Instance:
    """A running server's id, a plain word; `is_worker`: this process is one of several it may have."""

    id: str
    is_worker: bool


def find_instance(given: str) -> Instance:
    """The instance that was `given` by name, else the one the parent process stands for.

    A process is a worker of its parent if it is a copy of it (gunicorn, uWSGI, Celery fork: the
    command lines are equal), or was spawned by `multiprocessing` (uvicorn and hypercorn with
    several workers). Any other process is a server by itself, whoever started it.
    """
    if given:
        return Instance(
            hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:12], is_worker=True
        )
    import psutil

    with suppress(psutil.Error, OSError):
        own = psutil.Process()
        parent = own.parent()
        if parent is not None and _is_worker(own.cmdline(), parent.cmdline()):
            return Instance(_id_of(parent), is_worker=True)
        return Instance(_id_of(own), is_worker=False)
    return Instance(f"{os.getpid():x}", is_worker=False)


def is_over(instance_id: str) -> bool:
    """Whether the server an id stands for has ended; a name given to one says nothing of that."""
    pid, dash, _ = instance_id.partition("-")
    if not dash:
        return False
    import psutil

    try:
        return _id_of(psutil.Process(int(pid, 16))) != instance_id
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError, ValueError):
        return False


def _is_worker(own: list[str], parent: list[str]) -> bool:
    if not own or not parent:
        return False
    if own == parent:
        return True
    if any("multiprocessing" in word and "spawn" in word for word in own) or "--multiprocessing-fork" in own:
        return True
    # With setproctitle the command line is a title.
    return own[0].startswith("gunicorn: worker") and parent[0].startswith("gunicorn: master")


def _id_of(process: Any) -> str:
    """Its number is used again one day, its number and start time are not."""
    return f"{process.pid:x}-{int(process.create_time() * 100):x}"
