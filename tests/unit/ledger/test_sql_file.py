"""The SQLite file: private, whole after a crash, and replaced when it is damaged."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError, OperationalError

from otel_genapp.ledger.sql import SQLStore, sqlite_file
from tests.builders import START_NS, call
from tests.forked import in_child

DAMAGED = ".damaged-"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@contextmanager
def opened(path: Path) -> Iterator[SQLStore]:
    store = SQLStore.open(f"sqlite:///{path}")
    yield store
    store.close()


def names(path: Path) -> list[str]:
    """The names of the files there are; those of a damaged one are one, `damaged`."""
    found = [name.name.removesuffix("-wal").removesuffix("-shm") for name in path.parent.iterdir()]
    damaged = {name for name in found if DAMAGED in name}
    return ["damaged"] * len(damaged) + sorted(set(found) - damaged)


def open_files() -> list[str]:
    """What this process has open, where the system can tell."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


def raw(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_only_the_owner_reads_it(path: Path) -> None:
    """All files are 0600 whatever the umask says, while it is open and afterwards."""
    before = os.umask(0)
    try:
        with opened(path) as store:
            store.apply((call("1"),))
            modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"), 0o600)
    assert names(path) == ["ledger.db", "ledger.db.lock"]


def test_how_it_is_opened(path: Path) -> None:
    """Readers and a writer at once, no trust in what the file defines, and a bounded log."""
    with opened(path) as store:
        store.apply((call("1"),))
        connection = store._database.file.connect()  # type: ignore[union-attr]
        with closing(connection):
            found = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in (
                    "journal_mode", "synchronous", "busy_timeout", "trusted_schema", "journal_size_limit",
                    "auto_vacuum",
                )
            }  # fmt: skip
    assert found == {
        "journal_mode": "wal", "synchronous": 1, "busy_timeout": 10_000, "trusted_schema": 0,
        "journal_size_limit": 67_108_864, "auto_vacuum": 2,
    }  # fmt: skip


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    """Blanks, hashes and letters of any language are part of the name."""
    path = tmp_path / "a b#c й" / "ledger.db"
    path.parent.mkdir()
    with opened(path) as store:
        store.apply((call("1"),))
    assert path.stat().st_size


def test_another_writer_is_waited_for(path: Path) -> None:
    """A transaction of somebody else holds a writer up, and readers not at all."""
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.apply((call("1"),))
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=store.apply, args=((call("2"),),))
        thread.start()
        assert store.totals().overall.calls == 1
        thread.join(0.2)
        assert thread.is_alive()
        other.execute("COMMIT")
        thread.join(10)
        assert store.totals().overall.calls == 2


def test_a_locked_database_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After waiting in vain the error comes through, nothing has changed, and the same batch works later."""
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.apply((call("1"),), through={"journal-a": 10})
        other.execute("BEGIN IMMEDIATE")
        batch = call("2"), call("3")
        with pytest.raises(OperationalError, match="database is locked"):
            store.apply(batch, through={"journal-a": 30})
        assert (store.totals().overall.calls, store.positions()) == (1, {"journal-a": 10})
        other.execute("COMMIT")
        assert store.apply(batch, through={"journal-a": 30}) == 2
        assert (store.totals().overall.calls, store.positions()) == (3, {"journal-a": 30})


def test_a_failure_in_the_middle_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records, sums and positions are kept together or not at all."""
    with opened(path) as store:
        store.apply((call("1"),), through={"journal-a": 10})
        before = store.session("s1"), store.totals(), store.positions()

        def fail(*_: object, **__: object) -> None:
            raise OSError("planted")

        with monkeypatch.context() as patched:
            patched.setattr(store._statements, "cells", fail)
            with pytest.raises(OSError, match="planted"):
                store.apply((call("2"),), through={"journal-a": 20})
        assert (store.session("s1"), store.totals(), store.positions()) == before
        assert store.apply((call("2"),), through={"journal-a": 20}) == 1


KILLED = """
import sys
from otel_genapp.ledger.sql import SQLStore
from tests.builders import call
store = SQLStore.open(sys.argv[1])
for start in range(0, 10**9, 50):
    store.apply([call(str(n)) for n in range(start, start + 50)], through={"journal-a": start + 50})
    print(start + 50, flush=True)
"""


def test_a_killed_writer_leaves_it_whole(path: Path) -> None:
    """After `kill -9` what was told as done is there, sums and positions agree, and writing goes on."""
    url = f"sqlite:///{path}"
    told = 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer.stdout as lines:
            for line in lines:
                told = max(told, int(line))
                if told % 1000 == 0:
                    break
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
        assert raw(path, "PRAGMA integrity_check") == [("ok",)]
        with opened(path) as store:
            kept = store.positions()["journal-a"]
            session = store.session("s1")
            assert session is not None
            assert told <= kept == store.totals().overall.calls == session.sums.calls
            told = kept
    with opened(path) as store:
        assert store.apply((call("new"),)) == 1


