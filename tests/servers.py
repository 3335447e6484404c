"""The databases of a run of the tests."""

from __future__ import annotations

from contextlib import ExitStack

from tests.clickhouse import ClickHouse, running_clickhouse
from tests.postgres import Postgres, running_postgres


class Servers:
    """The servers of a run, each started for the first test that asks for it and stopped by `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._postgres: Postgres | None = None
        self._clickhouse: ClickHouse | None = None

    def postgres(self) -> Postgres:
        """A PostgreSQL, running; skips the test where there is none."""
        if self._postgres is None:
            self._postgres = self._stack.enter_context(running_postgres())
        self._postgres.start()
        return self._postgres

    def clickhouse(self) -> ClickHouse:
        """ClickHouse's engine, running; skips the test where there is none."""
        if self._clickhouse is None:
            self._clickhouse = self._stack.enter_context(running_clickhouse())
        self._clickhouse.start()
        return self._clickhouse
