"""What the store in ClickHouse does with conversations beyond what every store promises."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from otel_genapp.ledger.clickhouse import ClickHouseStore, server, shelf
from otel_genapp.ledger.clickhouse.schema import FACTS, METRICS, RECORDS, Table
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.conversations import ConversationRow, Listener
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.records import Feedback, Record
from tests.clickhouse import Database
from tests.clickhouse_cluster import ServerWithoutKeeper, cluster_of_one
from tests.conversing import answer, feedback, history, message, outcome

ALWAYS: Any = {"from_ns": 0, "to_ns": 2**62}


def rows(store: Store) -> dict[str, ConversationRow]:
    return {row.id: row for row in store.conversations.rows(**ALWAYS)}


def in_memory(records: list[Record]) -> dict[str, ConversationRow]:
    """The rows of a store in memory."""
    memory = MemoryStore()
    memory.apply(records)
    return rows(memory)


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_at_once_come_out_right(database: Database, seed: int) -> None:
    """Four workers that take in parts of the same sessions at the same time end with the rows of one."""
    records = history(seed, sessions=5, turns=10)
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    chance.shuffle(records)
    stores = [database.open_store() for _ in range(4)]

    def deliver(worker: int) -> None:
        mine = records[worker::4]
        for start in range(0, len(mine), 4):
            stores[worker].apply(mine[start : start + 4])

    threads = [threading.Thread(target=deliver, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(stores[0]) == in_memory(records)


@pytest.mark.parametrize("first", ["usage", "feedback"])
def test_a_slow_worker_does_not_undo_a_newer_row(
    database: Database, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Who began to read earlier loses, though it writes later; the newer row is made of nothing older."""
    slow, quick = database.open_store(), database.open_store()
    said = {"correlation_id": "cid"}
    quick.apply([message("m1", 1, **said)])
    usage, opinion = answer("c1", 1, **said), feedback("f1", 2, csat=2.0, **said)
    write = shelf.Shelf.write

    def after_the_other(self: shelf.Shelf) -> None:
        monkeypatch.setattr(shelf.Shelf, "write", write)
        quick.apply([opinion if first == "usage" else usage])
        write(self)

    monkeypatch.setattr(shelf.Shelf, "write", after_the_other)
    slow.apply([usage if first == "usage" else opinion])
    found = rows(quick)["m1"]
    assert (found.satisfaction_score, found.llm_calls, found.tokens_used) == (2.0, 1, 120)


def test_a_row_that_was_written_a_moment_ago_is_written_again(database: Database) -> None:
    """Another worker that has seen less may be about to write it, with a later version than it has."""
    one = database.open_store()
    batch: list[Record] = [message("m1", 1), feedback("f1", 2, csat=2.0)]

    def version() -> int:
        [[found]] = database.client.query("SELECT max(version) FROM conversation_metrics").result_rows
        return int(found)

    one.apply(batch)
    before = version()
    one.apply([feedback("f2", 0, csat=1.0)])  # changes nothing: it is about nothing
    assert version() > before


@pytest.mark.parametrize("table", [RECORDS, FACTS, METRICS], ids=lambda table: table.name)
def test_what_was_interrupted_is_done_again(database: Database, table: Table) -> None:
    """Whichever insert fails, the part is delivered again, and the rows are there."""
    records, one = history(3, sessions=3), database.open_store()
    stored: list[int] = []
    one.apply(records[:5], through={"journal-a": 10})
    database.client.command(f"ALTER TABLE {table.name} ADD CONSTRAINT closed CHECK 0")
    with pytest.raises(Exception, match="VIOLATED_CONSTRAINT"):
        one.apply(records, through={"journal-a": 100})
    assert one.positions() == {"journal-a": 10}
    database.client.command(f"ALTER TABLE {table.name} DROP CONSTRAINT closed")
    again = database.open_store()
    again.conversations.listen(Listener(lambda _happened: None, stored.append, 0))
    again.apply(records, through={"journal-a": 100})
    assert rows(one) == in_memory(records)
    facts = sum(not hasattr(record, "usage") for record in records)
    assert sum(stored) <= facts


@pytest.mark.parametrize("merged", [False, True], ids=["as written", "merged"])
def test_people_read_the_rows_with_final(database: Database, merged: bool) -> None:
    """One row for each message, with the time and the cost as people write them."""
    one = database.open_store()
    one.apply([message("m1", 1, correlation_id="cid"), message("m2", 2)])
    one.apply(
        [answer("c1", 1, correlation_id="cid"), feedback("f1", 3, csat=4.0), outcome("o1", 4, resolved=True)]
    )
    if merged:
        database.client.command(f"OPTIMIZE TABLE {METRICS.name} FINAL")
        assert database.rows(METRICS) == 2
    query = (
        "SELECT id, toString(timestamp), platform, tokens_used, cost_usd, satisfaction_score, resolved "
        "FROM conversation_metrics FINAL ORDER BY timestamp"
    )
    assert database.client.query(query).result_rows == [
        ("m1", "2027-01-15 08:00:01.000000", "telegram", 120, 1e-6, None, True),
        ("m2", "2027-01-15 08:00:02.000000", "telegram", None, None, 4.0, True),
    ]


