"""What holds for every test: an environment of its own, and own errors that fail it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from otel_genapp import quiet

if TYPE_CHECKING:
    from tests.servers import Servers


@dataclass(frozen=True)
class OwnError:
    """An error of ours that the package swallowed, and where."""

    site: str
    error: Exception


def _wipe_environment() -> None:
    for name in tuple(os.environ):
        if name.startswith(("GENAPP_", "OTEL_")):
            del os.environ[name]


_STATE = tempfile.TemporaryDirectory(prefix="genapp", ignore_cleanup_errors=True)
"""The state home of what several tests share."""
os.environ["XDG_STATE_HOME"] = _STATE.name

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would all programs started by tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The SDK reads some variables when it is imported, before the first fixture runs.
_wipe_environment()


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting of the machine reaches a test, none of a test the next one, and no state either."""
    _wipe_environment()
    with tempfile.TemporaryDirectory(prefix="genapp", ignore_cleanup_errors=True) as folder:
        os.environ["XDG_STATE_HOME"] = folder
        yield
        _wipe_environment()
        os.environ["XDG_STATE_HOME"] = _STATE.name


@pytest.fixture(autouse=True)
def own_errors(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[list[OwnError]]:
    """The own errors of this test so far; any left at the end fail it, unless they are expected."""
    seen: list[OwnError] = []
    stop = quiet.observe(lambda site, error: seen.append(OwnError(site, error)))
    yield seen
    stop()
    planted = request.node.get_closest_marker("expected_own_errors") is not None
    if seen and not planted and "expected_own_errors" not in request.fixturenames:
        raise ExceptionGroup(
            f"own errors, swallowed in production, in {', '.join(sorted({own.site for own in seen}))}",
            [own.error for own in seen],
        )


@pytest.fixture
def expected_own_errors(own_errors: list[OwnError]) -> list[OwnError]:
    """The own errors of a test that plants some; asking for them keeps them from failing it."""
    return own_errors


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The databases of this run."""
    from tests.servers import Servers

    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("promtool")` is its path; absent, the test is skipped, and fails when CI=true."""

    def path_of(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must not skip")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return path_of
