"""What the store in ClickHouse does beyond what every store promises: repeated writes, lives, removal."""

from __future__ import annotations

import random
import threading
import time

import pytest

from otel_genapp import semconv
from otel_genapp.errors import StoreError
from otel_genapp.ledger.clickhouse import ClickHouseStore, applying, preparing, store
from otel_genapp.ledger.clickhouse.rows import keyed
from otel_genapp.ledger.clickhouse.schema import (
    CALLS,
    META,
    POSITIONS,
    RECORDS,
    SESSIONS,
    TABLES,
    VERSION,
    Table,
)
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.rollup import quantile_ms
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.records import LLMCall, Usage, UsageRecord
from tests.builders import MINUTE_NS, START_NS, amendment, call
from tests.clickhouse import Database
from tests.clickhouse_cluster import ServerWithoutKeeper, cluster_of_one
from tests.forked import in_child

DAY_NS = 24 * 60 * MINUTE_NS


def some_records(count: int = 60, *, seed: int = 7) -> list[UsageRecord]:
    """Calls of every kind in several sessions, and amendments, over three days."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    records: list[UsageRecord] = []
    for number in range(count):
        session_id = chance.choice(("a", "b", "c", None))
        status = chance.choice((semconv.SUCCESS, semconv.SUCCESS, semconv.FAIL, semconv.CANCELLED))
        records.append(
            call(
                f"call {number}",
                session_id=session_id,
                status=status,
                model=chance.choice(("large", "small")),
                user_id=chance.choice((None, "", "u1", "u2")),
                started_at_ns=START_NS + chance.randrange(3 * DAY_NS),
                duration_ms=float(chance.randrange(1, 60_000)),
                usage=Usage(input=chance.randrange(100)) if chance.random() < 0.8 else Usage(),
                cost_nano_usd=chance.choice((None, 5, 10**12)),
                tool_calls=chance.randrange(3),
            )
        )
        if chance.random() < 0.3:
            records.append(amendment(f"call {number}", session_id=session_id, cost_nano_usd=7))
    return records


def in_memory(*records: UsageRecord) -> MemoryStore:
    """A store in memory with the same records."""
    memory = MemoryStore()
    memory.apply(records)
    return memory


def require_same(found: ClickHouseStore, expected: MemoryStore) -> None:
    """Everything that can be read is the same."""
    assert found.totals() == expected.totals()
    for first, last in ((0, DAY_NS), (DAY_NS, 2 * DAY_NS), (3 * MINUTE_NS, 3 * DAY_NS)):
        within = {"from_ns": START_NS + first, "to_ns": START_NS + last}
        assert found.totals(**within) == expected.totals(**within)
    for session_id in ("a", "b", "c", semconv.NO_SESSION):
        assert found.session(session_id) == expected.session(session_id)
    assert found.sessions(limit=10, cursor=None).ids == expected.sessions(limit=10, cursor=None).ids
    since_ns = START_NS + 2 * DAY_NS
    assert found.active_sessions(since_ns=since_ns) == expected.active_sessions(since_ns=since_ns)


def add_blindly(server: Server, *records: UsageRecord, number: int) -> None:
    """Add rows as a process does that looked just before another one had added the same."""
    applying.add(server, keyed(records), found=applying.Found(), first_number=number)


@pytest.mark.parametrize("merged", [False, True], ids=["as written", "merged"])
def test_rows_added_twice_count_once(database: Database, merged: bool) -> None:
    """Every row twice more, in other orders and batches, in the tables: what is read stays as it was."""
    records = some_records()
    one = database.open_store()
    assert one.apply(records) == len(records)
    server = Server(database.url)
    number = time.time_ns() // 1000 + 10**9  # later ones
    for table in TABLES:
        database.client.command(f"SYSTEM STOP MERGES {table.name}")
    add_blindly(server, *reversed(records), number=number)
    for record in records[::3]:
        number += 1000
        add_blindly(server, record, number=number)
    assert database.rows(RECORDS) > 2 * len(records)
    if merged:
        for table in TABLES:
            database.client.command(f"SYSTEM START MERGES {table.name}")
            database.client.command(f"OPTIMIZE TABLE {table.name} FINAL")
        assert database.rows(RECORDS) == len(records)
    expected = in_memory(*records)
    assert one.totals() == expected.totals()
    for session_id in ("a", "b", "c", semconv.NO_SESSION):
        assert one.session(session_id) == expected.session(session_id)
    assert database.open_store().apply(records) == 0


@pytest.mark.parametrize("table", [RECORDS, CALLS, SESSIONS, POSITIONS], ids=lambda table: table.name)
def test_what_was_interrupted_is_done_again(database: Database, table: Table) -> None:
    """Whichever insert fails, the part is delivered again and everything is there once, positions too."""
    records, part = some_records(), {"journal-a": 100}
    one = database.open_store()
    one.apply(records[:5], through={"journal-a": 10})
    database.client.command(f"ALTER TABLE {table.name} ADD CONSTRAINT closed CHECK 0")  # for writers only
    with pytest.raises(Exception, match="VIOLATED_CONSTRAINT"):
        one.apply(records, through=part)
    assert one.positions() == {"journal-a": 10}
    database.client.command(f"ALTER TABLE {table.name} DROP CONSTRAINT closed")
    new = database.open_store().apply(records, through=part)
    assert new == (len(records) - 5 if table is RECORDS else 0)
    assert one.positions() == part
    require_same(one, in_memory(*records))


def test_stores_that_race_count_once(database: Database) -> None:
    """Four stores that take in the same records at the same time, in different batches, add up exactly."""
    records = some_records(200)
    stores = [database.open_store() for _ in range(4)]

    def deliver(worker: int) -> None:
        chance = random.Random(worker)  # noqa: S311 - repeatable on purpose
        for start in range(0, len(records), 20):
            batch = records[start : start + 20]
            chance.shuffle(batch)
            stores[worker].apply(batch)

    threads = [threading.Thread(target=deliver, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, expected = stores[0].totals(), in_memory(*records).totals()
    assert found == expected
    sums = [session.sums for name in "abc" if (session := stores[1].session(name)) is not None]
    assert sum(each.calls for each in sums) == expected.overall.calls - expected.without_session.calls
    for name in "abc":
        history = stores[2].history(name, limit=1000, cursor=None).calls
        assert len({one.call_id for one in history}) == len(history)


def test_stores_that_make_the_tables_at_the_same_time(database: Database) -> None:
    """Whoever comes last makes the others' no other ones: each goes on with its journal."""
    stores = [database.open_store() for _ in range(6)]
    threads = [threading.Thread(target=one.prepare) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, one in enumerate(stores):
        assert one.apply([call(str(number))], through={f"journal-{number}": 10}) == 1
    late = Server(database.url)
    made = [row[0] for row in late.rows("SELECT DISTINCT value FROM genapp_meta WHERE name = 'made'")]
    assert made == [preparing._number_of_these(late)]


def test_quantiles_are_those_of_other_stores(database: Database) -> None:
    """500 durations from microseconds to hours fall into the same buckets as in memory."""
    chance = random.Random(5)  # noqa: S311 - repeatable on purpose
    calls = [call(str(number), duration_ms=10 ** chance.uniform(-4, 7)) for number in range(500)]
    one = database.open_store()
    one.apply(calls)
    session, expected = one.session("s1"), in_memory(*calls).session("s1")
    assert session is not None
    assert expected is not None
    assert session.sums.buckets == expected.sums.buckets
    for quantile in (0.5, 0.95):
        assert quantile_ms(session.sums.buckets, quantile) == quantile_ms(expected.sums.buckets, quantile)
    assert session.sums.duration_ms == pytest.approx(expected.sums.duration_ms, rel=1e-9)


def test_a_session_that_begins_again_has_users_and_models_of_its_own(database: Database) -> None:
    """Nobody and the empty user are two; the life after a clearing knows nothing of the one before."""
    one = database.open_store()
    first = [call("1", user_id=None, model="m1"), call("2", user_id="", model="m2"), call("3", user_id="u")]
    one.apply(first)
    session = one.session("s1")
    assert session is not None
    assert (list(session.users), list(session.models)) == (["", "u"], ["m1", "m2", "gpt-5"])
    assert one.clear("s1")
    one.apply([*first, call("4", user_id="v", model="m4")])
    session = one.session("s1")
    assert session is not None
    assert (list(session.users), list(session.models), session.sums.calls) == (["v"], ["m4"], 1)
    assert one.totals().overall.calls == 4


def test_a_batch_of_many_months_is_taken(database: Database) -> None:
    """Clocks that are wrong by years, before the epoch and beyond the last date there is, stop nothing."""
    moments = [START_NS - number * 35 * DAY_NS for number in range(250)]
    moments += [-(10**18), 0, 2**63 - 1 - 10**10]
    calls = [call(str(number), started_at_ns=moment) for number, moment in enumerate(moments)]
    one = database.open_store()
    assert one.apply(calls) == len(calls)
    assert one.apply(calls) == 0
    assert one.totals().overall == in_memory(*calls).totals().overall
    session = one.session("s1")
    assert session is not None
    assert session.sums.calls == len(calls)
    assert one.totals(from_ns=START_NS).overall.calls == 2


def test_tables_that_are_new_are_read_into_from_the_beginning(database: Database) -> None:
    """Where the tables were dropped, a part in the middle of a journal is refused until positions were asked for."""
    one = database.open_store()
    one.apply([call("1")], through={"journal-a": 10})
    for table in TABLES:
        database.client.command(f"DROP TABLE {table.name} SYNC")
    with pytest.raises(Exception, match="UNKNOWN_TABLE"):
        one.apply([call("2")], through={"journal-a": 20})
    with pytest.raises(OSError, match="another one than before"):
        one.apply([call("2")], through={"journal-a": 20})
    assert one.positions() == {}
    assert one.apply([call("1"), call("2")], through={"journal-a": 20}) == 2


def test_newer_tables_are_refused(database: Database) -> None:
    """By one who opens them, and by one who had them open when they were changed."""
    early = database.open_store()
    early.apply([call("1")])
    database.client.insert(META.name, [["version", VERSION + 1]])
    for one in (early, database.open_store()):
        with pytest.raises(StoreError, match=f"schema version {VERSION + 1}.*install a newer otel-genapp"):
            one.apply([call("2")])
    assert database.rows(RECORDS) == 1


def test_older_tables_are_brought_forward(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a version runs once, and what was stored stays."""
    database.open_store().apply([call("1")])
    steps = {
        VERSION: [f"ALTER TABLE {RECORDS.name} ADD COLUMN IF NOT EXISTS a UInt8"],
        VERSION + 1: [f"ALTER TABLE {RECORDS.name} ADD COLUMN IF NOT EXISTS b UInt8 DEFAULT a + 1"],
    }
    monkeypatch.setattr(preparing, "STEPS", steps)
    for module in (preparing, store):
        monkeypatch.setattr(module, "VERSION", VERSION + 2)
    one = database.open_store()
    assert one.apply([call("1"), call("2")]) == 1
    assert database.client.query("SELECT sum(b) FROM genapp_records").result_rows == [(2,)]
    assert one.totals().overall.calls == 2


def test_a_child_of_a_fork_has_connections_of_its_own(database: Database) -> None:
    """Parent and child go on with the same store, while a thread of the parent is using it."""
    one = database.open_store()
    one.apply([call("1")])
    over = threading.Event()

    def keep_reading() -> None:
        while not over.is_set():
            one.totals()

    reader = threading.Thread(target=keep_reading)
    reader.start()
    try:
        assert in_child(lambda: one.apply([call("1"), call("2")])) == 1
    finally:
        over.set()
        reader.join()
    assert one.totals().overall.calls == 2


def test_the_tables_of_a_cluster_serve_as_well(database: Database) -> None:
    """Through Distributed tables everything is written, told apart, read, cleared and aged the same."""
    with cluster_of_one(database):
        one = ClickHouseStore(ServerWithoutKeeper(database.url))
        records = some_records()
        assert (one.apply(records, through={"journal-a": 5}), one.apply(records)) == (len(records), 0)
        add_blindly(Server(database.url), *records, number=time.time_ns() // 1000 + 10**9)
        expected = in_memory(*records)
        assert (one.totals(), one.session("a")) == (expected.totals(), expected.session("a"))
        history = one.history("b", limit=1000, cursor=None).calls
        assert len(history) == sum(isinstance(each, LLMCall) and each.session_id == "b" for each in records)
        assert one.clear("a")
        database.until(lambda: not database.rows(SESSIONS, "session_id = 'a'"))
        assert one.tidy(before_ns=START_NS + 10 * DAY_NS) == 2
        assert one.sessions(limit=5, cursor=None).total == 0
        database.until(lambda: not database.rows(CALLS))
        assert (one.totals(), one.positions()) == (expected.totals(), {"journal-a": 5})
        one.close()