@pytest.mark.parametrize("damage", ["not a database", "overwritten", "cut"])
def test_a_damaged_file_is_set_aside(path: Path, damage: str) -> None:
    """It is renamed, whatever is wrong with it, and a new one is begun, which journals can fill again."""
    records = [call(str(number)) for number in range(2000)]
    with opened(path) as store:
        store.apply(records, through={"journal-a": 100})
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "not a database":
            file.write(b"no database at all" * 100)
        elif damage == "cut":
            file.truncate(size // 2)
        else:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
    with opened(path) as store:
        for _ in range(3):  # the first tries may come upon the damage
            try:
                start = store.positions().get("journal-a", 0)
                taken = store.apply(records, through={"journal-a": 100})
            except (DatabaseError, OSError):
                continue
            break
        assert (start, taken, store.totals().overall.calls) == (0, 2000, 2000)
    assert names(path) == ["damaged", "ledger.db", "ledger.db.lock"]


def test_damage_that_is_met_later(path: Path) -> None:
    """Damage under a running store fails one use; then there is a new file, and the caller is told to begin anew."""
    with opened(path) as store:
        store.apply([call(str(number)) for number in range(2000)], through={"journal-a": 100})
        store.close()
        with path.open("r+b") as file:
            file.write(b"\0" * 4096)
        with pytest.raises(DatabaseError):
            store.apply((call("new"),), through={"journal-a": 200})
        assert (store.positions(), store.totals().overall.calls) == ({}, 0)
        assert store.apply((call("new"),), through={"journal-a": 100}) == 1


def test_a_removed_file_is_made_again(path: Path) -> None:
    """A part of a journal that follows on what was lost is refused once, so that none is skipped."""
    with opened(path) as store, opened(path) as other:
        for one in (store, other):
            one.apply((call("1"),), through={"journal-a": 100})
        path.unlink()
        with pytest.raises(OSError, match="journals have to be read again"):
            store.apply((call("2"),), through={"journal-a": 200})
        with pytest.raises(OSError, match="journals have to be read again"):
            other.apply((call("2"),), through={"journal-a": 200})
        assert store.positions() == other.positions() == {}
        assert store.apply((call("1"), call("2")), through={"journal-a": 200}) == 2
        assert other.apply((call("3"),), through={"journal-a": 300}) == 1
        assert other.totals().overall.calls == 3
    assert names(path) == ["ledger.db", "ledger.db.lock"]


def test_one_damage_is_set_aside_once(path: Path) -> None:
    """Several that come upon the same damage do not rename each other's new file."""
    with opened(path) as store:
        store.apply([call(str(number)) for number in range(2000)])
    path.write_bytes(b"no database at all" * 1000)
    taken = []

    def work(number: int) -> None:
        with opened(path) as store:
            taken.append(store.apply((call(str(number)),)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with opened(path) as store:
        assert (taken, store.totals().overall.calls) == ([1] * 8, 8)
    assert names(path) == ["damaged", "ledger.db", "ledger.db.lock"]


def test_only_what_was_found_damaged_is_set_aside(path: Path) -> None:
    """Who comes late with the news of damage does not rename the file that was made meanwhile."""
    file = sqlite_file.SQLiteFile(str(path))
    file.make()
    damaged = file.identity
    file.set_aside(damaged, reason="planted")
    file.make()
    file.set_aside(damaged, reason="planted")
    assert file.is_current
    assert names(path) == ["damaged", "ledger.db", "ledger.db.lock"]


def test_room_is_given_back(path: Path) -> None:
    """What aged out leaves the disk, not only the tables."""
    with opened(path) as store:
        store.apply(call(str(number), response_id="x" * 200) for number in range(20_000))
        store.close()
        before = path.stat().st_size
        store.tidy(before_ns=START_NS + 10**12)
        assert store.totals().overall.calls == 20_000
        store.close()
        assert path.stat().st_size < before / 10


def test_a_size_is_kept(path: Path) -> None:
    """The bytes to keep are about those of the file."""
    with opened(path) as store:
        store.apply(
            call(str(number), session_id=f"s{number % 500}", started_at_ns=START_NS + number * 10**6)
            for number in range(20_000)
        )
        store.tidy(before_ns=0, keep_bytes=3_000_000)
        store.close()
        assert 1_500_000 < path.stat().st_size < 4_500_000


def test_a_forked_child_has_connections_of_its_own(path: Path) -> None:
    """Parent and child go on writing, the child's end included, and the parent's transaction is its own."""
    with opened(path) as store:
        store.apply((call("parent 1"),))
        with store._database.writing():  # as if another thread were in the middle of it

            def read() -> int:
                return store.totals().overall.calls

            assert in_child(read) == 1
        assert in_child(lambda: store.apply((call("child"),))) == 1
        assert store.apply((call("parent 2"),)) == 1
        assert store.totals().overall.calls == 3
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_child_never_closes_what_is_the_parents(path: Path) -> None:
    """SQLite forbids to close an inherited connection: it stays open until the child ends."""

    def restart() -> tuple[int, int]:
        before = len([found for found in open_files() if found.startswith(str(path))])
        store.restart()
        gc.collect()
        return before, len([found for found in open_files() if found.startswith(str(path))])

    with opened(path) as store:
        store.apply((call("1"),))
        before, after = in_child(restart)
        assert before == after


def test_a_fork_waits_for_who_is_at_work(path: Path) -> None:
    """While it stands still nobody is inside, nothing is open, and who comes waits; then all goes on."""
    with opened(path) as store:
        store.apply((call("0"),))
        stop = threading.Event()
        done: list[int] = []

        def work(worker: int) -> None:
            number = 0
            while not stop.is_set():
                done.append(store.apply((call(f"{worker} {number}"),)))
                number += 1

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for number in range(5):
            store.stand_still()
            before = len(done)
            assert [found for found in open_files() if found.startswith(str(path))] == []
            assert in_child(lambda number=number: store.apply((call(f"child {number}"),))) == 1  # type: ignore[misc]
            assert len(done) <= before + 4  # those that were done, and had not said so yet
            store.go_on()
        stop.set()
        for thread in threads:
            thread.join(30)
        assert store.totals().overall.calls == 1 + sum(done) + 5
