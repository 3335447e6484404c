"""Where numbers are kept: the state directory and the store."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.cli.places import state_directories
from otel_genapp.cli.stored import errors_of_stores
from otel_genapp.config import CLICKHOUSE_STORE, ENVIRONMENT, MEMORY_STORE, without_userinfo
from otel_genapp.errors import GenappError, StoreError
from otel_genapp.ledger.looking import Onlooker, database_url, open_to_look
from otel_genapp.state_directory import StateDirectory, directory_name

_STATE = ENVIRONMENT["state_dir"]
_STORE = ENVIRONMENT["store"]
_LITTLE_BYTES, _SOME_BYTES = 20_000_000, 500_000_000
_DIRECTORIES = 10


def check_state(inspection: Inspection) -> Iterator[Finding]:
    """Whether the state directory is there, private, and has room."""
    bases = inspection.wanted.bases
    if inspection.app_is_named and inspection.settings is not None:
        name = directory_name(inspection.settings.app, inspection.settings.env)
        paths = [base.absolute() / name for base in bases]
        found = list(_looked_at(paths[0]))
        yield from found
        is_refused = any(finding.level == "problem" for finding in found)
        if is_refused and len(paths) > 1:
            yield warning(f"{paths[1]} is used instead of {paths[0]}", "make the first one usable")
        return
    paths = list(state_directories(bases))
    for path in paths[:_DIRECTORIES]:
        yield from _looked_at(path)
    if not paths:
        yield from _can_be_made(bases[0].absolute())


def check_store(inspection: Inspection) -> Iterator[Finding]:
    """Whether the store answers, is of a version we know, and can be written to."""
    settings = inspection.settings
    if settings is None:
        return
    url, shown = settings.store, without_userinfo(settings.store)
    if url == MEMORY_STORE:
        said = "sessions are kept in memory: each worker has its own, and they end with it"
        yield ok(said) if settings.env == "dev" else warning(said, f"unset {_STORE}, or name a database")
        return
    if not url:
        there = [
            path for path in state_directories(inspection.wanted.bases) if inspection.wanted.fits(path.name)
        ]
        if len(there) > 1:
            yield ok(f"{len(there)} state directories have a store each: look at one with --app and --env")
            return
        url = database_url(StateDirectory(there[0])) or "" if there else ""
        shown = url.removeprefix("sqlite:///")
        if not url:
            yield ok("SQLite in the state directory; there is no database yet")
            return
    unreachable = _unreachable(url, timeout_s=inspection.timeout_s / 3)
    if unreachable:
        yield problem(
            f"{shown} cannot be reached: {unreachable}",
            f"start the database, or correct {_STORE}; until then calls stay in the journal",
        )
        return
    yield from _tried(url, shown)


def _tried(url: str, shown: str) -> Iterator[Finding]:
    try:
        store = open_to_look(url)
    except StoreError as error:
        is_new = "No such file" in str(error)
        yield (
            ok(f"{shown} does not exist yet")
            if is_new
            else problem(str(error), "run as the owner of the file")
        )
        return
    except GenappError as error:  # an option the URL cannot have, or a driver that is not installed
        yield problem(str(error), f"correct {_STORE}, or install what it needs")
        return
    try:
        count = store.sessions(limit=1, cursor=None).total
        yield ok(f"{shown} is of a version that is known and can be read: {count:,} sessions")
        store.try_writing()
        yield ok(f"{shown} can be written to")
    except StoreError as error:
        if "no tables yet" in str(error):
            yield ok(f"{shown} has no tables yet: the application makes them")
        else:
            yield problem(str(error), f"install a newer otel-genapp, or name another database in {_STORE}")
    except errors_of_stores() as error:
        cause = getattr(error, "orig", None) or error
        yield problem(
            f"{shown} does not do what it was asked ({type(cause).__name__})",
            "check user, password and rights of the database, and that nothing else holds it",
        )
    finally:
        store.close()


def _unreachable(url: str, *, timeout_s: float) -> str:
    """Why no server can be reached there; "" if one can, or there is none to reach."""
    if url.startswith("sqlite"):
        return ""
    try:
        parts = urlsplit(url)
        default = 8123 if url.startswith(CLICKHOUSE_STORE) else 5432
        if not parts.hostname:  # a socket, or a host among the options
            return ""
        socket.create_connection((parts.hostname, parts.port or default), timeout=timeout_s).close()
    except TimeoutError:
        return f"no answer within {timeout_s:.1f} s"
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return ""


def _looked_at(path: Path) -> Iterator[Finding]:
    if not os.path.lexists(path):
        yield from _can_be_made(path)
        return
    state = StateDirectory(path)
    state.names("journal")
    if state.problem:
        said, _, remedy = state.problem.partition("; ")
        yield problem(said, remedy or f"set {_STATE} to a directory of your own")
        return
    yield ok(f"{path} is private (0700) and yours")
    yield from _room(path)
    yield from _left_over(path, state)


def _can_be_made(path: Path) -> Iterator[Finding]:
    parent = path.parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        yield problem(
            f"{path} does not exist, and {parent} is no directory this user may write to",
            f"set {_STATE} to a directory of your own; without one sessions end with their process",
        )
    else:
        yield ok(f"{path} does not exist yet: the application makes it")
        yield from _room(parent)


def _room(path: Path) -> Iterator[Finding]:
    if not hasattr(os, "statvfs"):
        return
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    remedy = f"make room, or set {_STATE} to a directory on another disk"
    if free < _LITTLE_BYTES:
        yield problem(f"{free / 1e6:,.0f} MB are left on the disk of {path}: the journal will fail", remedy)
    elif free < _SOME_BYTES:
        yield warning(f"{free / 1e6:,.0f} MB are left on the disk of {path}", remedy)


def _left_over(path: Path, state: StateDirectory) -> Iterator[Finding]:
    names = [entry.name for entry in path.iterdir()]
    bad = [name for name in names if name.endswith(".bad")]
    if bad:
        yield warning(
            f"{len(bad)} snapshots of metrics in {path} could not be read and were set aside (.bad)",
            "counters of those workers may have stepped back; remove the files, and report it if there are more",
        )
    damaged = sorted(name for name in names if ".damaged-" in name and not name.endswith(("-wal", "-shm")))
    if damaged:
        yield warning(
            f"a damaged database was set aside in {path}: {', '.join(damaged)}",
            "check the disk; read it with sqlite3's .recover, then remove it",
        )
    yield from _waiting(path, state)


def _waiting(path: Path, state: StateDirectory) -> Iterator[Finding]:
    """Records that no store has and no living process brings in."""
    url = database_url(state)
    onlooker = Onlooker(lambda: open_to_look(url) if url else None, state, price=lambda record: record)
    try:
        try:
            waiting = onlooker.look(lambda view: len(view.waiting))
        finally:
            onlooker.close()
    except GenappError:
        return  # what is wrong with the store is said by its own check
    except errors_of_stores():
        return
    if waiting:
        yield warning(
            f"{waiting:,} records wait in journals of {path}: no running worker has brought them into the store",
            "start the application once, any worker takes them in; where one runs, look into its log",
        )
