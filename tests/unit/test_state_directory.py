"""The state directory: used when it is private to us, and in no other case."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_genapp.config import Settings, state_home
from otel_genapp.state_directory import directory_name, open_state_directory
from tests.forked import NOBODY, as_root, in_child

REMEDY = "set GENAPP_STATE_DIR (or state_dir) to"


def settings(base: Path | str = "", app: str = "shop") -> Settings:
    return Settings(app=app, state_dir=str(base))


def opened(base: Path | str) -> tuple[Path | None, str]:
    state = open_state_directory(settings(base))
    return state.path, state.problem


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def everything_in(path: Path) -> list[str]:
    return sorted(found.name for found in path.rglob("*"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The directory, those above it that were missing, and the files are ours alone."""
    base = tmp_path / "a" / "b"

    def create() -> object:
        os.umask(umask)
        state = open_state_directory(settings(base))
        return state.write_private("note", b"x"), state.path, state.problem

    assert in_child(create) == (True, base / "shop-dev", "")
    assert [mode(path) for path in (base.parent, base, base / "shop-dev")] == [0o700] * 3
    assert mode(base / "shop-dev" / "note") & 0o077 == 0


def test_default_place_is_the_first_usable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting the XDG state home is used, and the temp directory where that cannot be."""
    home, temp = tmp_path / "home", tmp_path / "temp"
    home.mkdir()
    temp.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temp))
    first, second = state_home()

    assert opened("") == (first / "shop-dev", "")

    (first / "shop-dev").rmdir()
    first.rmdir()
    first.symlink_to(temp)
    path, problem = opened("")
    assert path == second / "shop-dev"
    assert problem == f"{first} is a symbolic link; {REMEDY} the directory it leads to"


def test_no_default_place_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing usable there is no directory, and every candidate's problem is told."""
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(occupied))
    monkeypatch.setenv("TMPDIR", str(occupied))
    path, problem = opened("")
    assert path is None
    assert [part.partition(" cannot be used: Not a directory; ")[0] for part in problem.split("; /")] == [
        f"{occupied}/otel-genapp/shop-dev",
        f"{occupied}/otel-genapp-{os.getuid()}/shop-dev".removeprefix("/"),
    ]


@pytest.mark.parametrize(
    ("app", "name"),
    [
        ("shop-bot", "shop-bot-dev"),
        ("Shop.2_x", "Shop.2_x-dev"),
        ("a/b", "a_b~c14cddc0-dev"),
        ("a b", "a_b~c8687a08-dev"),
        ("..", "..-dev"),
        ("../../etc", ".._.._etc~74ccf3c5-dev"),
        ("чат-бот", "___-___~1305b88f-dev"),
        ("a_b~c14cddc0", "a_b_c14cddc0~0450b183-dev"),
    ],
)
def test_names_are_plain_and_differ(app: str, name: str) -> None:
    """Any app name makes one plain path component, and no two apps share it."""
    assert directory_name(app, "dev") == name


def test_longest_app_name_fits(base: Path) -> None:
    """The longest app name allowed still makes a directory."""
    state = open_state_directory(settings(base, app="ж" * 128))
    assert (state.problem, state.write_private("note", b"")) == ("", True)


def link_for_base(base: Path) -> str:
    base.rmdir()
    base.symlink_to(base.parent)
    return f"{base} is a symbolic link; {REMEDY} the directory it leads to"


def link_for_directory(base: Path) -> str:
    elsewhere = base.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (base / "shop-dev").symlink_to(elsewhere)
    return f"{base}/shop-dev is a symbolic link; {REMEDY} the directory it leads to"


def file_for_base(base: Path) -> str:
    base.rmdir()
    base.touch()
    return f"{base} is not a directory; {REMEDY} a directory"


def file_for_directory(base: Path) -> str:
    (base / "shop-dev").touch()
    return f"{base}/shop-dev is not a directory; {REMEDY} a directory"


def file_above_base(base: Path) -> str:
    base.rmdir()
    base.parent.rmdir()
    base.parent.touch()
    return f"{base}/shop-dev cannot be used: Not a directory; {REMEDY} a directory this process may write to"


