"""Workers ask each other to write down what they have counted, over sockets in the state directory."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from otel_genapp.context import start_in_no_context
from otel_genapp.quiet import quiet

_DONE = b"1"
_guarded = quiet("metrics")


class PullServer:
    """Answers whoever connects once `persist` is through; where no socket can be made, nobody."""

    def __init__(self, folder: Path, name: str, *, persist: Callable[[], None]) -> None:
        self._persist = persist
        self._folder = folder
        self._name = name
        self._socket: socket.socket | None = None
        self._start()

    def close(self) -> None:
        """Answer nobody any more."""
        listening, self._socket = self._socket, None
        if listening is not None:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            with suppress(OSError):
                (self._folder / self._name).unlink()

    def _start(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            return
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(self._folder, self._name) as address:
                listening.bind(address)
            listening.listen(16)
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
    with selectors.DefaultSelector() as selector:
        for name in names:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                with _reachable(folder, name) as address:
                    connection.connect(address)
                selector.register(connection, selectors.EVENT_READ)
            except OSError:  # it has died, or has too many waiting: its last snapshot counts
                connection.close()
        while selector.get_map():
            left_s = deadline - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            for key, _ in ready:
                _finish(selector, key.fileobj)
            if not ready:
                break
        for key in tuple(selector.get_map().values()):
            _finish(selector, key.fileobj)


def _finish(selector: selectors.BaseSelector, connection: object) -> None:
    if isinstance(connection, socket.socket):
        selector.unregister(connection)
        connection.close()


class _reachable:  # noqa: N801 - reads as a statement
    """The address of a socket in a folder: its path, or a shorter one where that is too long for an address."""

    _LIMIT_BYTES = 100

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._fd: int | None = None

    def __enter__(self) -> str:
        path = str(self._folder / self._name)
        if len(os.fsencode(path)) <= self._LIMIT_BYTES:
            return path
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
