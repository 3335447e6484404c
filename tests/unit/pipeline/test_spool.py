"""The spool: requests on disk, in order, bounded, and taken over from a process that has died."""

from __future__ import annotations

import os
import random
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_genapp.pipeline.export import spool as spool_module
from otel_genapp.pipeline.export.packing import Parcel
from otel_genapp.pipeline.export.spool import Spool
from otel_genapp.state_directory import StateDirectory
from tests.forked import in_child

SEGMENT_BYTES = 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def parcel(number: int, size: int = 100) -> Parcel:
    """A request whose content tells which one it is."""
    return Parcel(f"{number}:".encode() + b"\nx" * (size // 2), number % 7 + 1)


def opened(folder: Path, damage: list[int] | None = None) -> Spool:
    heard = damage if damage is not None else []
    return Spool(StateDirectory(folder), heard.append, segment_bytes=SEGMENT_BYTES)


def orphan(folder: Path, damage: list[int] | None = None, *, besides: str = "") -> Spool | None:
    heard = damage if damage is not None else []
    return Spool.of_the_dead(
        StateDirectory(folder), heard.append, besides=(besides,), segment_bytes=SEGMENT_BYTES
    )


def drained(spool: Spool) -> list[Parcel]:
    """What is left in it, taken out one by one."""
    found = []
    while (head := spool.head()) is not None:
        found.append(Parcel(head.data, head.spans))
        spool.pop()
    return found


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_it_is_a_queue(folder: Path) -> None:
    """What is put in comes out in order, and no file is left when all of it is out."""
    spool = opened(folder)
    assert spool.is_empty
    assert spool.head() is None
    parcels = [parcel(number) for number in range(100)]
    assert all(map(spool.append, parcels))
    assert files(folder)[0] == spool.lock_name == f"spool-{spool.spool_id}-000000"
    assert len(files(folder)) > 5
    assert spool.size_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert drained(spool) == parcels
    assert files(folder) == [spool.lock_name]
    spool.close()
    assert files(folder) == []


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_queue_whatever_is_done(seed: int, folder: Path) -> None:
    """Puts, looks, takes, deaths and take-overs in any order lose, add and repeat nothing."""
    rng = random.Random(seed)  # noqa: S311 - a schedule
    spool, model, number = opened(folder), deque[Parcel](), 0
    writable = True
    for _ in range(300):
        choice = rng.random()
        if choice < 0.5 and writable:
            number += 1
            one = parcel(number, rng.choice([10, 100, 3000]))
            assert spool.append(one)
            model.append(one)
        elif choice < 0.95 and model:
            if rng.random() < 0.7:
                head = spool.head()
                assert head is not None
                assert head.data == model[0].data
            spool.pop()
            model.popleft()
        elif choice >= 0.95:
            spool.forget()  # as the end of its process does
            found = orphan(folder)
            if found is None:
                assert not model
                spool, writable = opened(folder), True
            else:
                spool, writable = found, False
        if not writable and not model:
            spool.close()
            spool, writable = opened(folder), True
    assert drained(spool) == list(model)


def test_a_living_process_keeps_its_spool(folder: Path) -> None:
    """Nobody else gets it while its process lives, not even in another of its threads."""
    spool = opened(folder)
    spool.append(parcel(1))
    assert orphan(folder) is None
    assert in_child(lambda: orphan(folder) is None)
    spool.forget()
    assert orphan(folder, besides=spool.spool_id) is None
    assert orphan(folder) is not None


def test_only_one_gets_what_a_dead_process_left(folder: Path) -> None:
    """The lock decides; the files go when the last request is out."""

    def die() -> list[int]:
        dying = opened(folder)
        for number in range(50):
            dying.append(parcel(number))
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    with pytest.raises(EOFError):
        in_child(die)
    heir = orphan(folder)
    assert heir is not None
    assert orphan(folder) is None
    assert not heir.append(parcel(99))
    assert drained(heir) == [parcel(number) for number in range(50)]
    heir.close()
    assert files(folder) == []


def test_a_lock_without_requests_is_cleared_away(folder: Path) -> None:
    """What a process left that died with nothing to send does not stay for ever."""
    spool = opened(folder)
    spool.append(parcel(1))
    spool.head()
    spool.pop()
    spool.forget()
    assert files(folder) == [spool.lock_name]
    assert orphan(folder) is None
    assert files(folder) == []


def test_what_was_delivered_is_not_sent_again(folder: Path) -> None:
    """The heir goes on where the dead process was, in the middle of a segment too."""
    spool = opened(folder)
    for number in range(30):
        spool.append(parcel(number))
    for _ in range(7):
        spool.head()
        spool.pop()
    spool.forget()
    heir = orphan(folder)
    assert heir is not None
    assert drained(heir) == [parcel(number) for number in range(7, 30)]


def test_a_request_taken_before_it_was_read(folder: Path) -> None:
    """A request that was on its way when it was put on disk is taken out without a look."""
    spool = opened(folder)
    for number in range(5):
        spool.append(parcel(number))
    spool.pop()
    spool.append(parcel(5))
    assert drained(spool) == [parcel(number) for number in range(1, 6)]


def test_the_oldest_goes_first(folder: Path) -> None:
    """Dropping spares what is being sent and what is being written, and tells the spans lost."""
    spool = opened(folder)
    parcels = [parcel(number) for number in range(60)]
    for one in parcels:
        spool.append(one)
    before = spool.head()
    lost = 0
    while (number := spool.drop_oldest()) is not None:
        assert number > 0
        lost += number
    assert spool.head() is before
    left = drained(spool)
    assert left[0] == parcels[0]
    assert left[-1] == parcels[-1]
    assert lost == sum(one.spans for one in parcels) - sum(one.spans for one in left) > 0


def test_an_heir_can_drop_too(folder: Path) -> None:
    """The spans in a segment that nobody has read yet are counted when it goes."""
    spool = opened(folder)
    for number in range(60):
        spool.append(parcel(number))
    spool.forget()
    heir = orphan(folder)
    assert heir is not None
    lost = heir.drop_oldest()
    assert lost is not None
    assert lost + sum(one.spans for one in drained(heir)) == sum(parcel(number).spans for number in range(60))


def flip(content: bytearray, place: int) -> None:
    content[place] ^= 0xFF


def truncate(content: bytearray, place: int) -> None:
    del content[place:]


def zero(content: bytearray, place: int) -> None:
    content[place : place + 64] = bytes(len(content[place : place + 64]))


def insert(content: bytearray, place: int) -> None:
    content[place:place] = b"\n0000000g"


@pytest.mark.parametrize("damage", [flip, truncate, zero, insert])
def test_damage_costs_what_it_hits(damage: Callable[[bytearray, int], None], tmp_path: Path) -> None:
    """All requests but the one or two that were hit are found, whoever reads, and the loss is told."""
    rng = random.Random(damage.__name__)  # noqa: S311 - where to hit
    for attempt in range(60):
        folder = tmp_path / str(attempt)
        heard: list[int] = []
        spool = opened(folder, heard)
        parcels = [parcel(number) for number in range(10)]
        for one in parcels:
            spool.append(one)
        if attempt % 2:
            spool.forget()
            found = orphan(folder, heard)
            assert found is not None
            spool = found
        file = folder / files(folder)[1]
        content = bytearray(file.read_bytes())
        place = rng.randrange(len(content))
        hit = (len(content) - place) // 120 + 2 if damage is truncate else 2
        damage(content, place)
        file.write_bytes(content)
        left = drained(spool)
        assert left == [one for one in parcels if one in left]
        assert len(left) >= len(parcels) - hit
        missing = sum(one.spans for one in parcels) - sum(one.spans for one in left)
        if attempt % 2 == 0:
            assert sum(heard) == missing  # its own process knows how many spans there were
        elif missing:
            assert 1 <= sum(heard) <= 2 or damage is truncate
        spool.close()
        assert files(folder) == []


def test_a_disk_that_takes_no_more(folder: Path) -> None:
    """A request that does not fit is refused whole, and goes in once there is room again."""

    def fill() -> tuple[int, bool, list[bytes]]:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        spool = Spool(StateDirectory(folder), print, segment_bytes=10**6)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        taken = sum(spool.append(parcel(number)) for number in range(30))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        spool.append(parcel(99))
        is_clean = spool.size_bytes == sum(file.stat().st_size for file in folder.iterdir())
        return taken, is_clean, [one.data for one in drained(spool)]

    taken, is_clean, left = in_child(fill)
    assert is_clean
    assert 5 < taken < 30
    assert left == [*(parcel(number).data for number in range(taken)), parcel(99).data]


def test_too_many_open_files(folder: Path) -> None:
    """Without a descriptor nothing is taken, nothing is raised, and later all is well."""

    def starve() -> tuple[bool, bool, int]:
        import resource

        spool = opened(folder)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        starved = spool.append(parcel(1))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        return starved, spool.append(parcel(2)), len(drained(spool))

    assert in_child(starve) == (False, True, 1)


def test_a_folder_that_is_cleared(folder: Path) -> None:
    """What lay there is told as lost; what comes later is kept, under a lock that keeps others out."""
    heard: list[int] = []
    spool = opened(folder, heard)
    spool.append(parcel(1))
    for file in folder.iterdir():
        file.unlink()
    assert spool.append(parcel(2))
    assert orphan(folder) is None
    assert drained(spool) == [parcel(2)]
    assert heard == [parcel(1).spans]


def test_without_a_directory_or_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a dead process cannot be told from a living one nothing is put on disk."""
    nowhere = Spool(StateDirectory(None, "no"), print)
    assert not nowhere.append(parcel(1))
    monkeypatch.setattr(spool_module, "fcntl", None)
    spool = opened(folder)
    assert not spool.append(parcel(1))
    assert not folder.exists() or files(folder) == []


def test_foreign_files_are_left_alone(folder: Path) -> None:
    """Only files with the spool's own kind of name are looked at."""
    spool = opened(folder)
    spool.append(parcel(1))
    spool.forget()
    for name in ("spool-notes", "spool-0123456789abcdef-000001.txt", "journal-0123456789abcdef-000001"):
        (folder / name).write_bytes(b"theirs")
        (folder / name).chmod(0o600)
    heir = orphan(folder)
    assert heir is not None
    assert drained(heir) == [parcel(1)]
    heir.close()
    assert len(files(folder)) == 3
