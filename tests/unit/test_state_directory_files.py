"""The files of a state directory: read when they are ours alone, written whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_genapp import state_directory
from otel_genapp.config import Settings
from otel_genapp.state_directory import MAX_FILE_BYTES, StateDirectory, open_state_directory
from tests.forked import NOBODY, as_root, in_child


def settings(base: Path) -> Settings:
    return Settings(app="shop", state_dir=str(base))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def everything_in(path: Path) -> list[str]:
    return sorted(found.name for found in path.rglob("*"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    return path


def test_files_are_replaced_whole(base: Path) -> None:
    """A file is private, replaced in one step, and leaves nothing else behind."""
    state = open_state_directory(settings(base))
    assert state.read_private("note") is None
    assert state.write_private("note", b"one")
    assert state.write_private("note", b"second")
    assert state.read_private("note") == b"second"
    assert everything_in(base) == ["note", "shop-dev"]
    assert mode(base / "shop-dev" / "note") == 0o600
    assert state.problem == ""
    assert repr(state) == f"StateDirectory('{base}/shop-dev', problem='')"


def planted_link(file: Path) -> str:
    target = file.parent / "target"
    target.write_bytes(b"theirs")
    target.chmod(0o600)
    file.symlink_to(target)
    return f"{file} is a symbolic link; remove it"


def planted_fifo(file: Path) -> str:
    os.mkfifo(file, 0o600)
    return f"{file} is not a regular file; remove it"


def planted_folder(file: Path) -> str:
    file.mkdir(mode=0o700)
    return f"{file} is not a regular file; remove it"


def readable_file(file: Path) -> str:
    file.write_bytes(b"theirs")
    file.chmod(0o640)
    return f"{file} is open to other users (mode 0640); remove it"


def endless_file(file: Path) -> str:
    with file.open("wb") as content:
        content.truncate(MAX_FILE_BYTES + 1)
    file.chmod(0o600)
    return f"{file} has {MAX_FILE_BYTES + 1} bytes, more than {MAX_FILE_BYTES}; remove it"


def given_file(file: Path) -> str:
    file.write_bytes(b"theirs")
    file.chmod(0o600)
    os.chown(file, NOBODY, NOBODY)
    return f"{file} belongs to user {NOBODY}, not to user 0; remove it"


@pytest.mark.parametrize(
    "plant",
    [
        planted_link, planted_fifo, planted_folder, readable_file, endless_file,
        pytest.param(given_file, marks=as_root),
    ],
)  # fmt: skip
def test_planted_files_are_not_read(base: Path, plant: Callable[[Path], str]) -> None:
    """A file that others could have written is told and not read, nor taken for the first claim."""
    state = open_state_directory(settings(base))
    message = plant(base / "shop-dev" / "note")
    before = everything_in(base)
    assert (state.read_private("note"), state.problem) == (None, message)
    assert (state.claim_private("note", b"ours"), state.problem) == (None, message)
    assert everything_in(base) == before


def test_writing_replaces_a_planted_link(base: Path) -> None:
    """A write puts its file in the place of a link and leaves the link's target alone."""
    state = open_state_directory(settings(base))
    file = base / "shop-dev" / "note"
    planted_link(file)
    assert state.read_private("note") is None
    assert state.write_private("note", b"ours")
    assert (state.read_private("note"), state.problem) == (b"ours", "")
    assert (base / "shop-dev" / "target").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["", ".", "..", "../note", "a/b", ".hidden", "a\0b", "a" * 101, "a\n"])
def test_only_plain_file_names(base: Path, name: str) -> None:
    """A name that could lead elsewhere is refused."""
    state = open_state_directory(settings(base))
    assert (state.read_private(name), state.write_private(name, b"x")) == (None, False)
    assert state.problem == f"{name!r} is not a plain file name"


def test_too_large_a_file_is_not_written(base: Path) -> None:
    """What could not be read back is not written."""
    state = open_state_directory(settings(base))
    assert state.write_private("note", b"x" * MAX_FILE_BYTES)
    assert not state.write_private("note", b"x" * (MAX_FILE_BYTES + 1))
    assert state.claim_private("other", b"x" * (MAX_FILE_BYTES + 1)) is None
    assert len(state.read_private("note") or b"") == MAX_FILE_BYTES


def test_full_disk_degrades(base: Path) -> None:
    """When nothing can be written any more, reads work, writes say no, and no half file stays."""
    state = open_state_directory(settings(base))
    assert state.write_private("note", b"kept")

    def on_full_disk() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        written = state.write_private("note", b"lost"), state.claim_private("other", b"lost")
        return written, state.problem, state.read_private("note")

    written, problem, read = in_child(on_full_disk)
    assert (written, read) == ((False, None), b"kept")
    assert "shop-dev/note cannot be used: File too large" in problem
    assert everything_in(base) == ["note", "shop-dev"]


def test_removed_directory_comes_back(base: Path) -> None:
    """A cleaner of temporary files costs what was in the directory, not the directory."""
    state = open_state_directory(settings(base))
    (base / "shop-dev").rmdir()
    assert state.write_private("note", b"x")
    assert (state.read_private("note"), mode(base / "shop-dev")) == (b"x", 0o700)


def test_swapped_directory_is_noticed(base: Path) -> None:
    """Each use checks again what is behind the path."""
    state = open_state_directory(settings(base))
    (base / "shop-dev").rename(base / "moved")
    (base / "shop-dev").symlink_to(base / "moved")
    assert not state.write_private("note", b"x")
    assert state.problem.startswith(f"{base}/shop-dev is a symbolic link")
    assert everything_in(base / "moved") == []


