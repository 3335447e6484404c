"""Doing something in a forked process: as another user, under another limit or umask."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give files away and become another user"
)


def in_child(act: Callable[[], object], *, user: int | None = None) -> Any:
    """What `act` returns in a forked process, as `user` if given."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that other tests left behind
        child = os.fork()
    if child == 0:
        result: object = "the child failed"
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            result = act()
        finally:
            os.write(writing, pickle.dumps(result))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer)  # noqa: S301 - written a few lines above
