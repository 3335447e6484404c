"""What the tests of the store in ClickHouse ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clickhouse import ClickHouse, Database, running_clickhouse


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouse]:
    """A server, for all who let it live."""
    with running_clickhouse() as server:
        yield server


@pytest.fixture
def database(clickhouse: ClickHouse) -> Iterator[Database]:
    """An empty database."""
    with clickhouse.database() as database:
        yield database