def test_first_claim_wins(base: Path) -> None:
    """Of many threads that claim one name at once all get the same content, that of one of them."""
    start = threading.Barrier(16)
    got: list[bytes | None] = []

    def claim(number: int) -> None:
        state = open_state_directory(settings(base))
        start.wait()
        got.append(state.claim_private("note", b"%d" % number))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16
    assert set(got) == {(base / "shop-dev" / "note").read_bytes()}
    assert everything_in(base) == ["note", "shop-dev"]


WORKER = """
import logging, sys
from otel_genapp.config import read_settings
from otel_genapp.serve.auth import TOKEN_FILE, Gate
from otel_genapp.state_directory import open_state_directory
logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s")
print("ready", flush=True)
sys.stdin.readline()
settings = read_settings({"GENAPP_APP": "shop", "GENAPP_STATE_DIR": sys.argv[1]})
state = open_state_directory(settings)
gate = Gate.open(settings, state)
token = state.read_private(TOKEN_FILE)
print(token, gate.admits([token]), state.problem)
"""


def test_workers_that_start_at_once_share_a_token(base: Path) -> None:
    """Several processes that create directory and dev token together agree, and each says a line about it."""
    root = Path(state_directory.__file__).parents[1]
    command = [sys.executable, "-W", "error", "-c", WORKER, str(base / "new")]
    workers = [
        subprocess.Popen(
            command,
            cwd=root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(5)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=30) for worker in workers]
    token = (base / "new" / "shop-dev" / "internal-auth").read_bytes()
    assert [out for out, _ in said] == [f"{token!r} True \n"] * 5
    assert [err for _, err in said] == ["WARNING\n"] * 5


def test_without_directory_handles(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform has no directory handles nor owners, as on Windows, files still work."""
    monkeypatch.setattr(state_directory, "_HAS_HANDLES", False)
    state = open_state_directory(settings(base))
    assert (state.claim_private("note", b"one"), state.claim_private("note", b"two")) == (b"one", b"one")
    assert (state.write_private("note", b"three"), state.read_private("note")) == (True, b"three")
    assert everything_in(base) == ["note", "shop-dev"]
    assert (state.path, state.problem) == (base / "shop-dev", "")

    (base / "shop-dev").rename(base / "moved")
    (base / "shop-dev").symlink_to(base / "moved")
    assert not state.write_private("note", b"four")


def test_files_are_appended_to_and_read(base: Path) -> None:
    """A descriptor appends at the end, is private, is read by another, and is no inheritance of programs."""
    state = open_state_directory(settings(base))
    first, second = state.open_to_append("log-1"), state.open_to_append("log-1")
    assert first is not None
    assert second is not None
    os.write(first, b"one ")
    os.write(second, b"two ")
    os.write(first, b"three")
    reading = state.open_to_read("log-1")
    assert reading is not None
    assert os.read(reading, 100) == b"one two three"
    assert not any(os.get_inheritable(fd) for fd in (first, second, reading))
    assert mode(base / "shop-dev" / "log-1") == 0o600
    for fd in (first, second, reading):
        os.close(fd)
    assert state.open_to_read("log-2") is None
    assert state.problem == ""


def test_names_renames_and_removals(base: Path) -> None:
    """Names are listed by how they begin, sorted; what is gone counts as removed."""
    state = open_state_directory(settings(base))
    for name in ("b-2", "b-1", "a-1"):
        assert state.write_private(name, name.encode())
    assert state.names("b-") == ("b-1", "b-2")
    assert state.rename("b-1", "b-2")
    assert (state.names("b-"), state.read_private("b-2")) == (("b-2",), b"b-1")
    assert state.remove("b-2")
    assert state.remove("b-2")
    assert state.names("b-") == ()
    assert state.problem == ""
    assert not state.rename("b-2", "b-3")
    assert not state.rename("a-1", "../a-1")
    assert state.names("a-") == ("a-1",)


@pytest.mark.parametrize("plant", [planted_link, planted_fifo, planted_folder, readable_file, given_file])
@pytest.mark.parametrize("opening", ["open_to_append", "open_to_read"])
def test_planted_files_are_not_opened(base: Path, plant: Callable[[Path], str], opening: str) -> None:
    """What is not a regular file of ours alone is not opened, and no descriptor is leaked."""
    if plant is given_file and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    state = open_state_directory(settings(base))
    plant(base / "shop-dev" / "log-1")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - names only
    assert getattr(state, opening)("log-1") is None
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - names only
    assert state.problem != ""


def test_files_of_any_size_are_opened(base: Path) -> None:
    """The limit of files read whole does not hold for what is read in parts."""
    state = open_state_directory(settings(base))
    fd = state.open_to_append("log-1")
    assert fd is not None
    os.truncate(fd, MAX_FILE_BYTES + 1)
    os.close(fd)
    reading = state.open_to_read("log-1")
    assert reading is not None
    os.close(reading)
    assert state.problem == ""


def test_no_files_without_a_directory() -> None:
    """Without a directory nothing is opened, listed, renamed or removed, and nothing raises."""
    state = StateDirectory(None, "nothing is writable")
    assert (state.open_to_append("log"), state.open_to_read("log"), state.names("log")) == (None, None, ())
    assert not state.rename("log", "log-2")
    assert not state.remove("log")


def test_no_directory_says_no() -> None:
    """A state directory that is none answers every call and keeps its reason."""
    state = StateDirectory(None, "nothing is writable")
    assert (state.read_private("a"), state.write_private("a", b""), state.claim_private("a", b"")) == (
        None,
        False,
        None,
    )
    assert (state.problem, state.path) == ("nothing is writable", None)
