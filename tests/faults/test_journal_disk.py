"""A journal on a disk that is full, gone, read-only or without locks, and in a process out of descriptors."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otel_genapp.ledger import journal as journal_module
from otel_genapp.ledger.journal import Journal, Position
from otel_genapp.ledger.segments import Part, read, segments
from otel_genapp.state_directory import StateDirectory
from tests.faults.test_journal_faults import records_in, state_in
from tests.forked import NOBODY, as_root, in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")

# In a mount namespace of its own, so that no mount outlives the test or is seen outside.
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=512k,mode=700 none "$0" && "$@" && cp -a "$0/shop-dev" "$0.kept"'


def append(journal: Journal, *payloads: bytes) -> list[bool]:
    """Whether each was kept."""
    kept: list[Position | None] = []
    for payload in payloads:
        journal.append(payload, then=kept.append)
    return [position is not None for position in kept]


@as_root
def test_a_disk_without_room(tmp_path: Path) -> None:
    """On a full disk the reserve takes records, then each loss is told; with room both are back."""
    small, program = tmp_path / "small", "tests.programs.journal_writer"
    small.mkdir(mode=0o700)
    command = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(small)]
    if subprocess.run([*command[:-3], "-c", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*command, sys.executable, "-m", program, "full", str(small)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    kept, lost = told["kept"], told["kept"].count(False)
    assert told["said"] == {
        "reserve at first": True, "reserve when full": False,
        "reserve while it is full": False, "reserve with room": True,
    }  # fmt: skip
    assert told["reasons"] == ["disk_full"] * lost
    assert kept[:60] == [True] * 60  # 4 KiB were left, and 64 KiB were in reserve
    assert 100 < lost < 140
    assert kept[200:] == [True] * 100
    kept_folder = tmp_path / "small.kept"
    records, torn = records_in(StateDirectory(kept_folder))
    assert records == [b"%04d" % number * 250 for number in range(300) if kept[number]]
    assert torn <= 1


def test_a_limit_on_files_begins_another(tmp_path: Path) -> None:
    """A limit of the host's on the size of files below ours costs no record: the next segment has room."""
    state = state_in(tmp_path)

    def act() -> tuple[list[bool], list[str]]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        reasons: list[str] = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_050, resource.RLIM_INFINITY))
        journal = Journal(state, on_loss=reasons.append)
        return append(journal, *[b"%03d" % number * 400 for number in range(100)]), reasons

    assert in_child(act) == ([True] * 100, [])
    assert records_in(state)[0] == [b"%03d" % number * 400 for number in range(100)]


def test_a_record_over_the_limit_makes_few_files(tmp_path: Path) -> None:
    """Records that no file may hold are told, without a segment for each."""
    state = state_in(tmp_path)

    def act() -> tuple[list[bool], list[str]]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        reasons: list[str] = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        return append(Journal(state, on_loss=reasons.append), *[b"x" * 500] * 100), reasons

    assert in_child(act) == ([False] * 100, ["disk_full"] * 100)
    assert len(segments(state)) <= 4


def test_a_directory_that_is_removed(tmp_path: Path) -> None:
    """After `rm -r` records go to a new segment in a new directory, not into a file nobody can find."""
    state = state_in(tmp_path)
    reasons: list[str] = []
    journal = Journal(state, on_loss=reasons.append)
    append(journal, b"gone")
    shutil.rmtree(tmp_path / "shop-dev")
    assert append(journal, b"one", b"two") == [True, True]
    assert (records_in(state), reasons) == (([b"one", b"two"], 0), [])


@as_root
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """What is open goes on; where nothing can be begun, each record is told, and nothing raises."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith("pytest-"):
            parent.chmod(parent.stat().st_mode | 0o011)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)

    def act() -> tuple[list[bool], list[bool], list[str]]:
        reasons: list[str] = []
        state = StateDirectory(home / "shop-dev")
        journal = Journal(state, on_loss=reasons.append, segment_bytes=100)
        append(journal, b"x" * 60)
        (home / "shop-dev").chmod(0o500)
        still = append(journal, *[b"y" * 60] * 5)
        return still, append(Journal(state, on_loss=reasons.append), b"lost"), reasons

    assert in_child(act, user=NOBODY) == ([True] * 5, [False], ["no_directory"])


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is told as lost, no descriptor is leaked and no file left behind."""
    state = state_in(tmp_path)
    reasons: list[str] = []
    journal = Journal(state, on_loss=reasons.append)

    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(journal_module.fcntl, "flock", flock)
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - names only
    assert append(journal, *[b"x"] * 200) == [False] * 200
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - names only
    assert reasons == ["io_error"] * 200
    assert list((tmp_path / "shop-dev").iterdir()) == []


def test_a_platform_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none at all, as on Windows, an open file is not renamed, and none counts as sealed."""
    state = state_in(tmp_path)
    monkeypatch.setattr(journal_module, "fcntl", None)
    monkeypatch.setattr("otel_genapp.ledger.segments.fcntl", None)
    monkeypatch.setattr(StateDirectory, "rename", lambda *_names: False)
    journal = Journal(state, on_loss=lambda _reason: None, segment_bytes=50)
    assert append(journal, b"x" * 40, b"y") == [True, True]
    journal.close()
    assert [segment.sealed for segment in segments(state)] == [False, False]
    assert records_in(state) == ([b"x" * 40, b"y"], 0)


@pytest.mark.parametrize("is_reused", [True, False], ids=["reused", "closed"])
def test_a_descriptor_the_host_closed(tmp_path: Path, is_reused: bool) -> None:
    """A host that becomes a daemon closes what is open: nothing is written to or closed that is not ours."""
    state = state_in(tmp_path)
    reasons: list[str] = []
    journal = Journal(state, on_loss=reasons.append)
    append(journal, b"one")
    assert journal._segment is not None
    fd = journal._segment.fd
    os.close(fd)
    mine = os.open(tmp_path / "host.txt", os.O_RDWR | os.O_CREAT, 0o600)
    if is_reused and mine != fd:
        os.dup2(mine, fd)
        os.close(mine)
    kept = append(journal, b"two", b"three")
    journal.close()
    assert (kept, reasons) == ([True, True], [])
    assert (tmp_path / "host.txt").read_bytes() == b""
    assert records_in(state) == ([b"one", b"two", b"three"], 0)
    os.close(fd if is_reused else mine)  # would fail if the journal had closed it


def test_standard_descriptors_are_left_alone(tmp_path: Path) -> None:
    """In a process without standard output the journal takes no number that `print` writes to."""
    state = state_in(tmp_path)

    def act() -> int:
        os.closerange(0, 3)
        journal = Journal(state, on_loss=lambda _reason: None)
        append(journal, b"one")
        return journal._segment.fd if journal._segment else -1

    assert in_child(act) > 2


def test_a_segment_that_cannot_be_opened_is_not_read(tmp_path: Path) -> None:
    """Out of descriptors a reader does not move on: what counts as read is removed."""
    state = state_in(tmp_path)
    journal = Journal(state, on_loss=lambda _reason: None)
    append(journal, b"one", b"two")
    journal.close()

    def act() -> Part:
        (segment,) = segments(state)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        return read(state, segment, start=0)

    assert in_child(act) == Part((), 0, 0)
    assert records_in(state) == ([b"one", b"two"], 0)
