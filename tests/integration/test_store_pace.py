"""How often a telemetry writes to its store and tidies it: as the store says, and at once for who reads or stops."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.records import Record
from tests.fakes import eventually


class Watched(SQLStore):
    """A store that counts what is asked of it, and is away when it is told to be."""

    wrote: int
    tidied: int
    failed: int
    away: bool

    def apply(self, records: Iterable[Record], **said: Any) -> int:
        if Watched.away:
            Watched.failed += 1
            raise OSError("away")
        Watched.wrote += 1
        return super().apply(records, **said)

    def tidy(self, **said: Any) -> int:
        Watched.tidied += 1
        return super().tidy(**said)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """The store of the telemetries of this test."""
    Watched.wrote = Watched.tidied = Watched.failed = 0
    Watched.away = False
    monkeypatch.setattr("otel_genapp.ledger.sql.SQLStore", Watched)
    return Watched


@pytest.fixture
def telemetry(watched: type[Watched], tmp_path: Path) -> Iterator[Telemetry]:
    """One that has made a first call, which went to the store at once, and has tidied it."""
    with init_telemetry("shop", "prod", internal_auth="t", store=f"sqlite:///{tmp_path}/l.db") as telemetry:
        call_llm(telemetry)
        assert eventually(lambda: (watched.wrote, watched.tidied) == (1, 1))
        yield telemetry


def call_llm(telemetry: Telemetry, number: int = 1) -> None:
    """Make calls, each folded by the pipeline's thread before the next one is made."""
    folds = telemetry._machinery.folds
    for _ in range(number):
        with bind(session_id="anna"), llm_call("gpt-4o", "openai") as call:
            call.usage(input=10, output=5)
        assert eventually(lambda: not folds)


def requests(telemetry: Telemetry) -> int:
    """What the session says."""
    session = telemetry.sessions.get("anna")
    return 0 if session is None else int(session.as_dict()["total_requests"])


def test_without_a_pace_every_batch_is_written(
    telemetry: Telemetry, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that wants no waiting has the records as soon as they are folded."""
    monkeypatch.setattr(watched, "write_every_s", 0.0)
    monkeypatch.setattr(telemetry._machinery.upkeep, "_write_at_s", 0.0)
    for number in range(2, 7):
        call_llm(telemetry)
        assert eventually(lambda number=number: watched.wrote == number)  # type: ignore[misc]


def test_records_gather(
    telemetry: Telemetry, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until who reads, flushes or stops wants them in the store; each of them then writes once."""
    monkeypatch.setattr(telemetry._machinery.upkeep, "_write_at_s", time.monotonic() + 3600)
    call_llm(telemetry, 5)
    assert watched.wrote == 1
    assert (requests(telemetry), watched.wrote) == (6, 2)
    call_llm(telemetry)
    assert (telemetry.flush(), watched.wrote) == (True, 3)
    call_llm(telemetry)
    assert (telemetry.shutdown(), watched.wrote) == (True, 4)


def test_gathered_records_are_written_by_themselves(
    telemetry: Telemetry, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store's time has come, though nothing else happens."""
    monkeypatch.setattr(watched, "write_every_s", 0.2)
    call_llm(telemetry)
    assert eventually(lambda: watched.wrote == 2)
    call_llm(telemetry, 3)
    assert eventually(lambda: watched.wrote == 3)
    assert requests(telemetry) == 5


@pytest.mark.expected_own_errors
def test_a_store_that_was_away_is_written_to_by_itself(
    telemetry: Telemetry, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a record came between the failure and the next try."""
    monkeypatch.setattr(watched, "write_every_s", 0.2)
    watched.away = True
    call_llm(telemetry)
    assert eventually(lambda: watched.failed > 0)
    call_llm(telemetry)
    watched.away = False
    assert eventually(lambda: watched.wrote > 1)
    assert requests(telemetry) == 3


def test_tidying_has_a_pace_of_its_own(
    telemetry: Telemetry, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time at once, then as often as the store says, however often it is written to."""
    call_llm(telemetry, 3)
    assert eventually(lambda: watched.wrote > 1)
    assert watched.tidied == 1
    monkeypatch.setattr(watched, "tidy_every_s", 0.0)
    monkeypatch.setattr(telemetry._machinery.upkeep, "_tidy_at_s", 0.0)
    for number in range(2, 5):
        call_llm(telemetry)
        assert eventually(lambda number=number: watched.tidied >= number)  # type: ignore[misc]


def test_stores_take_their_time() -> None:
    """ClickHouse is written to once a second, and tidied every five minutes; the others sooner."""
    assert (ClickHouseStore.write_every_s, ClickHouseStore.tidy_every_s) == (1.0, 300.0)
    assert (SQLStore.write_every_s, SQLStore.tidy_every_s) == (0.25, 30.0)