def test_clearing_takes_the_text_from_the_disk(database: Database) -> None:
    """Facts are emptied and rows go; those that come again are known, and no row comes back."""
    batch: list[Record] = [
        message("m1", 1, session_id="whispered", user_id="whisperer", correlation_id="c"),
        feedback("f1", 2, session_id="whispered", user_id="whisperer", csat=4.0),
    ]
    one = database.open_store()
    one.apply([*batch, message("m2", 1)])
    assert (one.clear("whispered"), one.clear("whispered")) == (True, False)
    assert list(rows(one)) == ["m2"]
    database.until(lambda: not database.rows(METRICS, "session_id = 'whispered'"))
    database.until(lambda: not database.rows(FACTS, "position(fact, 'whisper') > 0"))
    database.open_store().apply(batch)
    assert list(rows(one)) == ["m2"]
    assert not database.rows(FACTS, "position(fact, 'whisper') > 0")
    assert one.conversations.facts(Feedback, **ALWAYS) == ()
    one.apply([message("m3", 5, session_id="whispered")])
    assert rows(one)["m3"].began_at_ns == message("m3", 5).at_ns


def test_old_facts_go_from_the_disk_and_come_back_as_nothing(database: Database) -> None:
    """What is older than what was dropped is not new when it comes again."""
    stored: list[int] = []
    one = database.open_store()
    one.conversations.listen(Listener(lambda _happened: None, stored.append, 0))
    batch: list[Record] = [message("m1", 1), feedback("f1", 2, csat=4.0), message("m2", 3 * 86_400)]
    one.apply(batch)
    for _ in range(2):
        one.tidy(before_ns=message("m", 2 * 86_400).at_ns)
        database.until(
            lambda: not database.rows(FACTS, "id != 'm2'") and not database.rows(METRICS, "id != 'm2'")
        )
        one.apply(batch)
    assert (list(rows(one)), stored) == (["m2"], [3])


class Counting(Server):
    """Counts what it is asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked = 0

    def rows(self, *said: Any, **more: Any) -> Any:
        self.asked += 1
        return super().rows(*said, **more)


def asked_for(counting: Counting, work: Callable[[], object]) -> int:
    before = counting.asked
    work()
    return counting.asked - before


def test_a_batch_takes_a_round_of_queries(database: Database) -> None:
    """Without messages one, as before; with many sessions about as many as with one."""
    counting = Counting(database.url)
    one = ClickHouseStore(counting)
    one.prepare()
    calls = [answer(f"c{number}", 1, correlation_id=f"c{number}") for number in range(50)]
    assert asked_for(counting, lambda: one.apply(calls)) == 1
    some: list[Record] = [
        fact
        for number in range(50)
        for fact in (
            message(f"m{number}", 2, session_id=f"s{number}", correlation_id=f"c{number}"),
            feedback(f"f{number}", 3, session_id=f"s{number}", csat=3.0),
        )
    ]
    assert asked_for(counting, lambda: one.apply(some)) <= 10
    assert {row.tokens_used for row in rows(one).values()} == {120}
    one.close()


def test_much_is_asked_for_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the lists of keys are, what comes out is the same."""
    monkeypatch.setattr(shelf, "_LOT_BYTES", 50)
    monkeypatch.setattr(shelf, "_TAIL", 3)
    records, one = history(5, sessions=4), database.open_store()
    for start in range(0, len(records), 40):
        one.apply(records[start : start + 40])
    assert rows(one) == in_memory(records)


def test_joins_are_as_we_mean_them(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to no session is found, whatever the profile of the user says of what a join finds nothing for."""
    profile = {"join_use_nulls": 1}
    monkeypatch.setattr(server, "_SETTINGS", {**profile, **server._SETTINGS})
    said: Any = {"session_id": None, "correlation_id": "cid"}
    one = database.open_store()
    for record in (answer("c1", 1, **said), message("m1", 2, **said), feedback("f1", 3, csat=2.0, **said)):
        one.apply([record])
    found = rows(one)["m1"]
    assert (found.satisfaction_score, found.llm_calls, found.tokens_used) == (2.0, 1, 120)


def test_the_tables_of_a_cluster_serve_as_well(database: Database) -> None:
    """Through Distributed tables rows come out the same, and are cleared and aged."""
    records = history(4, sessions=4)
    with cluster_of_one(database):
        one = ClickHouseStore(ServerWithoutKeeper(database.url))
        for _ in range(2):
            one.apply(records)
        expected = in_memory(records)
        assert rows(one) == expected
        assert one.clear("s1")
        database.until(lambda: not database.rows(METRICS, "session_id = 's1'"))
        assert rows(one) == {name: row for name, row in expected.items() if row.session_id != "s1"}
        assert one.tidy(before_ns=message("m", 3 * 86_400).at_ns) == 2
        database.until(lambda: not database.rows(FACTS) and not database.rows(METRICS))
        one.close()
