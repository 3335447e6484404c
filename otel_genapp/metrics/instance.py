"""Which running server a process belongs to: its workers add up, two servers side by side never do.

A process is a worker of its parent if it is a copy of it that was forked and has started no other
program since (gunicorn, uWSGI, Celery), or if `multiprocessing` spawned it (uvicorn and hypercorn with
several workers). The server is the first of such a line. So a shell is never one: it starts programs.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_GENERATIONS = 8
_SPAWNED = "--multiprocessing-fork"
_FORK_SERVER = "multiprocessing.forkserver"


@dataclass(frozen=True, slots=True)
class Instance:
    """A running server's id, a plain word; `is_worker`: this process is one of several it may have."""

    id: str
    is_worker: bool


@dataclass(frozen=True, slots=True)
class Process:
    """What tells a process from others; `image` is the same in a forked copy, empty where unknown."""

    pid: int
    parent: int
    started: int
    command: tuple[str, ...]
    image: tuple[int, ...] = ()


def find_instance(given: str) -> Instance:
    """The instance that was `given` by name, else the one this process and its parents tell."""
    if given:
        digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
        return Instance(digest[:12], is_worker=True)
    own = _look_at(os.getpid())
    if own is None:
        return Instance(f"{os.getpid():x}", is_worker=False)
    server = own
    for _ in range(_GENERATIONS):
        parent = _look_at(server.parent)
        if parent is None or not is_worker_of(server, parent):
            break
        server = parent
    return Instance(_id_of(server), is_worker=server is not own)


def is_worker_of(process: Process, parent: Process) -> bool:
    """Whether a process is one of several that its parent has for the same work."""
    command = process.command
    if _SPAWNED in command or any(_FORK_SERVER in word for word in command):
        return True
    if process.image and parent.image:
        return process.image == parent.image
    # With setproctitle the command line is a title.
    titles = (command[:1], parent.command[:1])
    return bool(command) and (command == parent.command or _are_titles(*titles))


def is_over(instance_id: str) -> bool:
    """Whether the server an id stands for has certainly ended: not for names given, nor for other hosts."""
    pid, _, rest = instance_id.partition("_")
    started, _, place = rest.partition("_")
    if place != _place():
        return False
    with suppress(ValueError):
        found = _look_at(int(pid, 16))
        return found is None or f"{found.started:x}" != started
    return False


def _are_titles(own: Sequence[str], parent: Sequence[str]) -> bool:
    return own[0].startswith("gunicorn: worker") and bool(parent) and parent[0].startswith("gunicorn: master")


def _id_of(process: Process) -> str:
    """Its number is used again one day, its number and start are not."""
    return f"{process.pid:x}_{process.started:x}_{_place()}"


def _place() -> str:
    """This host since it started, and the container: process numbers mean something else elsewhere."""
    said = platform.node()
    with suppress(OSError):
        said = (_PROC / "sys/kernel/random/boot_id").read_text("ascii")
        said += str((_PROC / "self/ns/pid").stat().st_ino)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def _look_at(pid: int) -> Process | None:
    """The process with this number; None where there is none, or it may not be looked at."""
    if not (_PROC / "self/stat").exists():
        return _ask_psutil(pid)
    try:
        # After the name, which may hold anything.
        fields = (_PROC / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()
        command = (_PROC / f"{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return None
    # Counted since the host started: the clock may be set while workers come and go. See proc_pid_stat(5):
    # the start of the code and of the stack are random for each program started, and 0 or 1 if secret.
    image = tuple(int(fields[place]) for place in (23, 25))
    return Process(
        pid,
        int(fields[1]),
        int(fields[19]),
        tuple(os.fsdecode(word) for word in command),
        image if min(image) > 1 else (),
    )


def _ask_psutil(pid: int) -> Process | None:
    import psutil

    with suppress(psutil.Error, OSError):
        found = psutil.Process(pid)
        return Process(pid, found.ppid(), int(found.create_time() * 100), tuple(found.cmdline()))
    return None
