"""What the tests of the store in ClickHouse ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clickhouse import ClickHouse, Database
from tests.servers import Servers


@pytest.fixture
def clickhouse(servers: Servers) -> ClickHouse:
    """The server, running; it may be killed."""
    return servers.clickhouse()


@pytest.fixture
def database(clickhouse: ClickHouse) -> Iterator[Database]:
    """An empty database."""
    with clickhouse.database() as database:
        yield database
