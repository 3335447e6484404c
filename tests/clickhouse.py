"""A real ClickHouse engine behind a real socket on loopback, made for the tests and stopped after them."""

from __future__ import annotations

import http.client
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.clickhouse.schema import Table
from tests.processes import ROOT

_DEADLINE_S = 60.0
USER, PASSWORD = "tester", "s/cr:t@"


@dataclass
class Database:
    """A database of its own, for a test."""

    server: ClickHouse
    name: str
    client: Any
    """Looks at the tables."""
    _opened: list[ClickHouseStore] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is, as a store takes it."""
        return self.server.url(self.name)

    def open_store(self) -> ClickHouseStore:
        """Another store on it, as of another process."""
        self._opened.append(ClickHouseStore.open(self.url))
        return self._opened[-1]

    def rows(self, table: Table, where: str = "1") -> int:
        """How many rows there are in a table, copies too."""
        found = self.client.query(f"SELECT count() FROM {table.name} WHERE {where}")  # noqa: S608 - tests' own words
        return int(found.result_rows[0][0])

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the server does by itself."""
        deadline = time.monotonic() + _DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def close(self) -> None:
        """Close the stores."""
        for store in self._opened:
            store.close()


@dataclass
class ClickHouse:
    """A server with its data in a directory of its own; it can be killed and started again."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None
    program: str = "tests.programs.clickhouse_server"

    def url(self, database: str = "default", *, password: str = PASSWORD) -> str:
        """The URL of one of its databases, as a store takes it."""
        return f"clickhouse://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A database of its own, which is dropped afterwards."""
        self.start()
        name = f"t{secrets.token_hex(6)}"
        self._client().command(f"CREATE DATABASE {name}")
        database = Database(self, name, self._client(name))
        yield database
        database.close()
        self.start()
        self._client().command(f"DROP DATABASE {name}")

    def _client(self, database: str = "default") -> Any:
        from clickhouse_connect import get_client

        return get_client(
            host="127.0.0.1", port=self.port, username=USER, password=PASSWORD, database=database,
            autogenerate_session_id=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, if it is not running, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [
            self.program,
            str(self.folder / "data"),
            str(self.port),
            USER,
            PASSWORD,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self._log())
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        process, self._process = self._process, None
        if process is None:
            return
        code = process.poll()
        process.kill()
        process.wait(_DEADLINE_S)
        if code is not None:
            raise AssertionError(f"it had ended with {code}: {self._log()}")

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            with suppress(OSError):
                connection.request("GET", "/ping")
                return connection.getresponse().status == 200
        finally:
            connection.close()
        return False


@contextmanager
def running_clickhouse(program: str = ClickHouse.program) -> Iterator[ClickHouse]:
    """A server of its own; skips where chDB is not installed, and fails there with CI=true."""
    if importlib.util.find_spec("chdb") is None:
        reason = "ClickHouse's engine is not installed: pip install chdb"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="clickhouse"))
    server = ClickHouse(folder, _free_port(), program=program)
    try:
        server.start()
        yield server
    finally:
        try:
            server.kill()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
