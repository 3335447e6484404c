"""Profiles on demand, taken by the real profiler and read from the files it leaves."""

from __future__ import annotations

import asyncio
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_genapp import hub, profiling
from otel_genapp.errors import MissingDependencyError
from otel_genapp.profiling import KEPT_PROFILES, profile_action
from otel_genapp.state_directory import open_state_directory
from otel_genapp.testing import Captured, capture_telemetry
from tests.fakes import eventually


@pytest.fixture
def got() -> Iterator[Captured]:
    """Running telemetry."""
    with capture_telemetry() as captured:
        yield captured


def work_hard(seconds: float = 0.05) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(500))


async def wait_softly() -> None:
    work_hard(0.03)
    await asyncio.sleep(0.03)


def profiles() -> dict[str, str]:
    """The texts by the name of the block, once every profile is written."""
    running = hub.active
    assert running is not None
    assert eventually(lambda: not running.profiling)
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(folder().glob("*.txt"))}


def folder() -> Path:
    running = hub.active
    assert running is not None
    state = open_state_directory(running.settings)
    assert state.path is not None
    return state.path / "profiles"


def test_nothing_is_profiled_unasked(got: Captured) -> None:
    """A block and a decorated function run as they are, and leave no file."""
    with profile_action("a_task"):
        work_hard(0.001)
    assert profile_action("b_task")(lambda: 7)() == 7
    assert not folder().exists()


def test_a_person_can_read_it(got: Captured) -> None:
    """While it is asked for, a block leaves a tree of calls with times and a page, for its owner only."""
    got.telemetry.profile(60)
    with profile_action("menu handler/../x"):
        work_hard()
    [(name, text)] = profiles().items()
    assert name == "menu_handler____x"
    assert "work_hard" in text
    assert sys.argv[-1] not in text
    files = sorted(folder().iterdir())
    assert [path.suffix for path in files] == [".html", ".txt"]
    assert b"<html" in files[0].read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    got.telemetry.profile(0)
    with profile_action("later_task"):
        work_hard(0.001)
    assert set(profiles()) == {name}


def test_a_block_without_end_takes_no_more_room(got: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first samples are kept, and the profile says so."""
    monkeypatch.setattr(profiling, "SAMPLES_LIMIT", 20)
    got.telemetry.profile(60)
    with profile_action("endless_task") as block:
        work_hard(0.3)
        assert block._profiler is not None
        assert len(block._profiler._active_session.frame_records) == 20
    [text] = profiles().values()
    assert text.startswith("The first ")
    assert "work_hard" in text


def test_settings_and_when_decide() -> None:
    """The setting names blocks; a block's own condition is asked each time."""
    answers = iter([True, False])
    with capture_telemetry(profile_actions="first_task,other"):
        for name in ("first_task", "second_task"):
            with profile_action(name):
                work_hard(0.01)
        for _ in range(2):
            with profile_action("third_task", when=lambda: next(answers)):
                work_hard(0.01)
        assert set(profiles()) == {"first_task", "third_task"}


async def test_coroutines_at_once(got: Captured) -> None:
    """Two coroutines profiled at once have a profile each; what they return comes back."""
    got.telemetry.profile(60)

    @profile_action("one_task")
    async def one() -> str:
        await wait_softly()
        return "one"

    async def other() -> str:
        async with profile_action("other_task"):
            await wait_softly()
        return "other"

    assert [*await asyncio.gather(one(), other())] == ["one", "other"]
    found = profiles()
    assert set(found) == {"one_task", "other_task"}
    assert all("wait_softly" in text for text in found.values())


def test_threads_at_once_and_blocks_in_blocks(got: Captured) -> None:
    """Threads have a profile each, a block inside a block is part of the outer profile."""
    got.telemetry.profile(60)

    def run(name: str) -> None:
        with profile_action(name), profile_action(f"inner_{name}"):
            work_hard()

    threads = [threading.Thread(target=run, args=(f"t{number}_task",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = profiles()
    assert set(found) == {"t0_task", "t1_task"}
    assert all("work_hard" in text for text in found.values())


def test_exceptions_pass_and_old_profiles_go(got: Captured) -> None:
    """What a block raises is the caller's; only so many profiles are kept, the newest."""
    got.telemetry.profile(60)
    for number in range(KEPT_PROFILES + 3):
        with pytest.raises(KeyError, match="mine"), profile_action(f"n{number}_task"):
            raise KeyError("mine")
        profiles()
    assert set(profiles()) == {f"n{number}_task" for number in range(3, KEPT_PROFILES + 3)}
    assert len(list(folder().iterdir())) == 2 * KEPT_PROFILES


def test_without_the_library(got: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decorating and asking for profiles say the pip command; a block just runs."""
    monkeypatch.setitem(sys.modules, "pyinstrument", None)
    command = r"pip install 'otel-genapp\[profiling\]'"
    with pytest.raises(MissingDependencyError, match=command):
        profile_action("a_task")(work_hard)
    with pytest.raises(MissingDependencyError, match=command):
        profile_action("a_task", when=True)
    with pytest.raises(MissingDependencyError, match=command):
        got.telemetry.profile(60)
    with profile_action("a_task"):
        work_hard(0.001)
