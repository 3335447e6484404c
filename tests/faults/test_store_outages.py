"""A store that goes away and comes back: nothing is lost, nothing counts twice, nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from tests.fakes import eventually
from tests.postgres import Postgres, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.expected_own_errors]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


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


def test_a_killed_database_loses_nothing(postgres: Postgres) -> None:
    """Calls made while PostgreSQL is away are in the journal; after its restart every answer is exact."""
    with init_telemetry("shop", "prod", internal_auth="t", store=postgres.url) as telemetry:
        call_llm(300)
        assert telemetry.totals()["total_requests"] == 300
        for outage in range(1, 4):
            postgres.kill()
            began_s = time.perf_counter()
            call_llm(300)
            assert requests_shown(telemetry) == 300 + outage * 600 - 300
            assert telemetry.sessions.get("s0") is None  # unknown, and not wrong
            assert time.perf_counter() - began_s < 20
            postgres.start()
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
