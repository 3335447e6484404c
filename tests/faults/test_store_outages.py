"""A store that goes away and comes back: nothing is lost, nothing counts twice, nobody waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from otel_genapp.ledger.clickhouse.schema import POSITIONS
from tests.clickhouse import ClickHouse, Database
from tests.fakes import eventually
from tests.postgres import Postgres, running_postgres
from tests.processes import ROOT
from tests.servers import Servers

pytestmark = [pytest.mark.slow, pytest.mark.expected_own_errors]


@pytest.fixture
def clickhouse(servers: Servers) -> Iterator[Database]:
    with servers.clickhouse().database() as database:
        yield database


@pytest.fixture(params=["postgres", "clickhouse"])
def database(request: pytest.FixtureRequest) -> Iterator[tuple[Postgres | ClickHouse, str]]:
    """A server that can be killed, and the URL of an empty database in it."""
    if request.param == "clickhouse":
        found: Database = request.getfixturevalue("clickhouse")
        yield found.server, found.url
    else:
        with running_postgres() as server:
            yield server, server.url


def call_llm(number: int) -> None:
    for index in range(number):
        with bind(session_id=f"s{index % 3}"), llm_call("gpt-4o", "openai") as call:
            call.usage(input=10, output=5)


def requests_shown(telemetry: Telemetry) -> int:
    """What `/prometheus` says."""
    body, _ = telemetry.exposition()
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in body.decode().splitlines()
        if line.startswith("genapp_llm_requests_total")
    )


def test_a_killed_database_loses_nothing(database: tuple[Postgres | ClickHouse, str]) -> None:
    """Calls made while the server is away are in the journal; after its restart every answer is exact."""
    server, url = database
    with init_telemetry("shop", "prod", internal_auth="t", store=url) as telemetry:
        call_llm(300)
        assert telemetry.totals()["total_requests"] == 300
        for outage in range(1, 4):
            server.kill()
            began_s = time.perf_counter()
            call_llm(300)
            assert requests_shown(telemetry) == 300 + outage * 600 - 300
            assert telemetry.sessions.get("s0") is None  # unknown, and not wrong
            assert time.perf_counter() - began_s < 20
            server.start()
            call_llm(300)
            assert telemetry.totals()["total_requests"] == 300 + outage * 600
        found = [telemetry.sessions.get(f"s{number}") for number in range(3)]
        assert [one and one.as_dict()["total_requests"] for one in found] == [700, 700, 700]
        assert requests_shown(telemetry) == 2100
        assert telemetry.flush()


def test_a_database_that_comes_up_later(tmp_path: Path) -> None:
    """Telemetry starts without its database, and brings everything in when that is there."""
    with running_postgres() as server:
        server.kill()
        with init_telemetry("shop", "prod", internal_auth="t", store=server.url) as telemetry:
            call_llm(30)
            assert telemetry.totals() == {}
            assert telemetry.status()["records_waiting"]
            server.start()
            assert eventually(lambda: telemetry.totals().get("total_requests") == 30)


def test_a_store_without_a_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Telemetry starts, one warning and `status()` name the place and the remedy, and nothing is lost when it is made."""
    folder = tmp_path / "nope"
    says = f"the store {folder}/x.db cannot be opened: there is no directory {folder}; create it, or correct GENAPP_STORE"
    with init_telemetry("shop", "prod", internal_auth="t", store=f"sqlite:///{folder}/x.db") as telemetry:
        for _ in range(2):
            assert [note for note in telemetry.status()["notes"] if note.startswith(says)] != []
            call_llm(3)
            assert telemetry.totals() == {}
        assert [one.levelname for one in caplog.records if one.getMessage().startswith(says)] == ["WARNING"]
        folder.mkdir()
        assert telemetry.totals()["total_requests"] == 6
        assert telemetry.status()["notes"] == []


def test_a_store_that_is_away_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """`status()` and one warning say which store takes no records, without its password."""
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/x"
    with init_telemetry("shop", "prod", internal_auth="t", store=url) as telemetry:
        call_llm(1)
        assert telemetry.totals() == {}
        (note,) = telemetry.status()["notes"]
        assert eventually(lambda: [one.getMessage() for one in caplog.records].count(note) == 1)
    assert note.startswith(
        "the store postgresql+psycopg://127.0.0.1:1/x takes no records (OperationalError): start"
    )
    assert [one.getMessage() for one in caplog.records].count(note) == 1
    assert "hunter2" not in caplog.text + note


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    """A SQLite file that is none any more is kept under another name, and a new one goes on."""
    tmp_path.chmod(0o700)
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database at all" * 1000)
    with init_telemetry("shop", "prod", internal_auth="t", store=f"sqlite:///{path}") as telemetry:
        call_llm(30)
        assert telemetry.totals()["total_requests"] == 30
    aside = [found for found in tmp_path.iterdir() if ".damaged-" in found.name]
    assert [found.read_bytes()[:18] for found in aside] == [b"no database at all"]


class Worker:
    """A process that makes calls for the session `anna` and reads it."""

    def __init__(self, store: str, folder: Path) -> None:
        settings = {
            "GENAPP_STORE": store,
            "GENAPP_APP": "shop",
            "GENAPP_ENV": "prod",
            "GENAPP_STATE_DIR": str(folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.programs.chatting_worker"],
            cwd=ROOT, env={**os.environ, **settings}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def do(self, word: str) -> Any:
        """What it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def requests(self) -> int | None:
        """How many calls the session has, by every sum that tells; None where that is unknown."""
        session = self.do("read")
        if session is None:
            return None
        calls = int(session["total_requests"])
        assert session["successful_requests"] == calls
        assert (session["total_prompt_tokens"], session["total_completion_tokens"]) == (10 * calls, 5 * calls)
        return calls


@contextmanager
def worker(store: str, folder: Path) -> Iterator[Worker]:
    """One that is killed in the end, if it has not ended before."""
    one = Worker(store, folder)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


def test_a_fleet_on_clickhouse_is_exact(clickhouse: Database, tmp_path: Path) -> None:
    """Workers and server are killed, journals read again from the beginning: each call counts once."""
    server, url = clickhouse.server, clickhouse.url
    with worker(url, tmp_path) as first, worker(url, tmp_path) as second:
        assert (first.do("50"), second.do("30")) == ("made", "made")
        assert (first.requests(), second.requests()) == (80, 80)
        server.kill()
        assert (first.do("50"), first.requests()) == ("made", None)
        first.process.kill()
        server.start()
        assert second.requests() == 130
        # As if the server had been killed between the records and how far they go.
        clickhouse.client.command(f"TRUNCATE TABLE {POSITIONS.name}")
        assert (second.do("20"), second.requests()) == ("made", 150)
        server.kill()
        server.start()
        assert second.requests() == 150
        assert (second.do("7"), second.do("stop")) == ("made", True)
    with worker(url, tmp_path) as third:
        assert third.requests() == 157
