"""What the store in ClickHouse removes from the disk, and what it keeps."""

from __future__ import annotations

import time

from otel_genapp.ledger.clickhouse.schema import CALLS, POSITIONS, RECORDS, SESSIONS
from tests.builders import MINUTE_NS, START_NS, call
from tests.clickhouse import Database

DAY_NS = 24 * 60 * MINUTE_NS


def test_clearing_takes_the_text_from_the_disk(database: Database) -> None:
    """Nothing in any table names the session afterwards, and a second delivery brings nothing back."""
    records = [call(str(number), session_id="whispered", user_id="whisperer") for number in range(5)]
    one = database.open_store()
    one.apply([*records, call("other")])
    assert one.clear("whispered")
    database.until(lambda: database.rows(CALLS) == 1)
    database.until(lambda: not database.rows(SESSIONS, "session_id = 'whispered' OR user_id = 'whisperer'"))
    assert database.open_store().apply(records) == 0
    assert (database.rows(CALLS), database.rows(RECORDS)) == (1, 6)
    assert not database.rows(SESSIONS, "session_id = 'whispered' OR user_id = 'whisperer'")
    assert not [
        row
        for row in database.client.query("SELECT * FROM genapp_records").result_rows
        if "whisper" in str(row)
    ]


def test_ageing_takes_whole_days_from_the_disk(database: Database) -> None:
    """Old calls, the names of sessions that are over and positions long gone go; totals stay."""
    one = database.open_store()
    old = [call(f"old {number}", session_id="old", user_id="u1") for number in range(3)]
    recent = call("recent", session_id="recent", started_at_ns=START_NS + 2 * DAY_NS)
    across = call("across", session_id="recent", user_id="u2")
    one.apply([*old, across, recent], through={"journal-a": 10, "journal-b": 10})
    one.forget(["journal-a"])
    long_ago = int(time.time()) - 30 * 86_400
    database.client.insert(POSITIONS.name, [["journal-c", 10, 0], ["journal-c", 0, long_ago]])
    before = one.totals()
    assert one.tidy(before_ns=START_NS + DAY_NS) == 1
    database.until(lambda: database.rows(CALLS) == 1)
    database.until(lambda: not database.rows(SESSIONS, "session_id = 'old' OR user_id = 'u1'"))
    database.until(lambda: not database.rows(POSITIONS, "segment = 'journal-c'"))
    assert database.rows(RECORDS) == 5
    assert one.positions() == {"journal-b": 10}
    session = one.session("recent")
    assert session is not None
    assert (session.sums.calls, list(session.users), list(session.newest)) == (2, ["u2"], [recent])
    assert (one.totals(), one.session("old"), one.tidy(before_ns=START_NS + DAY_NS)) == (before, None, 0)
    assert database.open_store().apply([*old, across]) == 0


def test_old_calls_are_removed_once(database: Database) -> None:
    """While the server is at it, it is not told to again; and it is told to when more have become old."""
    one = database.open_store()
    one.apply(call(str(number), started_at_ns=START_NS + number * DAY_NS) for number in range(6))
    client = database.client

    def told() -> int:
        [[number]] = client.query(
            "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND table = 'genapp_calls'"
        ).result_rows
        return int(number)

    client.command("SYSTEM STOP MERGES genapp_calls")
    for _ in range(3):
        one.tidy(before_ns=START_NS + DAY_NS)
    assert (told(), database.rows(CALLS)) == (1, 6)
    client.command("SYSTEM START MERGES genapp_calls")
    database.until(lambda: database.rows(CALLS) == 5)
    # Perhaps not yet the first time: rows are gone a moment before the server says that it is done.
    database.until(lambda: one.tidy(before_ns=START_NS + 3 * DAY_NS) == 0 and database.rows(CALLS) == 3)
    assert told() == 2
