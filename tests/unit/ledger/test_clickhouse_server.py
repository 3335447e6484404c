"""The server of a ClickHouse store: its URL, its going and coming back, and what it takes in meanwhile."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from otel_genapp.errors import ConfigError
from otel_genapp.ledger.clickhouse import ClickHouseStore, server
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.records import LLMCall
from tests.builders import START_NS, call
from tests.clickhouse import ClickHouse


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("clickhouse://u:p@host:81/db", {"interface": "http", "host": "host", "port": 81}),
        ("clickhouse://host", {"port": 8123, "username": "default", "password": "", "database": "default"}),
        ("clickhouse://u%40x:%2F%3A@host/a%60b", {"username": "u@x", "password": "/:", "database": "a`b"}),
        ("clickhouse://[::1]:8123/db", {"host": "::1"}),
        ("clickhouse://host/?secure=true", {"interface": "https", "port": 8443, "verify": True}),
        (
            "clickhouse://host:1/db?secure=true&verify=false&ca_cert=/ca.pem",
            {"port": 1, "verify": False, "ca_cert": "/ca.pem"},
        ),
    ],
)
def test_a_url_says_where_the_server_is(url: str, options: dict[str, object]) -> None:
    """Host, port, user, password, database and TLS are read from it, with ClickHouse's defaults."""
    found = Server(url)._options
    assert {name: found.get(name) for name in options} == options


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse://", "clickhouse:///db", "clickhouse://user:secret@host:port/db", "postgresql://host/db",
        "clickhouse://user:secret@host/db?compress=1", "clickhouse://user:secret@host/db?secure=yes",
        "clickhouse://user:secret@host/db#x", "clickhouse://user:secret@[host/db",
    ],
)  # fmt: skip
def test_urls_that_cannot_work_are_refused(url: str) -> None:
    """The error says what to write, and shows no password."""
    with pytest.raises(ConfigError, match="store m") as found:
        Server(url)
    assert "secret" not in str(found.value)


def test_the_database_is_quoted() -> None:
    """A name with quotes in it stays one name."""
    assert Server("clickhouse://host/a%60b%5C").database == "`a\\`b\\\\`"


def test_a_store_opens_before_its_server_is_there() -> None:
    """Opening asks nobody; a use fails at once where nobody listens, and shows no password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = ClickHouseStore.open(f"clickhouse://user:hidden@127.0.0.1:{port}/db")
    start = time.monotonic()
    with pytest.raises(Exception, match="refused") as found:
        store.apply([call("1")])
    assert time.monotonic() - start < 5
    assert "hidden" not in str(found.value)


def test_failed_requests_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Ours are errors, which are reported once a minute; the application's own are logged as ever."""
    from clickhouse_connect import get_client

    store = ClickHouseStore.open("clickhouse://user@127.0.0.1:1/db")
    with pytest.raises(Exception, match="refused"):
        store.totals()
    assert caplog.messages == []
    with pytest.raises(Exception, match="refused"):
        get_client(host="127.0.0.1", port=1)
    assert "Unexpected Http Driver Exception" in caplog.messages


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up."""
    monkeypatch.setattr(server, "_ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = ClickHouseStore.open(f"clickhouse://user@127.0.0.1:{silent.getsockname()[1]}/db")
        start = time.monotonic()
        with pytest.raises(Exception, match="timed out"):
            store.totals()
        assert time.monotonic() - start < 5


def test_a_wrong_password_is_an_error_every_time(clickhouse: ClickHouse) -> None:
    """It is the server's, and does not show the password."""
    store = ClickHouseStore.open(clickhouse.url(password="hidden"))
    for _ in range(2):
        with pytest.raises(Exception, match="Authentication failed") as found:
            store.apply([call("1")])
        assert "hidden" not in str(found.value)


def test_a_server_that_comes_back(clickhouse: ClickHouse) -> None:
    """While it is gone every use fails; the next one after it came back works, with everything there."""
    with clickhouse.database() as database:
        store = database.open_store()
        store.apply([call("1")], through={"journal-a": 10})
        clickhouse.kill()
        for use in (store.totals, store.positions, lambda: store.apply([call("2")])):
            with pytest.raises(Exception, match="refused"):
                use()
        clickhouse.start()
        assert store.apply([call("1"), call("2")], through={"journal-a": 20}) == 1
        assert (store.totals().overall.calls, store.positions()) == (2, {"journal-a": 20})


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_writes(clickhouse: ClickHouse) -> None:
    """Five times, anywhere: parts that failed are delivered again, and every record is there once."""
    calls = [
        call(f"{number}", session_id=f"s{number % 30}", started_at_ns=START_NS + number * 10**9)
        for number in range(6000)
    ]
    with clickhouse.database() as database:
        store = database.open_store()
        store.prepare()
        failures: list[Exception] = []
        delivering = threading.Thread(target=deliver, args=(store, calls), kwargs={"failures": failures})
        delivering.start()
        for pause_s in (0.31, 0.17, 0.23, 0.41, 0.29):
            time.sleep(pause_s)
            clickhouse.kill()
            clickhouse.start()
        delivering.join()
        assert failures
        assert not [error for error in failures if "DB::Exception" in str(error)]
        assert (store.totals().overall.calls, store.positions()) == (6000, {"journal-a": 6000})
        sessions = [store.session(f"s{number}") for number in range(30)]
        assert [found.sums.calls for found in sessions if found is not None] == [200] * 30
        assert store.sessions(limit=1, cursor=None).total == 30
        history = store.history("s7", limit=1000, cursor=None).calls
        assert sorted(int(one.call_id) for one in history) == list(range(7, 6000, 30))


def deliver(store: ClickHouseStore, calls: list[LLMCall], *, failures: list[Exception]) -> None:
    """Deliver them in parts of 200, each until it is taken."""
    for start in range(0, len(calls), 200):
        while True:
            try:
                store.apply(calls[start : start + 200], through={"journal-a": start + 200})
                break
            except Exception as error:  # noqa: BLE001 - the test looks at what it was
                failures.append(error)
                time.sleep(0.02)
