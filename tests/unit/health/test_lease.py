"""Who keeps the history: one worker at a time, another one when it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from otel_genapp.health.lease import LEADER, Lease
from otel_genapp.state_directory import StateDirectory
from tests.forked import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no file locks of this kind")


def test_one_has_it_until_it_lets_go(tmp_path: Path) -> None:
    """Two want it, one has it; after it lets go the other has it."""
    state = StateDirectory(tmp_path / "shop-dev")
    one, other = Lease(state), Lease(state)
    assert [one.hold(), other.hold(), one.hold(), other.is_held] == [True, False, True, False]
    one.release()
    assert [other.hold(), one.hold()] == [True, False]
    other.release()


def test_a_killed_process_has_it_no_more(tmp_path: Path) -> None:
    """What a killed process held is free at once."""
    state = StateDirectory(tmp_path / "shop-dev")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"1" if Lease(state).hold() else b"0")
        signal.pause()
    assert os.read(reading, 1) == b"1"
    lease = Lease(state)
    assert not lease.hold()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert lease.hold()
    lease.release()
    os.close(reading)
    os.close(writing)


def test_a_child_leaves_it_to_its_parent(tmp_path: Path) -> None:
    """A fork gives no second leader, and the end of the child takes nothing from the parent."""
    state = StateDirectory(tmp_path / "shop-dev")
    lease = Lease(state)
    assert lease.hold()

    def in_the_child() -> bool:
        lease.leave_to_parent()
        return lease.hold()

    assert in_child(in_the_child) is False
    assert not Lease(state).hold()
    lease.release()


def test_a_removed_lock_is_taken_anew(tmp_path: Path) -> None:
    """Where somebody removed the file, the holder notices, and there is one leader again."""
    state = StateDirectory(tmp_path / "shop-dev")
    one, other = Lease(state), Lease(state)
    assert one.hold()
    (tmp_path / "shop-dev" / LEADER).unlink()
    assert other.hold()
    assert not one.hold()
    other.release()


def test_without_a_directory_everybody_has_an_own_one() -> None:
    """What nobody else can read needs no agreement."""
    state = StateDirectory(None)
    assert [Lease(state).hold(), Lease(state).hold()] == [True, True]
