"""The private directory of one app and env, where its workers share small files.

Nothing in it is trusted for its name: the directory and each file are opened without following
links and checked on the open handle, at every use. Whatever is wrong is said in `problem`; a
directory somebody else could read, write or replace is never used.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from otel_genapp.config import ENVIRONMENT, Settings, state_home

MAX_FILE_BYTES = 32 * 1024 * 1024

_VARIABLE = ENVIRONMENT["state_dir"]
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")

_HAS_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "geteuid")  # not on Windows
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# O_PATH, where it exists, opens a directory we may enter but not list.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# Non-blocking, or a planted FIFO would hold us for ever.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _NO_LINK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | _NO_LINK
# Readable too: a file lock on some network file systems needs that.
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | _NO_LINK


class _RefusedError(OSError):
    """A check failed; the message names the path, what is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class _Handle:
    """An open, checked directory; `fd` is None where the platform has no directory handles."""

    path: Path
    fd: int | None

    def at(self, name: str) -> str:
        return name if self.fd is not None else str(self.path / name)


class StateDirectory:
    """A directory nobody else can read or write, or none: then `path` is None and every call says no.

    `problem` is empty, or says in words what is wrong and what to do. No method raises.
    """

    __slots__ = ("_failures", "_refusal", "errno", "path")

    def __init__(self, path: Path | None, refusal: str = "") -> None:
        self.path = path
        self._refusal = refusal
        self._failures: dict[str, str] = {}
        self.errno = 0
        """The error number of the last failure, if the system gave one."""

    @property
    def problem(self) -> str:
        """Why this directory, a better place for it, or a file in it cannot be used; "" if all is well."""
        return "; ".join(filter(None, (self._refusal, *tuple(self._failures.values()))))

    def read_private(self, name: str) -> bytes | None:
        """The content of the file `name`; None if there is none or others could have written it."""
        try:
            with self._opened(name) as directory:
                content = _read(directory, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return None
        self._failures.pop(name, None)
        return content

    def write_private(self, name: str, data: bytes, *, durable: bool = True) -> bool:
        """Replace the file `name` by `data`, whole or not at all; False if that could not be done.

        Without `durable` it is not waited for until the disk has it: a crash of the host may undo it.
        """
        try:
            _require_small(data)
            with (
                self._opened(name) as directory,
                _temporary(directory, name, data=data, durable=durable) as written,
            ):
                os.replace(written, directory.at(name), src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return False
        self._failures.pop(name, None)
        return True

    def claim_private(self, name: str, data: bytes) -> bytes | None:
        """The content of the file `name`, which is `data` if nobody wrote it before; None if refused.

        Of several processes that claim one name at once, all get what the first of them wrote.
        """
        there = self.read_private(name)
        if there is not None:
            return there
        try:
            _require_small(data)
            with self._opened(name) as directory, _temporary(directory, name, data=data) as written:
                # A link, unlike a rename, fails where a file exists, and is never half written.
                os.link(written, directory.at(name), src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        except FileExistsError:
            pass
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return None
        return self.read_private(name)

    def names(self, start: str) -> tuple[str, ...]:
        """The names in it that begin with `start`, sorted; none where it cannot be looked into."""
        if self.path is None:
            return ()
        try:
            with self._opened(start) as directory:
                # The handle may be for entering only, so what it stands for is opened to be listed.
                has_handle = directory.fd is not None
                fd = os.open(directory.at("."), os.O_RDONLY, dir_fd=directory.fd) if has_handle else None
                try:
                    found = os.listdir(self.path if fd is None else fd)  # noqa: PTH208 - a path takes no descriptor
                finally:
                    if fd is not None:
                        os.close(fd)
        except OSError as error:
            self._failures[start] = self._said(start, error)
            return ()
        self._failures.pop(start, None)
        return tuple(sorted(name for name in found if name.startswith(start)))

    def open_to_append(self, name: str) -> int | None:
        """A descriptor to append to (and read) the file `name`, new or not, of any size; None if refused.

        The caller closes it. It is not inherited by programs this process starts.
        """
        return self._descriptor(name, _APPEND)

    def open_to_read(self, name: str) -> int | None:
        """A descriptor to read the file `name`, of any size; None if there is none, or it is refused."""
        return self._descriptor(name, _READ)

    def rename(self, name: str, new_name: str) -> bool:
        """Give the file `name` another name, replacing what has it; False if that could not be done."""
        try:
            with self._opened(name) as directory:
                os.replace(
                    directory.at(name), directory.at(_plain(new_name)),
                    src_dir_fd=directory.fd, dst_dir_fd=directory.fd,
                )  # fmt: skip
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return False
        self._failures.pop(name, None)
        return True

    def remove(self, name: str) -> bool:
        """Remove the file `name`; True if it is gone, whoever removed it."""
        try:
            with self._opened(name) as directory:
                os.unlink(directory.at(name), dir_fd=directory.fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return False
        self._failures.pop(name, None)
        return True

    def _descriptor(self, name: str, flags: int) -> int | None:
        try:
            with self._opened(name) as directory:
                fd = os.open(directory.at(name), flags, 0o600, dir_fd=directory.fd)
                try:
                    _require_private_file(directory.path / name, os.fstat(fd), limit_bytes=None)
                except BaseException:
                    os.close(fd)
                    raise
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failures[name] = self._said(name, error)
            return None
        self._failures.pop(name, None)
        return fd

    @contextmanager
    def _opened(self, name: str) -> Iterator[_Handle]:
        if self.path is None:
            raise _RefusedError(self._refusal)
        _plain(name)
        with _private_directory(self.path) as directory:
            yield directory

    def _said(self, name: str, error: OSError) -> str:
        self.errno = error.errno or 0
        if self.path is None:
            return ""
        return _describe(self.path / name, error)

    def __repr__(self) -> str:
        return f"StateDirectory({str(self.path) if self.path else None!r}, problem={self.problem!r})"


def open_state_directory(settings: Settings) -> StateDirectory:
    """The state directory of `settings.app` and `settings.env`, created where missing; never raises.

    It is a subdirectory, of mode 0700, of `settings.state_dir`, or else of the first of
    `config.state_home()` that is usable. A given directory that is not safe is not replaced by
    another place: `path` is None then, and nothing has been written.
    """
    problems: list[str] = []
    bases = (Path(settings.state_dir),) if settings.state_dir else state_home()
    for base in bases:
        path = base / directory_name(settings.app, settings.env)
        try:
            path = path.expanduser().absolute()
            with _private_directory(path):
                return StateDirectory(path, "; ".join(problems))
        except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a NUL in the name
            problems.append(_describe(path, error))
    return StateDirectory(None, "; ".join(problems))


def directory_name(app: str, env: str) -> str:
    """`<app>-<env>` as one plain file name, different for different pairs."""
    safe = _UNSAFE.sub("_", app)
    if safe != app:
        # `~` is in no safe name, so that no other app can be called like this.
        safe = f"{safe}~{hashlib.sha256(app.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"{safe}-{env}"


@contextmanager
def _private_directory(path: Path) -> Iterator[_Handle]:
    """`path`, created where missing, open and checked. Raises OSError where it must not be used."""
    if not _HAS_HANDLES:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_symlink():
            raise _RefusedError(f"{path} is a symbolic link; {_remedy('the directory it leads to')}")
        yield _Handle(path, None)
        return
    base = path.parent
    _make_base(base)
    with _folder(base, base) as base_fd:
        _require_safe_base(base, os.fstat(base_fd))
        _make(path.name, dir_fd=base_fd)
        with _folder(path.name, path, dir_fd=base_fd) as fd:
            _require_private_folder(path, os.fstat(fd))
            if not os.access(path.name, os.R_OK | os.W_OK | os.X_OK, dir_fd=base_fd):
                raise _RefusedError(f"{path} is not writable; {_remedy('a directory that is')}")
            yield _Handle(path, fd)


@contextmanager
def _folder(name: str | Path, shown: Path, *, dir_fd: int | None = None) -> Iterator[int]:
    try:
        fd = os.open(name, _FOLDER, dir_fd=dir_fd)
    except OSError:
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise _RefusedError(
                f"{shown} is a symbolic link; {_remedy('the directory it leads to')}"
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise _RefusedError(f"{shown} is not a directory; {_remedy('a directory')}") from None
        raise
    try:
        yield fd
    finally:
        os.close(fd)


def _make_base(base: Path) -> None:
    if os.path.lexists(base) or base == base.parent:
        return
    _make_base(base.parent)
    _make(base)


def _make(name: str | Path, *, dir_fd: int | None = None) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    except FileExistsError:  # another worker was first, or it was there; the checks follow
        return
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:  # an umask that takes the owner's own rights
        os.chmod(name, 0o700, dir_fd=dir_fd)


def _require_safe_base(path: Path, status: os.stat_result) -> None:
    """What lies in `path` can be replaced by its owner, and by those who may write to it."""
    if status.st_uid not in {os.geteuid(), 0}:
        raise _RefusedError(
            f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}; "
            f"{_remedy('a directory of your own')}"
        )
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others_write and not status.st_mode & stat.S_ISVTX:
        raise _RefusedError(
            f"{path} can be written by other users (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run: chmod go-w {path}, or {_remedy('a new directory inside it')}"
        )


def _require_private_folder(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise _RefusedError(
            f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}; "
            f"{_remedy('a directory of your own')}"
        )
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _RefusedError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}); run: chmod 700 {path}"
        )


def _require_private_file(
    path: Path, status: os.stat_result, *, limit_bytes: int | None = MAX_FILE_BYTES
) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError(f"{path} is not a regular file; remove it")
    if limit_bytes is not None and status.st_size > limit_bytes:
        raise _RefusedError(f"{path} has {status.st_size} bytes, more than {limit_bytes}; remove it")
    if not _HAS_HANDLES:
        return
    if status.st_uid != os.geteuid():
        raise _RefusedError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}; remove it")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _RefusedError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}); remove it"
        )


def _plain(name: str) -> str:
    if _FILE_NAME.fullmatch(name) is None:
        raise _RefusedError(f"{name!r} is not a plain file name")
    return name


def _require_small(data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise _RefusedError(
            f"{len(data)} bytes are more than {MAX_FILE_BYTES}, the most a file here may have"
        )


def _read(directory: _Handle, name: str) -> bytes:
    fd = os.open(directory.at(name), _READ, dir_fd=directory.fd)
    try:
        _require_private_file(directory.path / name, os.fstat(fd))
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES)
    finally:
        os.close(fd)


@contextmanager
def _temporary(directory: _Handle, name: str, *, data: bytes, durable: bool = True) -> Iterator[str]:
    """A new file with `data`, on the disk, under a name of its own; gone afterwards."""
    written = directory.at(f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(written, _CREATE, 0o600, dir_fd=directory.fd)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(fd)
        yield written
    finally:
        with suppress(OSError):
            os.unlink(written, dir_fd=directory.fd)


def _describe(path: Path, error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return f"{path} is a symbolic link; remove it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path} cannot be used: {reason}; {_remedy('a directory this process may write to')}"


def _remedy(directory: str) -> str:
    return f"set {_VARIABLE} (or state_dir) to {directory}"