def others_may_write(bits: int) -> Callable[[Path], str]:
    def prepare(base: Path) -> str:
        base.chmod(bits)
        return (
            f"{base} can be written by other users (mode {bits:04o}); "
            f"run: chmod go-w {base}, or {REMEDY} a new directory inside it"
        )

    return prepare


def others_may_enter(bits: int) -> Callable[[Path], str]:
    def prepare(base: Path) -> str:
        directory = base / "shop-dev"
        directory.mkdir()
        directory.chmod(bits)
        return f"{directory} is open to other users (mode {bits:04o}); run: chmod 700 {directory}"

    return prepare


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(link_for_base, id="base is a link"),
        pytest.param(link_for_directory, id="directory is a link"),
        pytest.param(file_for_base, id="base is a file"),
        pytest.param(file_for_directory, id="directory is a file"),
        pytest.param(file_above_base, id="a file above it"),
        pytest.param(others_may_write(0o775), id="base is group-writable"),
        pytest.param(others_may_write(0o777), id="base is world-writable"),
        pytest.param(others_may_enter(0o755), id="directory is world-readable"),
        pytest.param(others_may_enter(0o770), id="directory is group-writable"),
        pytest.param(others_may_enter(0o701), id="directory can be entered"),
    ],
)
def test_unsafe_places_are_refused(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    """What others could change or read is told and left alone, and every call says no."""
    base = tmp_path / "parent" / "state"
    base.mkdir(parents=True)
    message = prepare(base)
    before = everything_in(tmp_path)

    state = open_state_directory(settings(base))
    answers = (
        state.read_private("note"), state.write_private("note", b"x"), state.claim_private("note", b"x")
    )  # fmt: skip

    assert (state.path, state.problem, answers) == (None, message, (None, False, None))
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("text", ["/a\0b", "~no-such-user/state"])
def test_impossible_paths_are_refused(text: str) -> None:
    """A path that cannot exist is an environment fault like any other."""
    path, problem = opened(text)
    assert path is None
    assert "cannot be used" in problem
    assert REMEDY in problem


def test_sticky_place_is_used(base: Path) -> None:
    """In a directory like /tmp others can write, but not replace what is ours."""
    base.chmod(0o1777)
    assert opened(base) == (base / "shop-dev", "")


def test_relative_path_is_made_absolute(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory does not move the directory."""
    monkeypatch.chdir(base)
    assert opened("here") == (base / "here" / "shop-dev", "")


@as_root
def test_wrong_owners_are_refused(base: Path) -> None:
    """A directory or a place for it that belongs to somebody else is not used."""
    directory = base / "shop-dev"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    message = f"belongs to user {NOBODY}, not to user 0; {REMEDY} a directory of your own"
    assert opened(base) == (None, f"{directory} {message}")

    directory.rmdir()
    os.chown(base, NOBODY, NOBODY)
    assert opened(base) == (None, f"{base} {message}")
    assert everything_in(base) == []


@as_root
def test_unwritable_places_are_refused(public: Path) -> None:
    """A user who may not write gets a message with the path, the reason and the remedy."""
    assert in_child(lambda: opened(public), user=NOBODY) == (
        None,
        f"{public}/shop-dev cannot be used: Permission denied; {REMEDY} a directory this process may write to",
    )
    directory = public / "shop-dev"
    directory.mkdir(mode=0o500)
    os.chown(directory, NOBODY, NOBODY)
    assert in_child(lambda: opened(public), user=NOBODY) == (
        None,
        f"{directory} is not writable; {REMEDY} a directory that is",
    )
    assert everything_in(public) == ["shop-dev"]


@as_root
def test_prepared_directory_in_a_place_of_root(public: Path) -> None:
    """A user may be given a directory inside one that only root can write to or list."""
    directory = public / "shop-dev"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    public.chmod(0o711)

    def use() -> object:
        state = open_state_directory(settings(public))
        return state.write_private("note", b"x"), state.read_private("note"), state.problem

    assert in_child(use, user=NOBODY) == (True, b"x", "")
