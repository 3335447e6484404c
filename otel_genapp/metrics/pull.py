"""Workers ask each other to write down what they have counted, over sockets in the state directory."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_genapp.context import start_in_no_context
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

_DONE = b"1"
_ADDRESS_LIMIT_BYTES = 100
"""A socket's address has 104 bytes on macOS and 108 on Linux."""
_DESCRIPTORS = Path("/proc/self/fd")
_SHORT_BASE = Path("/tmp")  # noqa: S108 - what is made there is checked as the state directory is
_guarded = quiet("metrics")


class PullServer:
    """Answers whoever connects once `persist` is through; where no socket can be made, nobody."""

    def __init__(self, folder: Path, name: str, *, persist: Callable[[], None]) -> None:
        self._persist = persist
        self._folder = folder
        self._name = name
        self._socket: socket.socket | None = None
        self._start()

    @property
    def answers(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    def close(self) -> None:
        """Answer nobody any more."""
        listening, self._socket = self._socket, None
        if listening is not None:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            forget_socket(self._folder, self._name)

    def leave_to_parent(self) -> None:
        """In the child of a fork: the socket stays the parent's."""
        listening, self._socket = self._socket, None
        if listening is not None:
            listening.close()

    def _start(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            return
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            forget_socket(self._folder, self._name)
            with _address(self._folder, self._name) as address:
                listening.bind(address)
            listening.listen(64)
        except OSError:
            listening.close()
            return
        self._socket = listening
        thread = threading.Thread(
            target=self._serve, args=(listening,), name="otel-genapp-workers", daemon=True
        )
        start_in_no_context(thread)

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, _guarded:
                self._persist()
                with suppress(OSError):
                    connection.sendall(_DONE)


def pull(folder: Path, names: Iterable[str], *, timeout_s: float) -> None:
    """Ask these workers, all at once, and wait for their answers or until the time is over."""
    deadline = time.monotonic() + timeout_s
    asked: list[socket.socket] = []
    with selectors.DefaultSelector() as selector:
        try:
            for name in names:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                asked.append(connection)
                connection.setblocking(False)
                # It has died, or has too many waiting: then its last snapshot counts.
                with suppress(OSError), _address(folder, name) as address:
                    connection.connect(address)
                    selector.register(connection, selectors.EVENT_READ)
            while selector.get_map():
                left_s = deadline - time.monotonic()
                ready = selector.select(left_s) if left_s > 0 else []
                if not ready:
                    return
                for key, _ in ready:
                    selector.unregister(key.fileobj)
        finally:
            for connection in asked:
                connection.close()


def forget_socket(folder: Path, name: str) -> None:
    """Remove a socket nobody listens at any more."""
    with suppress(OSError), _address(folder, name) as address:
        Path(address).unlink()


@contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """Where a socket of the folder is: its path, or a shorter one where that is too long for an address."""
    path = str(folder / name)
    if len(os.fsencode(path)) <= _ADDRESS_LIMIT_BYTES:
        yield path
    elif _DESCRIPTORS.is_dir():
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield str(_DESCRIPTORS / f"{fd}/{name}")
        finally:
            os.close(fd)
    else:
        short = StateDirectory(_SHORT_BASE.resolve() / f"genapp-{os.geteuid()}")
        short.names("s")  # makes it and checks it
        if short.path is None or short.problem:
            raise OSError(short.problem)
        yield str(short.path / hashlib.sha256(os.fsencode(path)).hexdigest()[:24])
